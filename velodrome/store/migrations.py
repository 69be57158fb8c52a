"""The steps that make the schema, oldest first. A step that was released is never edited: a new one is added.

Each step gets a ``sqlite_utils.Database`` inside one transaction that covers all steps. The tables are written as SQL
and not with ``Table.create``: most are ``WITHOUT ROWID`` or have a column without a type; and SQLite keeps the
comments, so that ``.schema`` in any SQLite shell explains the store. Views are not made here but in ``views.py``: they
hold no data and are made anew after every migration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

    Migration = Callable[[Database], None]

DECISION_COLUMNS = ("study_id", "seq", "trial_id", "at", "decided_by", "action", "reason")
"""Those of ``records.DecisionRow``; ``by`` is a word of SQL's own."""
ARTIFACT_COLUMNS = ("trial_id", "kind", "attempt", "path", "start_byte", "end_byte")
"""Those of ``records.ArtifactRow``; ``end`` is a word of SQL's own."""

_TABLES = (
    """
CREATE TABLE studies (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  state TEXT NOT NULL,             -- running, stopped, finished, failed
  goal TEXT NOT NULL,              -- 'maximize accuracy, minimize params'
  seed INTEGER NOT NULL,
  trials INTEGER NOT NULL,         -- how many finished trials were asked for
  sampler TEXT NOT NULL,
  scheduler TEXT NOT NULL,
  space TEXT NOT NULL,             -- JSON
  objective TEXT NOT NULL,         -- path.py:name, module:name, or a description
  config TEXT NOT NULL,            -- every other option, as JSON
  created_at REAL NOT NULL,        -- seconds since the epoch, as every column that ends in at
  owner_host TEXT NOT NULL,        -- the process that runs the study; '' where none does
  owner_pid INTEGER NOT NULL,
  owner_started_at REAL NOT NULL,
  note TEXT NOT NULL               -- why the study is in its state
)""",
    """
CREATE TABLE trials (
  id INTEGER PRIMARY KEY,          -- study_id * 1000000000 + number
  study_id INTEGER NOT NULL REFERENCES studies(id),
  number INTEGER NOT NULL,         -- from 0, without gaps
  state TEXT NOT NULL,             -- waiting, running, paused, completed, pruned, failed
  attempt INTEGER NOT NULL,        -- how often it was started
  value REAL,                      -- the goal's first metric
  score REAL,                      -- value, turned so that lower is better; NULL for NaN
  metrics TEXT NOT NULL,           -- the final metrics as JSON; null is NaN
  seed INTEGER NOT NULL,
  worker TEXT NOT NULL,
  device TEXT NOT NULL,
  created_at REAL NOT NULL,
  started_at REAL,
  finished_at REAL,
  failure_class TEXT,              -- user, oom, diverged, lost
  failure TEXT,                    -- JSON
  reason TEXT                      -- why it was pruned or retried
)""",
    """
CREATE TABLE params (
  trial_id INTEGER NOT NULL REFERENCES trials(id),
  name TEXT NOT NULL,              -- a parameter inside a choice is choice.child
  value,                           -- as given: INTEGER, REAL, TEXT or NULL; true is 1, false is 0
  is_bool INTEGER NOT NULL,        -- 1 where the value is true or false
  PRIMARY KEY (trial_id, name)
) WITHOUT ROWID""",
    """
CREATE TABLE metrics (
  trial_id INTEGER NOT NULL REFERENCES trials(id),
  name TEXT NOT NULL,
  step INTEGER NOT NULL,
  value REAL,                      -- NULL is NaN
  seq INTEGER NOT NULL,            -- the report's place in the study's log
  at REAL NOT NULL,
  PRIMARY KEY (trial_id, name, step)
) WITHOUT ROWID""",
    """
CREATE TABLE events (
  study_id INTEGER NOT NULL REFERENCES studies(id),
  seq INTEGER NOT NULL,            -- from 1; the numbers that are missing are reports, in metrics
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  number INTEGER,                  -- the trial's number
  data TEXT NOT NULL,              -- the rest of the event as a JSON array; null is NaN
  PRIMARY KEY (study_id, seq)
) WITHOUT ROWID""",
    """
CREATE TABLE decisions (
  id INTEGER PRIMARY KEY,
  study_id INTEGER NOT NULL REFERENCES studies(id),
  seq INTEGER NOT NULL,            -- the event that led to it
  trial_id INTEGER REFERENCES trials(id),
  at REAL NOT NULL,
  decided_by TEXT NOT NULL,        -- scheduler, sampler, resources, manager
  action TEXT NOT NULL,
  reason TEXT NOT NULL
)""",
    """
CREATE TABLE artifacts (
  trial_id INTEGER NOT NULL REFERENCES trials(id),
  kind TEXT NOT NULL,              -- log: what the trial printed
  attempt INTEGER NOT NULL,
  path TEXT NOT NULL,              -- relative to the store's folder
  start_byte INTEGER NOT NULL,     -- where the trial's part of the file begins
  end_byte INTEGER NOT NULL,       -- one past its last byte; -1 while it is being written
  PRIMARY KEY (trial_id, kind, attempt, path)
) WITHOUT ROWID""",
    """
CREATE TABLE checkpoints (
  trial_id INTEGER NOT NULL REFERENCES trials(id),
  step INTEGER NOT NULL,
  path TEXT NOT NULL,              -- relative to the store's folder
  sha256 TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_at REAL NOT NULL,
  PRIMARY KEY (trial_id, step)
) WITHOUT ROWID""",
    """
CREATE TABLE attrs (
  trial_id INTEGER NOT NULL REFERENCES trials(id),
  name TEXT NOT NULL,
  value TEXT NOT NULL,             -- JSON
  PRIMARY KEY (trial_id, name)
) WITHOUT ROWID""",
)
_INDEXES = (
    "CREATE UNIQUE INDEX studies_name ON studies(name COLLATE NOCASE)",
    "CREATE INDEX trials_best ON trials(study_id, state, score)",
    "CREATE INDEX decisions_trial ON decisions(study_id, trial_id)",
)


def make_tables(db: Database) -> None:
    """Version 1."""
    for sql in _TABLES + _INDEXES:
        db.execute(sql.strip())


MIGRATIONS: Sequence[Migration] = (make_tables,)
"""Step ``i`` takes a store from version ``i`` to ``i + 1``."""
