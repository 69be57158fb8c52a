"""Any sequence of buffered rows, commits and reopenings leaves the store equal to plain dicts and lists."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from velodrome.errors import StoreError
from velodrome.records import (
    ArtifactRow,
    CheckpointRow,
    DecisionRow,
    EventRow,
    MetricRow,
    StudyRow,
    TrialRow,
    trial_id,
)
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer

_numbers = st.integers(0, 3)
_names = st.sampled_from(["a", "b", "ä 'x'"])
_floats = st.floats(allow_nan=False)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), _floats, st.text("ab1.é\0", max_size=4)
)
_STATES = ("waiting", "running", "completed", "pruned", "failed")


class Store(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "r.db"
        self.writer = Writer(self.path)
        self.study = self.writer.create_study(
            StudyRow(0, "s", "stopped", "minimize a", 1, 1, "random", "none", "{}", "f", "{}", 1.0)
        )
        self.seq = 0
        self.ahead: dict[str, dict] = {
            "trials": {}, "params": {}, "metrics": {}, "events": {}, "decisions": {}, "artifacts": {}, "attrs": {},
            "checkpoints": {},
        }
        self.stored = {table: dict(rows) for table, rows in self.ahead.items()}

    def teardown(self) -> None:
        self.writer.close()
        self.folder.cleanup()

    @rule(number=_numbers, state=st.sampled_from(_STATES), value=st.none() | _floats)
    def trial(self, number, state, value):
        row = TrialRow(trial_id(self.study, number), self.study, number, state, 1, value, value, "{}", 1, "w", "cpu",
                       1.0, None, None, None, None, None)
        self.writer.trial(row)
        self.ahead["trials"][row.id] = row

    @rule(number=_numbers, params=st.dictionaries(_names, _scalars, max_size=3))
    def params(self, number, params):
        self.writer.params(trial_id(self.study, number), params)
        for name, value in params.items():
            self.ahead["params"][trial_id(self.study, number), name] = (type(value), value)

    @rule(number=_numbers, step=st.integers(0, 3), metrics=st.dictionaries(_names, _floats, min_size=1))
    def report(self, number, step, metrics):
        self.seq += 1
        key = trial_id(self.study, number)
        rows = [MetricRow(key, name, step, value, self.seq, 0.5) for name, value in metrics.items()]
        self.writer.metrics(rows)
        self.ahead["metrics"] |= {(key, row.name, step): row for row in rows}

    @rule(number=_numbers, after_step=st.none() | st.integers(0, 3))
    def forget(self, number, after_step):
        key = trial_id(self.study, number)
        self.writer.forget_metrics(key, after_step)
        self.ahead["metrics"] = {
            k: row for k, row in self.ahead["metrics"].items()
            if k[0] != key or (after_step is not None and row.step <= after_step)
        }

    @rule(number=_numbers, step=st.integers(0, 3), name=_names)
    def checkpoint(self, number, step, name):
        """As the controller does it: one that is replaced is discarded at once."""
        row = CheckpointRow(trial_id(self.study, number), step, f"{step}{name}", "sha", 10, 1.0)
        before = self.ahead["checkpoints"].get(row[:2], row)
        self.writer.checkpoint(row)
        self.ahead["checkpoints"][row[:2]] = row
        if before.path != row.path:
            self.writer.discard_checkpoint(row.trial_id, before.path)

    @rule(number=_numbers, step=st.integers(0, 3))
    def discard_checkpoint(self, number, step):
        row = self.ahead["checkpoints"].pop((trial_id(self.study, number), step), None)
        if row is not None:
            self.writer.discard_checkpoint(row.trial_id, row.path)

    @rule(number=st.none() | _numbers, data=st.sampled_from(["[]", '["x"]']))
    def event(self, number, data):
        self.seq += 1
        row = EventRow(self.study, self.seq, 1.0, "launched", number, data)
        self.writer.event(row)
        self.ahead["events"][self.seq] = row

    @rule(number=st.none() | _numbers)
    def decision(self, number):
        key = None if number is None else trial_id(self.study, number)
        row = DecisionRow(self.study, self.seq, key, 1.0, "m", "a", "r")
        self.writer.decision(row)
        self.ahead["decisions"][len(self.ahead["decisions"])] = row

    @rule(number=_numbers, attempt=st.integers(1, 2), end=st.integers(-1, 5))
    def artifact(self, number, attempt, end):
        row = ArtifactRow(trial_id(self.study, number), "log", attempt, "p", 0, end)
        self.writer.artifact(row)
        self.ahead["artifacts"][row[:4]] = row

    @rule(number=_numbers, name=_names, value=st.sampled_from(["1", '"x"']))
    def attr(self, number, name, value):
        self.writer.attr(trial_id(self.study, number), name, value)
        self.ahead["attrs"][trial_id(self.study, number), name] = value

    @rule(durable=st.booleans())
    def commit(self, durable):
        self.writer.commit(durable=durable)
        self.stored = {table: dict(rows) for table, rows in self.ahead.items()}

    @rule(steps=st.integers(1, 400))
    def commit_cut_short(self, steps):
        """SQLite gives up after so many of its own steps, wherever that is; a short commit may be through by then."""
        self.writer._conn.set_progress_handler(lambda: 1, steps)
        try:
            self.commit(durable=False)
        except StoreError:
            assert self.writer.pending
        finally:
            self.writer._conn.set_progress_handler(None, 0)

    @rule()
    def close_and_open(self):
        self.writer.commit(durable=True)
        self.stored = {table: dict(rows) for table, rows in self.ahead.items()}
        self.writer.close()
        self.writer = Writer(self.path)

    @invariant()
    def store_equals_model(self):
        stored = self.stored
        with Reader(self.path) as reader:
            assert reader.trials(self.study) == [stored["trials"][key] for key in sorted(stored["trials"])]
            assert list(reader.events(self.study)) == list(stored["events"].values())
            rows = [stored["checkpoints"][key] for key in sorted(stored["checkpoints"])]
            assert reader.all_checkpoints(self.study) == rows
            assert reader.decisions(self.study) == list(stored["decisions"].values())
            for number in range(4):
                key = trial_id(self.study, number)
                params = {name: (type(value), value) for name, value in reader.params(key).items()}
                assert params == {name: value for (k, name), value in stored["params"].items() if k == key}
                metrics = {row[:3]: row for row in reader.metrics(key)}
                assert metrics == {k: row for k, row in stored["metrics"].items() if k[0] == key}
                artifacts = {row[:4]: row for row in reader.artifacts(key)}
                assert artifacts == {k: row for k, row in stored["artifacts"].items() if k[0] == key}
                assert reader.attrs(key) == {name: value for (k, name), value in stored["attrs"].items() if k == key}


Store.TestCase.settings = settings(
    max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = Store.TestCase
