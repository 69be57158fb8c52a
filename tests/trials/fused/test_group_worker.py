"""A worker that trains groups, turn by turn, over a link that is a script and engines that only count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.lines import Lines
from velodrome.clock import FakeClock
from velodrome.resources.slots import Slot
from velodrome.trials import wire
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.fused import group_worker, partition
from velodrome.trials.fused.group_worker import GroupWorker
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.wire import Message

PARAMS = {"lr": 0.05, "width": 2, "batch_size": 8}
NUM_EPOCHS = 3
JOIN_S = 0.25
CLOCK = FakeClock()


class Engine:
    """Trains nobody: each turn is an epoch of all; ``fails`` may raise at a turn."""

    fails: Callable[[list[int], int], None] = staticmethod(lambda numbers, turn: None)
    made: list[Engine] = []  # noqa: RUF012 - cleared before each test

    def __init__(self, _job: object, *_: object) -> None:
        self.epochs: dict[int, int] = {}
        self.turn = self.num_compacted = 0
        Engine.made.append(self)

    def extend(self, members: Sequence[tuple[Member, MemberState | None]]) -> None:
        self.epochs |= {member.number: 0 for member, _ in members}
        CLOCK.advance(JOIN_S)

    def advance(self) -> list[tuple[int, int]]:
        self.turn += 1
        CLOCK.advance(1.0)
        Engine.fails(list(self.epochs), self.turn)
        for number in self.epochs:
            self.epochs[number] += 1
        return list(self.epochs.items())

    def evaluate(self) -> dict[int, dict[str, float]]:
        return {number: {"error": 1.0 / epoch} for number, epoch in self.epochs.items()}

    def diverged(self) -> dict[int, str]:
        return {}

    def is_done(self, number: int) -> bool:
        return self.epochs[number] >= NUM_EPOCHS

    def state(self, number: int) -> MemberState:
        raise AssertionError("nobody wants to be saved")

    def drop(self, number: int) -> None:
        del self.epochs[number]

    def compact(self) -> None:
        self.num_compacted += 1


class ScriptedLink:
    """Brings the jobs of each turn, and writes down what it is told."""

    def __init__(self) -> None:
        self.inbox: list[Job] = []
        self.told: list[Message] = []

    def new_jobs(self, *, wait: bool) -> list[Job]:
        jobs, self.inbox = self.inbox, []
        assert jobs or not wait, "it waits, and nobody comes"
        return jobs

    def tell(self, *messages: Message) -> None:
        self.told += messages

    keep = tell

    def foresee(self, questions: Any) -> None:
        self.told.append(("foreseen", tuple(questions)))

    def report(self, number: int, step: int, metrics: dict[str, float]) -> None:
        self.told.append((wire.REPORTED, number, step, metrics))

    def note(self, number: int, by: str, action: str, reason: str) -> None:
        self.told.append((wire.NOTED, number, by, action, reason))

    def ask_save(self, number: int, *, at_end: bool) -> bool:
        return False

    def ask_stop(self, number: int) -> bool:
        return False

    def stop_reason(self, number: int) -> None:
        return None

    preemption = stop_reason

    def forget(self, number: int) -> None: ...

    def flush(self) -> None: ...

    def of(self, kind: object) -> list[Message]:
        return [message[1:] for message in self.told if message[0] == kind]

    def groups(self) -> list[tuple[int, str]]:
        """The trials that joined a group, and which."""
        return [(number, reason.partition(":")[0]) for number, by, action, reason in self.of(wire.NOTED)
                if action == "group"]


class SilentLog:
    """Nothing is printed."""

    def begin(self) -> int:
        return 0

    size = end = begin

    def grown(self) -> bool:
        return False


class Crew:
    """A worker, and the script that it follows."""

    def __init__(self, tmp_path: Path, size: int = 8) -> None:
        self.link = ScriptedLink()
        context = StudyContext("s", ("error",), False, "", str(tmp_path), "files/s", False, size)
        self.worker = GroupWorker(Lines(), context, Slot(0), self.link, SilentLog(), CLOCK)  # type: ignore[arg-type]

    def turns(self, *batches: Sequence[int | Job]) -> None:
        """One turn for each batch of jobs, which come before it."""
        for batch in batches:
            self.link.inbox += [job if isinstance(job, Job) else Job(job, 1, job, PARAMS) for job in batch]
            self.worker.turn()

    def ended(self) -> list[tuple[int, str]]:
        return [(number, kind) for number, kind, *_ in self.link.of(wire.DONE)]


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr(Engine, "fails", staticmethod(lambda numbers, turn: None))
    Engine.made.clear()
    monkeypatch.setattr(group_worker, "Fused", Engine)
    monkeypatch.setattr(group_worker, "Solo", Engine)
    monkeypatch.setattr(partition, "partition", lambda _job, members, _device: [partition.Group(tuple(members))])
    return Crew(tmp_path)


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException, turn: int, least: int = 2) -> None:
    """Groups of so many raise at that turn of theirs."""
    def maybe(numbers: list[int], now: int) -> None:
        if now == turn and len(numbers) >= least:
            raise error

    monkeypatch.setattr(Engine, "fails", staticmethod(maybe))


def test_trials_that_come_together_are_one_group_and_end_together(crew: Crew) -> None:
    crew.turns([0, 1, 2], [], [])
    assert crew.ended() == [(n, "returned") for n in range(3)]
    assert crew.link.groups() == [(n, "worker-0 group 1") for n in range(3)]
    assert crew.link.of(wire.BEGUN) == [((0, 1, 2), 0)]
    assert [step for _, step, _ in crew.link.of(wire.REPORTED)] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_only_those_at_their_end_are_asked_about_where_no_scheduler_watches(crew: Crew) -> None:
    crew.turns([0, 1], [], [])
    assert crew.link.of("foreseen") == [((),), ((),), (((0, True), (1, True)),)]


def test_newcomers_wait_until_their_places_have_cost_what_joining_costs(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn takes a second, joining a quarter, and as much again: one of eight places may be free for four turns."""
    monkeypatch.setattr(Engine, "is_done", lambda self, number: False)
    crew.turns([0, 1, 2], [3])
    assert len(crew.link.groups()) == 4, "the first to join: nothing is known of what it takes"
    crew.turns([4], [], [], [])
    assert len(crew.link.groups()) == 4
    crew.turns([])
    assert crew.link.groups()[4:] == [(4, "worker-0 group 1")]
    crew.turns([5, 6], [])
    assert len(crew.link.groups()) == 5
    crew.turns([])
    assert crew.link.groups()[5:] == [(5, "worker-0 group 1"), (6, "worker-0 group 1")]
    assert len(Engine.made) == 1


def test_a_new_group_that_raises_trains_one_by_one(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, ValueError("no such thing"), turn=1)
    crew.turns([0, 1], [], [], [])
    assert crew.ended() == [(0, "returned"), (1, "returned")]
    alone = [(number, reason) for number, _, action, reason in crew.link.of(wire.NOTED) if action == "train alone"]
    assert alone == [(0, "ValueError: no such thing"), (1, "ValueError: no such thing")]
    assert crew.link.of(wire.BROKEN_UP) == []


def test_a_group_that_raises_later_is_given_back(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, ValueError("no such thing"), turn=2)
    crew.turns([0, 1], [])
    assert crew.link.of(wire.BROKEN_UP) == [((0, 1), 1, "2 trials in one model: ValueError: no such thing")]
    assert crew.ended() == []


@pytest.mark.parametrize("turn", [1, 2])
def test_memory_that_runs_out_halves_the_group(crew: Crew, monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    fails(monkeypatch, MemoryError("no more"), turn)
    crew.turns(*([[0, 1, 2, 3]] + [[]] * (turn - 1)))
    assert crew.link.of(wire.BROKEN_UP) == [((0, 1, 2, 3), 2, "4 trials in one model: MemoryError: no more")]


def test_the_error_of_one_is_its_own(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, MemoryError("no more"), turn=1, least=1)
    crew.turns([4])
    [(number, kind, fields, _, _)] = crew.link.of(wire.DONE)
    assert (number, kind, fields[1]["kind"]) == (4, "failed", "oom")


def test_one_that_is_to_be_apart_waits_and_gets_it_all(crew: Crew) -> None:
    apart = Job(9, 2, 9, PARAMS, apart="it ended its process")
    crew.turns([0, 1], [apart, 2, 3], [])
    assert crew.ended() == [(0, "returned"), (1, "returned")]
    assert [message for message in crew.link.of(wire.BEGUN) if 9 in message[0]] == []
    crew.turns([], [], [])
    assert crew.ended()[2:] == [(9, "returned")]
    assert (9, "fusion", "train alone", "it ended its process") in crew.link.of(wire.NOTED)
    crew.turns([])
    assert crew.link.of(wire.BEGUN)[-1][0] == (2, 3)


def test_where_the_partition_fails_each_trains_by_itself(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*_: object) -> list[partition.Group]:
        raise RuntimeError("what is this")

    monkeypatch.setattr(partition, "partition", odd)
    crew.turns([0, 1])
    assert [message[2:] for message in crew.link.of(wire.NOTED)] == [("train alone", "RuntimeError: what is this")] * 2


def test_rows_are_freed_when_a_quarter_is_empty(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "is_done", lambda self, number: self.epochs[number] > number)
    crew.turns(range(8))
    assert [engine.num_compacted for engine in Engine.made] == [0]
    crew.turns([])
    assert [engine.num_compacted for engine in Engine.made] == [1]
