"""Making studies and taking control of them: what must be agreed on between processes."""

from __future__ import annotations

import sqlite3

from velodrome.errors import NotFoundError, StudyBusyError, StudyExistsError, UsageError, nearest
from velodrome.owner import Owner
from velodrome.records import StudyRow

COLUMNS = ", ".join(StudyRow._fields)
_MAX_NAME = 200


def check_name(name: str) -> None:
    """Refuses a name that can't name a study's view, or can't be typed.

    Raises:
        UsageError: If it is empty, too long, or has characters that don't show.
    """
    if not name.strip() or len(name) > _MAX_NAME or not name.isprintable():
        raise UsageError(
            "A study's name does not do", given=repr(name), allowed=f"1 to {_MAX_NAME} characters that can be printed"
        )


def insert(conn: sqlite3.Connection, row: StudyRow) -> int:
    """Adds a study and returns its id; the row's own id is not looked at.

    Raises:
        StudyExistsError: If there is one of that name (``A`` and ``a`` are one name).
    """
    if find(conn, row.name) is not None:
        raise StudyExistsError(
            "There is a study of that name already", given=repr(row.name), allowed="a new name",
            hint=f"go on with it: velo resume {row.name}; or start another: velo sweep FILE --name ANOTHER",
        )
    marks = ", ".join("?" * (len(row) - 1))
    sql = f"INSERT INTO studies ({', '.join(StudyRow._fields[1:])}) VALUES ({marks})"
    study_id = conn.execute(sql, row[1:]).lastrowid
    assert study_id is not None
    return study_id


def find(conn: sqlite3.Connection, name: str) -> StudyRow | None:
    """The study of that name, or None."""
    row = conn.execute(f"SELECT {COLUMNS} FROM studies WHERE name = ? COLLATE NOCASE", (name,)).fetchone()
    return None if row is None else StudyRow._make(row)


def get(conn: sqlite3.Connection, name: str) -> StudyRow:
    """The study of that name.

    Raises:
        NotFoundError: If there is none; it names the nearest.
    """
    row = find(conn, name)
    if row is None:
        names = [other for (other,) in conn.execute("SELECT name FROM studies ORDER BY id")]
        raise NotFoundError(
            "There is no study of that name", given=repr(name),
            hint=nearest(name, names) or ("velo ls shows them all" if names else "the store has no study yet"),
        )
    return row


def claim(conn: sqlite3.Connection, name: str, owner: Owner, *, force: bool) -> StudyRow:
    """Makes a process the owner of a study, and returns the study as it then is.

    Raises:
        NotFoundError: If there is no study of that name.
        StudyBusyError: If another process owns it and runs, or runs on another host for all that can be seen from
            here. ``force`` takes it from another host, never from a process that is seen to run.
    """
    row = get(conn, name)
    holder = Owner(row.owner_host, row.owner_pid, row.owner_started_at)
    taken_over = force and not holder.is_here
    if row.owner_pid and holder != owner and not taken_over and holder.is_alive:
        raise StudyBusyError(
            f"Study {row.name!r} is run by another process", given=f"process {holder.pid} on {holder.host}",
            allowed="one process at a time",
            hint=f"velo stop {row.name}" if holder.is_here
            else f"velo stop {row.name} on {holder.host}; if that host is gone: velo resume {row.name} --take-over",
        )
    claimed = row._replace(
        state="running", owner_host=owner.host, owner_pid=owner.pid, owner_started_at=owner.started_at, note=""
    )
    conn.execute(
        "UPDATE studies SET state = ?, owner_host = ?, owner_pid = ?, owner_started_at = ?, note = ? WHERE id = ?",
        (claimed.state, owner.host, owner.pid, owner.started_at, claimed.note, row.id),
    )
    return claimed
