"""How a worker is brought to its end, step by step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from velodrome.trials.preemption import Departure, Step


def steps(departure: Departure, times: list[float], running: tuple[int, ...] = (4,)) -> list[tuple[float, str]]:
    found = [(now, departure.due(now, running)) for now in times]
    return [(now, step.name) for now, step in found if step is not Step.WAIT]


def test_a_trial_that_pays_no_heed_is_told_terminated_and_killed() -> None:
    times = [i / 2 for i in range(60)]
    assert steps(Departure("x", 5.0, 10.0), times) == [(5.0, "TELL"), (15.0, "TERMINATE"), (17.0, "KILL")]


def test_an_idle_worker_is_killed_at_once_and_only_once() -> None:
    assert steps(Departure("x", 5.0, 10.0), [0.0, 1.0, 2.0], running=()) == [(0.0, "KILL")]


def test_a_worker_whose_trial_has_ended_is_killed_before_the_next_gets_anywhere() -> None:
    departure = Departure("x", 0.0, 10.0)
    assert departure.due(0.0, (4,)) is Step.TELL
    assert departure.numbers == (4,)
    assert departure.due(1.0, (5,)) is Step.KILL


def test_a_worker_of_several_trials_waits_for_all_that_were_told() -> None:
    departure = Departure("x", 0.0, 10.0)
    assert departure.due(0.0, (4, 5)) is Step.TELL
    assert departure.due(1.0, (5,)) is Step.WAIT
    assert departure.due(2.0, (6,)) is Step.KILL


def test_no_step_is_left_out_where_nobody_looked_for_long() -> None:
    assert [s for _, s in steps(Departure("x", 0.0, 1.0), [50.0, 50.1, 50.2, 50.3])] == ["TELL", "TERMINATE", "KILL"]


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from([(), (1,), (2,), (1, 2)])), max_size=30))
def test_steps_come_in_order_and_once_whatever_happens(story: list[tuple[float, tuple[int, ...]]]) -> None:
    departure = Departure("x", 20.0, 10.0)
    taken = [departure.due(now, running) for now, running in sorted(story, key=lambda pair: pair[0])]
    done = [step for step in taken if step is not Step.WAIT]
    assert done == sorted(set(done))
    assert departure.can_be_undone == (not done)
