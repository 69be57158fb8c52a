"""A study's share: leases as slots, GPUs that are seen to be free, a ledger that fails, a study inside a trial."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from velodrome.clock import FakeClock
from velodrome.errors import LedgerError, UsageError
from velodrome.resources.allocator import plan
from velodrome.resources.gpus import Gpu
from velodrome.resources.holder import Holder, Life
from velodrome.resources.inventory import Inventory
from velodrome.resources.ledger import Ledger
from velodrome.resources.ledger_place import Place
from velodrome.resources.nested import VARIABLE, inherited
from velodrome.resources.opening import Machine, find_machine, open_share
from velodrome.resources.request import ResourceRequest
from velodrome.resources.share import WholeShare
from velodrome.resources.slots import Slot
from velodrome.resources.state import Priority
from velodrome.resources.tenancy import Applicant, LedgerShare, tenant_of_this_process
from velodrome.trials.leased_share import LeasedShare

GIB = 1 << 30
CPUS = Inventory(2, 8 * GIB, 8 * GIB)
GPUS = replace(CPUS, cpus=8, gpus=tuple(Gpu(i, f"GPU-{i}", "Card", 16 * GIB, 16 * GIB) for i in range(2)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "ledger.db", True, "test")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(1_000_000.0)


class Shares:
    """Opens shares of one ledger and closes them all."""

    def __init__(self, place: Place, clock: FakeClock) -> None:
        self._place, self._clock = place, clock
        self.opened: list[LedgerShare] = []
        self.free_bytes = {"GPU-0": 16 * GIB, "GPU-1": 16 * GIB}

    def open(
        self, tenant: str, workers: int, request: str = "", inventory: Inventory = CPUS,
        gpu_peak_bytes: int | None = None,
    ) -> LedgerShare:
        share = LedgerShare(
            Ledger(self._place, self._clock), Applicant(
                tenant, "study", Priority.NORMAL, ResourceRequest.parse(request), inventory, workers, 4,
                gpu_peak_bytes=gpu_peak_bytes,
            ), self._clock, lambda gpu: self.free_bytes[gpu.uuid],
        )
        self.opened.append(share)
        return share


@pytest.fixture
def shares(place: Place, clock: FakeClock) -> Iterator[Shares]:
    found = Shares(place, clock)
    yield found
    for share in found.opened:
        share.close()


def test_slots_have_indexes_threads_and_a_mark(shares: Shares) -> None:
    slots = shares.open("ann", 2).update(2).slots
    assert [(slot.index, slot.threads, slot.device) for slot in slots] == [(0, 4, "cpu"), (1, 4, "cpu")]
    assert [slot.env[VARIABLE].split(":")[:2] for slot in slots] == [["1", "1000"], ["2", "1000"]]


def test_where_others_are_a_worker_has_the_threads_that_it_asked_for(shares: Shares) -> None:
    shares.open("ann", 1)
    assert [slot.threads for slot in shares.open("bob", 1).update(1).slots] == [1]


def test_more_workers_than_cores_share_them(shares: Shares) -> None:
    assert len(shares.open("ann", 6).update(6).slots) == 6
    assert shares.open("bob", 1).update(1).slots == ()


def test_a_slot_goes_from_one_to_the_other(shares: Shares, clock: FakeClock) -> None:
    ann = shares.open("ann", 2)
    clock.advance(100.0)
    bob = shares.open("bob", 2)
    assert bob.update(2).slots == ()
    (order,) = ann.update(2).give_back
    assert (order.slot, order.reason, order.leave_s) == (1, "bob/study has had less than its share", 60.0)
    assert len(ann.update(2).slots) == 2
    ann.release(order.slot)
    grant = bob.update(2)
    assert [slot.index for slot in grant.slots] == [0]
    assert "ann/study holds 1" in grant.waiting
    bob.close()
    assert [slot.index for slot in ann.update(2).slots] == [0, 1]


def test_calls_without_news_touch_nothing(shares: Shares, place: Place) -> None:
    share = shares.open("ann", 2)
    share.update(2)
    with closing(sqlite3.connect(place.path)) as conn, conn:
        before = conn.execute("PRAGMA data_version").fetchone()
        for _ in range(10):
            share.update(2)
        assert conn.execute("PRAGMA data_version").fetchone() == before


def test_a_share_that_the_ledger_has_forgotten_begins_anew(shares: Shares, place: Place) -> None:
    share = shares.open("ann", 2)
    with closing(sqlite3.connect(place.path)) as conn, conn:
        conn.executescript("DELETE FROM leases; DELETE FROM sharers;")
    slots = share.update(2).slots
    assert [slot.env[VARIABLE].split(":")[0] for slot in slots] == ["3", "4"]


def test_a_ledger_that_fails_takes_nothing_away(
    shares: Shares, clock: FakeClock, monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = shares.open("ann", 2)

    def fail(*_: object) -> None:
        raise LedgerError("The ledger can't be used", given="no space left")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "update", fail)
        grant = share.update(1)
        assert len(grant.slots) == 2
        assert grant.waiting == "The ledger can't be used: no space left"
    assert share.update(2).waiting == ""


def test_a_child_that_an_objective_forked_gives_nothing_away(shares: Shares) -> None:
    share = shares.open("ann", 2)
    pid = os.fork()
    if pid == 0:
        share.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(share.update(1).slots) == 2


# --- GPUs


def test_a_gpu_is_given_out_once_its_memory_is_seen_to_be_free(shares: Shares) -> None:
    share = shares.open("ann", 2, "gpu=1", GPUS)
    share.close()
    shares.free_bytes["GPU-0"] = 15 * GIB
    other = shares.open("bob", 2, "gpu=1", GPUS)
    assert [slot.label for slot in other.update(2).slots] == ["cuda:0", "cuda:1"]
    shares.free_bytes["GPU-0"] = GIB  # its last user is dying still
    other.release(0)
    grant = other.update(2)
    assert [slot.label for slot in grant.slots] == ["cuda:1"]
    assert grant.waiting == "waits until the memory of cuda:0 is free"
    shares.free_bytes["GPU-0"] = 16 * GIB
    assert {slot.label for slot in other.update(2).slots} == {"cuda:0", "cuda:1"}


def test_a_gpu_that_strangers_fill_is_left_to_them(shares: Shares) -> None:
    shares.free_bytes["GPU-0"] = GIB
    share = shares.open("ann", 2, "gpu=1", GPUS)
    assert [slot.label for slot in share.update(2).slots] == ["cuda:1"]
    assert "GPUs" in share.update(2).waiting


# --- the manager's view


def test_the_manager_gives_back_a_slot_once_no_process_uses_it(shares: Shares, clock: FakeClock) -> None:
    source = shares.open("ann", 2)
    ann = LeasedShare(source)
    both = ann.adjust((), 2)
    assert [slot.index for slot in both.slots] == [0, 1]
    assert ann.adjust(both.slots, 2) is both
    clock.advance(100.0)
    bob = LeasedShare(shares.open("bob", 2))
    one = ann.adjust(both.slots, 2)
    assert [slot.index for slot in one.slots] == [0]
    assert (one.reason, one.leave_s) == ("bob/study has had less than its share", 60.0)
    waits = bob.adjust((), 2)
    assert (waits.slots, waits.look_in_s < both.look_in_s) == ((), True)
    assert bob.adjust((), 2) is waits
    assert ann.adjust(both.slots, 2).slots == one.slots  # its worker has a trial to end
    assert ann.adjust(both.slots[:1], 2).slots == one.slots
    assert len(bob.adjust((), 2).slots) == 1


def test_a_study_with_few_trials_left_gives_up_what_it_does_not_need(shares: Shares) -> None:
    source = shares.open("ann", 2)
    share = LeasedShare(source)
    both = share.adjust((), 2)
    last = share.adjust(both.slots, 1)
    assert ([slot.index for slot in last.slots], last.leave_s > 1e6) == ([0], True)
    share.adjust(last.slots, 1)
    assert len(shares.open("bob", 2).update(2).slots) == 1


# --- opening


def machine(place: Place, inventory: Inventory = CPUS, **custom: int) -> Machine:
    return Machine(inventory, place, custom)


def test_without_a_ledger_a_study_has_all(tmp_path: Path) -> None:
    found = find_machine({"VELODROME_LEDGER": "off", "HOME": str(tmp_path)})
    planned = plan(found.inventory, ResourceRequest(), 3)
    share, note = open_share(found, planned, "study")
    assert isinstance(share, WholeShare)
    assert share.update(1).slots == planned.slots
    assert note == "sharing is off"


def test_a_default_ledger_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    place = Place(blocked / "velodrome" / "ledger.db", False, "default")
    share, note = open_share(machine(place), plan(CPUS, ResourceRequest()), "study")
    assert isinstance(share, WholeShare)
    assert note.startswith("not shared with other studies")
    with pytest.raises(LedgerError):
        open_share(machine(replace(place, is_shared=True)), plan(CPUS, ResourceRequest()), "study")


def test_a_trial_that_never_fits_is_a_mistake(place: Place) -> None:
    request = ResourceRequest.parse("licences=3", ["licences"])
    with pytest.raises(UsageError, match=r"1 core, 3 licences(.|\n)*2 licences"):
        open_share(machine(place, licences=2), plan(CPUS, request), "study")


def test_an_unknown_priority(place: Place) -> None:
    with pytest.raises(UsageError, match="Did you mean 'normal'"):
        open_share(machine(place), plan(CPUS, ResourceRequest()), "study", "normel")


def test_tenants() -> None:
    assert tenant_of_this_process({"VELODROME_TENANT": "vision-team"}) == "vision-team"
    assert tenant_of_this_process({})


# --- a study inside a trial


def test_a_study_inside_a_trial_lives_on_its_lease(shares: Shares, monkeypatch: pytest.MonkeyPatch) -> None:
    (slot,) = shares.open("ann", 1, "cpus=2").update(1).slots
    part = inherited(replace(CPUS, cpus=8), slot.env)
    assert part is not None
    assert part.cpus == 2
    monkeypatch.setenv(VARIABLE, slot.env[VARIABLE])
    found = find_machine()
    assert found.place is None
    share, note = open_share(found, plan(found.inventory, ResourceRequest()), "inner")
    assert isinstance(share, WholeShare)
    assert note == "it runs inside a trial, on that trial's lease"


@pytest.mark.parametrize("value", ["", "nonsense", "1:2:3", "1:1000:999999999:5:?"])
def test_a_mark_that_says_nothing_or_of_a_dead_holder_is_ignored(value: str) -> None:
    assert inherited(CPUS, {VARIABLE: value}) is None


def test_holders() -> None:
    me = Holder.current()
    assert me.life() is Life.RUNNING
    assert replace(me, started=me.started + 1).life() is Life.GONE
    assert replace(me, space="other-boot pid:[1]").life() is Life.GONE
    elsewhere = replace(me, pid=999_999_999, space=me.space.split()[0] + " pid:[1]")
    assert elsewhere.life() is Life.RUNNING  # another container's, which can't be asked


# --- how many trials share a GPU, by measurement


def parts(slots: Sequence[Slot]) -> list[tuple[int, float, bool]]:
    return [(slot.index, round(slot.gpu_memory_part, 3), slot.may_grow) for slot in slots]


def test_others_come_beside_the_first_trial_once_its_peak_is_known(shares: Shares) -> None:
    source = shares.open("ann", 2, "gpu=1", GPUS, gpu_peak_bytes=0)
    share = LeasedShare(source)
    alone = share.adjust((), 12)
    assert parts(alone.slots) == [(0, 1.0, False), (1, 1.0, False)]
    assert share.adjust(alone.slots, 12) is alone
    packed = share.adjust(alone.slots, 12, 4 * GIB)
    assert parts(packed.slots) == [(index, 0.3, True) for index in range(6)], "three on each GPU"
    assert packed.reason == ("trials of this objective were seen to use 4 GiB of a GPU's memory: 3 share a GPU "
                             "(gpu=1 for one each)")
    assert {slot.label for slot in packed.slots} == {"cuda:0", "cuda:1"}
    assert share.adjust((*alone.slots, *packed.slots[2:]), 12, 4 * GIB) is packed
    assert shares.open("bob", 1, "gpu=0.5", GPUS).update(1).slots == (), "there is no more left than 0.1"


def test_a_higher_peak_makes_room_for_fewer_once_those_that_run_have_ended(shares: Shares) -> None:
    share = LeasedShare(shares.open("ann", 6, "gpu=0.333", GPUS, gpu_peak_bytes=4 * GIB))
    six = share.adjust((), 12).slots
    assert len(six) == 6
    growing = share.adjust(six, 12, 6 * GIB)
    assert growing.slots == ()
    assert "2 share a GPU" in growing.reason
    assert growing.leave_s > 1e6, "nobody is in a hurry"
    assert share.adjust(six[1:], 12, 6 * GIB).slots == (), "a third of a GPU is not enough"
    half = share.adjust(six[4:], 12, 6 * GIB).slots
    assert parts(half) == [(0, 0.45, True), (1, 0.45, True)][: len(half)]
    assert half
    assert len(share.adjust(half, 12, 6 * GIB).slots) == 4


def test_a_peak_lower_than_one_seen_before_changes_nothing(shares: Shares) -> None:
    share = LeasedShare(shares.open("ann", 4, "gpu=0.5", GPUS, gpu_peak_bytes=6 * GIB))
    before = share.adjust((), 12)
    assert share.adjust(before.slots, 12, GIB) is before


def test_where_the_user_has_said_how_many_share_a_gpu_no_peak_changes_it(shares: Shares) -> None:
    share = LeasedShare(shares.open("ann", 4, "gpu=0.5", GPUS))
    before = share.adjust((), 12)
    assert parts(before.slots) == [(index, 0.45, False) for index in range(4)]
    assert share.adjust(before.slots, 12, GIB) is before
