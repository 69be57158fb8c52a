"""Which checkpoints stay: the same as by looking at all trials at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velodrome.errors import UsageError
from velodrome.trials.retention import Retention, Saved
from velodrome.types import Goal, TrialState

ONE, TWO = Goal.parse("maximize a"), Goal.parse("maximize a, minimize b")
_STATES = st.sampled_from([TrialState.COMPLETED, TrialState.COMPLETED, TrialState.PRUNED, TrialState.FAILED])
_TRIALS = st.lists(st.tuples(_STATES, st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), max_size=12)


def saved(number: int, step: int) -> Saved:
    return Saved(step, f"{number}/{step}", "", {}, step)


def kept_after(rule: str, goal: Goal, trials: list[tuple[TrialState, int, int, int]]) -> set[str]:
    """The paths that are left when these trials (state, a, b, checkpoints) have finished in this order."""
    retention, left = Retention(rule, goal), set()
    for number, (state, a, b, count) in enumerate(trials):
        checkpoints = tuple(saved(number, step) for step in range(count))
        left |= {c.path for c in checkpoints}
        values = tuple(map(float, (a, b)[: len(goal.metrics)])) if state is not TrialState.FAILED else None
        dropped = {c.path for _, c in retention.finish(number, state, values, checkpoints)}
        assert dropped <= left, "deleted once, and only what is there"
        left -= dropped
    return left


@given(_TRIALS, st.sampled_from(["best", "all", "none", "0", "1", "3"]))
def test_one_goal(trials: list[tuple[TrialState, int, int, int]], rule: str) -> None:
    ends = [(n, t) for n, t in enumerate(trials) if t[3]]
    if rule != "all":
        ends = [(n, t) for n, t in ends if t[0] is TrialState.COMPLETED]
        most = {"best": 1, "none": 0, "0": 0, "1": 1, "3": 3}[rule]
        ends = sorted(ends, key=lambda e: (-e[1][1], e[0]))[:most]
    assert kept_after(rule, ONE, trials) == {f"{n}/{t[3] - 1}" for n, t in ends}


@given(_TRIALS)
def test_the_front_of_several_goals(trials: list[tuple[TrialState, int, int, int]]) -> None:
    ends = [(n, t) for n, t in enumerate(trials) if t[3] and t[0] is TrialState.COMPLETED]
    front = [(n, t) for n, t in ends
             if not any((u[1] >= t[1] and u[2] <= t[2]) and (u[1], u[2]) != (t[1], t[2]) for _, u in ends)]
    assert kept_after("best", TWO, trials) == {f"{n}/{t[3] - 1}" for n, t in front}


@given(_TRIALS, st.sampled_from(["best", "all", "none", "2"]), st.sampled_from([ONE, TWO]))
def test_what_would_be_kept_is_kept(trials: list[tuple[TrialState, int, int, int]], rule: str, goal: Goal) -> None:
    retention = Retention(rule, goal)
    for number, (_, a, b, _) in enumerate(trials):
        values = tuple(map(float, (a, b)[: len(goal.metrics)]))
        own, foreseen = saved(number, 1), retention.would_keep(values)
        dropped = retention.finish(number, TrialState.COMPLETED, values, (own,))
        assert foreseen == ((number, own) not in dropped)


@pytest.mark.parametrize("rule", ["", "-1", "some", "1.5", "²"])
def test_a_rule_that_is_none(rule: str) -> None:
    with pytest.raises(UsageError, match="best, all, none"):
        Retention(rule, ONE)
