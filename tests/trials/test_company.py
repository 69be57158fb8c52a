"""What the death of a worker means for the trials that it trained together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from velodrome.trials.company import Company
from velodrome.trials.events import Failed, Lost, Preempted
from velodrome.trials.executor import Job
from velodrome.trials.preemption import Departure
from velodrome.types import Failure, FailureClass

CRASH = Failure(FailureClass.USER, "crashed its process: SIGSEGV")
NO_MEMORY = Failure(FailureClass.OOM, "the kernel killed the worker because memory ran out")


def worker(*running: int, last_words: dict[int, Any] | None = None, departure: Departure | None = None) -> Any:
    return SimpleNamespace(running=running, last_words=last_words or {}, departure=departure)


def why_apart(company: Company, number: int) -> str:
    return company.placed(Job(number, 2, 0, {})).apart


def test_a_crash_under_several_has_no_owner_and_each_is_tried_alone() -> None:
    company = Company(8)
    said = "the process that trained it with 2 others: crashed its process: SIGSEGV"
    assert [company.verdict(worker(3, 4, 5), n, CRASH) for n in (3, 4, 5)] == [Lost(n, said) for n in (3, 4, 5)]
    assert [why_apart(company, n) for n in (3, 4, 5, 6)] == [said, said, said, ""]
    assert company.verdict(worker(3), 3, CRASH) == Failed(3, CRASH.to_json())
    assert company.size == 8


def test_memory_that_runs_out_makes_groups_smaller_and_parts_nobody() -> None:
    company = Company(8)
    assert isinstance(company.verdict(worker(3, 4, 5, 6), 3, NO_MEMORY), Lost)
    assert (company.size, why_apart(company, 3)) == (2, "")


def test_a_kill_from_outside_is_nobodys_doing() -> None:
    company = Company(8)
    assert company.verdict(worker(3, 4), 3, "ended by SIGKILL") == Lost(3, "ended by SIGKILL")
    assert (company.size, why_apart(company, 3)) == (8, "")


def test_who_was_ended_or_told_to_go_has_its_own_word_and_the_others_hear_of_it() -> None:
    company, word = Company(8), Failed(3, CRASH.to_json())
    ended = worker(3, 4, last_words={3: word})
    assert company.verdict(ended, 3, "ended by SIGKILL") == word
    assert company.verdict(ended, 4, "ended by SIGKILL") == Lost(4, "trial 3, in the same process, was ended")
    leaving = worker(5, 6, departure=Departure("others wait", 0.0, 1.0, (5,)))
    assert company.verdict(leaving, 5, "ended by SIGTERM") == Preempted(5, "others wait")
    assert company.verdict(leaving, 6, "ended by SIGTERM") == Lost(6, "ended by SIGTERM")


def test_one_after_another_is_no_company() -> None:
    company = Company(1)
    company.shrink(4)
    assert company.size == 0
