"""The version of a store's file: which one it is, and how an older file is brought up to this one.

``PRAGMA application_id`` says that a file is a velodrome store, ``PRAGMA user_version`` which version of the schema.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from velodrome.errors import StoreError
from velodrome.store.migrations import MIGRATIONS

if TYPE_CHECKING:
    from velodrome.store.migrations import Migration

APPLICATION_ID = 0x56454C4F
"""``VELO`` in ASCII."""
VERSION = len(MIGRATIONS)


class Stamp(NamedTuple):
    """What a database says of itself."""

    application_id: int
    version: int
    is_empty: bool
    """Whether it has no tables at all."""


def read_stamp(conn: sqlite3.Connection) -> Stamp:
    """The stamp of an open database."""
    (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    (version,) = conn.execute("PRAGMA user_version").fetchone()
    (has_tables,) = conn.execute("SELECT EXISTS (SELECT 1 FROM sqlite_master)").fetchone()
    return Stamp(application_id, version, not has_tables)


def check_stamp(stamp: Stamp, path: Path) -> None:
    """Refuses a database that is no store, or that a newer velodrome wrote. An empty one passes.

    Raises:
        StoreError: If the file must not be touched.
    """
    if stamp.application_id != APPLICATION_ID and not (stamp.is_empty and stamp.application_id == 0):
        raise StoreError(
            "That SQLite file is not a velodrome store", given=str(path),
            allowed="a store that velodrome made, or a new file", hint="name another file with --store",
        )
    if stamp.version > VERSION:
        raise StoreError(
            "The store was written by a newer version of velodrome", given=f"{path} (schema version {stamp.version})",
            allowed=f"schema version {VERSION} or older",
            hint="pip install --upgrade velodrome, or name another file with --store; this one was not touched",
        )


def migrate(conn: sqlite3.Connection, migrations: Sequence[Migration] | None = None) -> None:
    """Brings a store, or an empty database, to the newest version, in one transaction: all steps or none.

    Args:
        conn: A connection in autocommit mode (``isolation_level=None``) with no transaction open.
        migrations: Every step from the first version on; ``MIGRATIONS`` where None.
    """
    from sqlite_utils import Database

    from velodrome.store.views import make_views

    migrations = MIGRATIONS if migrations is None else migrations
    conn.execute("BEGIN IMMEDIATE")
    try:
        db = Database(conn, recursive_triggers=False, execute_plugins=False)
        for step in migrations[read_stamp(conn).version:]:
            step(db)
        make_views(db)
        conn.execute(f"PRAGMA user_version = {len(migrations)}")
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
