"""Any question in SQL, with no way to change anything: read-only file, read-only connection, and an authorizer."""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from velodrome.errors import StoreError, UsageError, nearest
from velodrome.store.connect import open_readonly
from velodrome.store.faults import store_error

_READS = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})
_DESCRIBING_PRAGMAS = frozenset({
    "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
    "function_list", "compile_options", "user_version", "application_id",
})
_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
_COLUMNS = "SELECT name FROM pragma_table_info(?)"
_AT_ONCE = 50_000
"""So many rows are fetched before the first is handed out: most answers are then complete, and hold nothing open."""
_STEPS_BETWEEN_LOOKS = 100_000
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_CANTOPEN")


def ask(
    path: Path, sql: str, parameters: Sequence[Any] | Mapping[str, Any], time_limit_s: float | None
) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """The columns and rows of an answer (see ``Reader.query``), over a connection of its own.

    Raises:
        UsageError: If the question is wrong, would change something, or takes too long.
        StoreError: If the store can't be read.
    """
    conn = open_readonly(path)
    try:
        conn.set_authorizer(_authorize)
        if time_limit_s is not None:
            deadline = time.monotonic() + time_limit_s
            conn.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        cursor = conn.execute(sql, parameters)
        if cursor.description is None:
            raise _not_a_question(sql)
        columns = [column[0] for column in cursor.description]
        rows = cursor.fetchmany(_AT_ONCE)
    except BaseException as error:
        mended = _explained(error, conn, path, sql)
        conn.close()
        raise mended from (None if mended is error else error)
    if len(rows) < _AT_ONCE:
        conn.close()
        return columns, iter(rows)
    return columns, itertools.chain(rows, _rest(conn, cursor, path, sql))


def _rest(conn: sqlite3.Connection, cursor: sqlite3.Cursor, path: Path, sql: str) -> Iterator[tuple[Any, ...]]:
    try:
        yield from cursor
    except sqlite3.Error as error:
        raise _explained(error, conn, path, sql) from error
    finally:
        conn.close()


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _view: str | None) -> int:
    if action == sqlite3.SQLITE_UPDATE and first in ("sqlite_master", "sqlite_schema"):
        return sqlite3.SQLITE_OK  # SQLite asks so for json_each and its like; nobody can change these tables
    if action in _READS and not (action == sqlite3.SQLITE_FUNCTION and second == "load_extension"):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first is not None and first.lower() in _DESCRIBING_PRAGMAS:
        takes_name = first.lower() not in ("user_version", "application_id")
        return sqlite3.SQLITE_OK if takes_name or second is None else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY


def _explained(error: BaseException, conn: sqlite3.Connection, path: Path, sql: str) -> BaseException:
    """The error that the user should see."""
    message, name = str(error), getattr(error, "sqlite_errorname", "")
    if not isinstance(error, sqlite3.Error | sqlite3.Warning):
        return error
    if name in ("SQLITE_AUTH", "SQLITE_READONLY") or "not authorized" in message or "prohibited" in message:
        return _not_a_question(sql)
    if name == "SQLITE_INTERRUPT":
        return UsageError("The question took too long", given=sql, hint="ask for less, or allow it more time")
    if "one statement at a time" in message:
        return UsageError("There is more than one statement", given=sql, allowed="one SELECT")
    if name.startswith(_DAMAGE) and isinstance(error, sqlite3.Error):
        return store_error(error, path, "answering a question")
    return UsageError(f"SQLite does not understand the question: {message}", given=sql, **_help(message, conn, sql))


def _not_a_question(sql: str) -> UsageError:
    return UsageError(
        "A query can only read", given=sql.strip() or "nothing", allowed="one SELECT",
        hint="velo query \"select * from leaderboard limit 10\"",
    )


def _help(message: str, conn: sqlite3.Connection, sql: str) -> dict[str, str]:
    """What is there instead of a table or column that is not, and the nearest of it; or which name needs quotes."""
    missing = re.match(r"no such (table|column): (.+)", message)
    conn.set_authorizer(None)
    conn.set_progress_handler(None, 0)
    try:
        options = [name for (name,) in conn.execute(_TABLES)]
        bare = [name for name in options if _stands_bare(name, sql)]
        if bare:
            return {"hint": f"that name needs quotes: velo query 'select * from \"{bare[0]}\"'"}
        if not missing:
            return {"hint": "the tables and views are described in docs/store.md; or: velo query \"pragma table_list\""}
        if missing[1] == "column":
            columns = {table: [name for (name,) in conn.execute(_COLUMNS, (table,))] for table in options}
    except (sqlite3.Error, StoreError):
        return {}
    wanted = missing[2].rpartition(".")[2].strip('"')
    if missing[1] == "table":
        return {"allowed": ", ".join(options), "hint": nearest(wanted, options)}
    asked = [table for table in options if re.search(rf"(?<!\w){re.escape(table)}(?!\w)", sql)] or options
    there = sorted({name for table in asked for name in columns[table]})
    elsewhere = [table for table in options if wanted in columns[table]]
    hint = f"{wanted} is a column of {', '.join(elsewhere[:3])}" if elsewhere else nearest(wanted, there)
    return {"allowed": ", ".join(there), "hint": hint}


def _stands_bare(name: str, sql: str) -> bool:
    """Whether a name that SQL takes only in quotes is there without."""
    return not name.isidentifier() and bool(re.search(rf'(?<![\w"`\[]){re.escape(name)}(?![\w"`-])', sql))
