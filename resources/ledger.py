"""The ledger: one SQLite file in which all studies on a machine write what they hold and what they want.

There is no daemon. Whoever looks finds out who has died, brings the usage up to date, decides for all
(``decide``) and writes that down, in one transaction: so there is never more given out than there is. A lease dies
with the process that holds it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from velodrome.clock import Clock, SystemClock
from velodrome.errors import StoreError, UsageError
from velodrome.resources import amounts as am
from velodrome.resources.amounts import Amounts
from velodrome.resources.decide import decide
from velodrome.resources.demand import Demand
from velodrome.resources.entry import entry
from velodrome.resources.holder import Holder, Life
from velodrome.resources.ledger_file import explained, open_writable
from velodrome.resources.ledger_place import Place
from velodrome.resources.ledger_rows import Rows, read_rows
from velodrome.resources.settings import Settings, read_settings
from velodrome.resources.state import Lease, Priority, Sharer


@dataclass(frozen=True, slots=True)
class Held:
    """What a study holds.

    Attributes:
        leases: In the order of their tokens.
        waiting: Why there are no more, or ``""``.
        is_contended: Whether anybody waits, so that it may change with time alone.
    """

    leases: tuple[Lease, ...]
    waiting: str = ""
    is_contended: bool = False


class Ledger:
    """An open ledger. Not for several threads, nor for a forked child.

    Args:
        place: Where it is.
        clock: What time it is.

    Raises:
        LedgerError: If it can't be opened.
        UsageError: If the settings beside it are not understood.
    """

    def __init__(self, place: Place, clock: Clock | None = None) -> None:
        self.place, self._clock = place, clock or SystemClock()
        self._settings_stamp: tuple[int, int] | None = None
        self._settings = Settings()
        self._read_settings()
        self._conn, self._lock = open_writable(place)
        self._is_open = True
        self._version: int | None = None
        self._me = Holder.current()

    @property
    def settings(self) -> Settings:
        """The settings beside the ledger, as they are now; the last good ones while somebody edits them."""
        return self._settings

    def join(
        self, tenant: str, study: str, priority: Priority, demand: Demand, view: Amounts, wanted: int
    ) -> tuple[int, Held]:
        """A study comes: its number, and what it gets at once.

        Args:
            tenant: Whose it is.
            study: Its name.
            priority: Its class.
            demand: What each of its slots needs.
            view: What of the machine this process may use.
            wanted: How many slots it can use.
        """
        me, needs, sees = self._me, demand.to_json(), json.dumps(dict(view))
        with self._transaction() as rows:
            cursor = self._conn.execute(
                "INSERT INTO sharers VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?, '')",
                (tenant, study, priority, me.pid, me.started, me.space, needs, sees, rows.now, rows.now),
            )
            id_ = int(cursor.lastrowid or 0)
            self._conn.execute("INSERT OR IGNORE INTO tenants VALUES (?, 0, ?)", (tenant, rows.now))
            rows.sharers[id_] = Sharer(id_, tenant, study, priority, demand, view, 0, rows.now)
            rows.holders[id_] = me
            rows.tenants.setdefault(tenant, self._settings.tenant(tenant))
            self._want(rows, id_, wanted)
            return id_, self._decide(rows, id_)

    def update(self, sharer: int, wanted: int) -> Held | None:
        """Says what a study wants now; returns what it holds, or None where the ledger does not know it (any more)."""
        with self._transaction() as rows:
            if sharer not in rows.sharers:
                return None
            self._want(rows, sharer, wanted)
            return self._decide(rows, sharer)

    def reshape(self, sharer: int, demand: Demand, wanted: int) -> Held | None:
        """A study's slots need something else from now on. A lease that needs less is less at once; others stay.

        Returns:
            What it holds now, as ``update`` does.
        """
        with self._transaction() as rows:
            if sharer not in rows.sharers:
                return None
            rows.touch(sharer)
            rows.sharers[sharer] = replace(rows.sharers[sharer], demand=demand)
            self._conn.execute("UPDATE sharers SET demand = ? WHERE id = ?", (demand.to_json(), sharer))
            for lease in [lease for lease in rows.leases.values() if lease.sharer == sharer]:
                amounts = demand.on(am.gpus_in(lease.amounts))
                if am.fit(amounts, lease.amounts):
                    rows.leases[lease.token] = replace(lease, amounts=amounts)
                    self._conn.execute(
                        "UPDATE leases SET amounts = ? WHERE token = ?", (json.dumps(amounts), lease.token)
                    )
            self._want(rows, sharer, wanted)
            return self._decide(rows, sharer)

    def release(self, sharer: int, token: int) -> Held | None:
        """A study gives a lease back; one that it does not hold (any more) is left alone.

        Returns:
            What it holds now, as ``update`` does.
        """
        with self._transaction() as rows:
            if sharer not in rows.sharers:
                return None
            lease = rows.leases.get(token)
            if lease is not None and lease.sharer == sharer:
                self._drop_lease(rows, lease)
            return self._decide(rows, sharer)

    def leave(self, sharer: int) -> None:
        """A study ends: what it held goes to the others at once."""
        with self._transaction() as rows:
            if sharer in rows.sharers:
                self._drop_sharer(rows, sharer)
                self._decide(rows, sharer)

    def rename(self, sharer: int, study: str) -> None:
        """The study has got its name."""
        with self._errors("writing"), self._lock:
            self._conn.execute("UPDATE sharers SET study = ? WHERE id = ?", (study, sharer))

    def has_changed(self) -> bool:
        """Whether another process has written since this one last asked. Costs microseconds."""
        with self._errors("reading it"):
            (version,) = self._conn.execute("PRAGMA data_version").fetchone()
        changed, self._version = version != self._version, version
        return bool(changed)

    def leased_gpus(self) -> list[str]:
        """The UUIDs of the GPUs that somebody holds a part of."""
        with self._errors("reading it"):
            found = self._conn.execute("SELECT DISTINCT amounts FROM leases").fetchall()
        return am.gpus_in(am.total(json.loads(text) for (text,) in found))

    def has_others(self, sharer: int) -> bool:
        """Whether another study holds anything."""
        with self._errors("reading it"):
            row = self._conn.execute("SELECT EXISTS (SELECT 1 FROM leases WHERE sharer != ?)", (sharer,)).fetchone()
        return bool(row[0])

    # --- measured peaks of GPU memory

    def note_peak(self, kind: str, bytes_: int) -> None:
        """Takes note of what a trial of a kind used at most."""
        with self._errors("writing"), self._lock:
            self._conn.execute(
                "INSERT INTO peaks VALUES (?, ?, 1, ?) ON CONFLICT (kind) DO UPDATE SET "
                "bytes = max(bytes, excluded.bytes), trials = trials + 1, at = excluded.at",
                (kind, bytes_, self._clock.now()),
            )

    def close(self) -> None:
        """Closes the file. A second call does nothing."""
        if self._is_open:
            self._is_open = False
            with self._errors("closing it"), self._lock:
                self._conn.close()
            self._lock.close()

    # --- a transaction

    @contextmanager
    def _transaction(self) -> Iterator[Rows]:
        """Everything as it is now: the dead are gone, usage is decayed to this moment."""
        self._read_settings()
        with self._errors("writing"), self._lock:
            self._conn.execute("BEGIN IMMEDIATE")
            try:
                rows = read_rows(self._conn, self._clock.now(), self._settings)
                for id_, holder in list(rows.holders.items()):
                    if holder != self._me and (life := holder.life()) is not Life.RUNNING:
                        if life is Life.GONE:
                            self._drop_sharer(rows, id_)
                        else:
                            rows.sharers[id_] = replace(rows.sharers[id_], is_stopped=True)
                yield rows
                self._write_usage(rows)
                self._conn.execute("COMMIT")
            except BaseException:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                raise

    def _want(self, rows: Rows, id_: int, wanted: int) -> None:
        """A study says what it wants. Whoever was content until now pays for entering (``entry``)."""
        sharer = rows.sharers[id_]
        if wanted == sharer.wanted:
            return
        paid = entry(rows.state(), id_, wanted)
        if paid.of_tenant is not None:
            rows.tenants[sharer.tenant] = replace(rows.tenants[sharer.tenant], usage=paid.of_tenant)
            rows.touched_tenants[sharer.tenant] = None
        if paid.of_sharer is not None:
            sharer = replace(sharer, usage=paid.of_sharer, since=rows.now)
            rows.touched_sharers[id_] = None
        rows.sharers[id_] = replace(sharer, wanted=wanted)
        self._conn.execute("UPDATE sharers SET wanted = ?, since = ? WHERE id = ?", (wanted, sharer.since, id_))

    def _decide(self, rows: Rows, id_: int) -> Held:
        """Decides for all, writes it down, and returns what the study holds."""
        state = rows.state()
        decision = decide(state)
        for sharer, amounts in decision.grants:
            cursor = self._conn.execute(
                "INSERT INTO leases VALUES (NULL, ?, ?, ?, NULL, '')", (sharer, json.dumps(dict(amounts)), rows.now)
            )
            token = int(cursor.lastrowid or 0)
            rows.leases[token] = Lease(token, sharer, amounts, rows.now)
            rows.touch(sharer)
        for preemption in decision.take_back:
            lease = preemption.lease
            by = rows.now + state.rules.grace_s
            rows.leases[lease.token] = replace(lease, back_by=by, back_reason=preemption.reason)
            self._conn.execute(
                "UPDATE leases SET back_by = ?, back_reason = ? WHERE token = ?", (by, preemption.reason, lease.token)
            )
        for token in decision.leave:
            rows.leases[token] = replace(rows.leases[token], back_by=None, back_reason="")
            self._conn.execute("UPDATE leases SET back_by = NULL, back_reason = '' WHERE token = ?", (token,))
        for sharer in rows.sharers:
            reason = decision.waiting.get(sharer, "")
            if reason != rows.waiting.get(sharer, ""):
                self._conn.execute("UPDATE sharers SET waiting = ? WHERE id = ?", (reason, sharer))
        mine = tuple(lease for lease in rows.leases.values() if lease.sharer == id_)
        return Held(mine, decision.waiting.get(id_, ""), bool(decision.waiting))

    def _drop_lease(self, rows: Rows, lease: Lease) -> None:
        self._conn.execute("DELETE FROM leases WHERE token = ?", (lease.token,))
        rows.touch(lease.sharer)
        del rows.leases[lease.token]

    def _drop_sharer(self, rows: Rows, id_: int) -> None:
        for lease in [lease for lease in rows.leases.values() if lease.sharer == id_]:
            self._drop_lease(rows, lease)
        self._conn.execute("DELETE FROM sharers WHERE id = ?", (id_,))
        rows.forget(id_)

    def _write_usage(self, rows: Rows) -> None:
        """Writes the usage of those whose share changes with this transaction; the others' can be worked out later."""
        self._conn.executemany(
            "UPDATE tenants SET usage = ?, usage_at = ? WHERE name = ?",
            [(rows.tenants[name].usage, rows.now, name) for name in rows.touched_tenants],
        )
        self._conn.executemany(
            "UPDATE sharers SET usage = ?, usage_at = ? WHERE id = ?",
            [(rows.sharers[id_].usage, rows.now, id_) for id_ in rows.touched_sharers if id_ in rows.sharers],
        )

    def _read_settings(self) -> None:
        """Reads the settings again where the file has changed. A bad file counts only when the ledger is opened."""
        path = self.place.settings
        try:
            stat = path.stat()
            stamp = stat.st_mtime_ns, stat.st_size
        except OSError:
            stamp = (0, 0)
        if stamp == self._settings_stamp:
            return
        try:
            self._settings = read_settings(path)
        except UsageError:
            if self._settings_stamp is None:
                raise
        self._settings_stamp = stamp

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, StoreError, OSError) as error:
            raise explained(error, self.place.path, doing) from error
