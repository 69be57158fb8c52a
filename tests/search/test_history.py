from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.search.spaces import CONDITIONAL, DISCRETE, MIXED, spaces
from velodrome.errors import SpaceError
from velodrome.search.domains import Choice, Float, Int
from velodrome.search.history import FINISHED_STATES, FinishedTrial, History
from velodrome.search.space import Space
from velodrome.types import FailureClass, Goal, Params, Suggestion, TrialState

LOSS = Goal.parse("minimize loss")
COMPLETED, PRUNED, FAILED = TrialState.COMPLETED, TrialState.PRUNED, TrialState.FAILED


def test_what_goes_in_comes_out_in_order_of_finishing() -> None:
    history = History(CONDITIONAL, Goal.parse("min loss, max acc"))
    first = Suggestion({"lr": 0.1, "optimizer": "none"})
    second = Suggestion({"lr": 0.01, "optimizer": "adam", "optimizer.beta1": 0.9, "optimizer.decay": 0.5}, {"g": 3})
    third = Suggestion({"lr": 0.01, "optimizer": "none"}, {"g": 4})
    for number, suggestion in enumerate((first, second, third)):
        history.start(number, suggestion)
    assert list(history.running) == [0, 1, 2]
    history.finish(1, COMPLETED, (0.5, math.inf), step=7)
    history.finish(0, FAILED, None, failure=FailureClass.OOM)
    expected = [
        FinishedTrial(1, second.params, {"g": 3}, COMPLETED, (0.5, math.inf), 7, None),
        FinishedTrial(0, first.params, {}, FAILED, None, None, FailureClass.OOM),
    ]
    assert list(history.finished()) == expected
    assert list(history.finished(1)) == expected[1:]
    assert list(history.running) == [2]
    assert len(history) == 2
    assert history.numbers.tolist() == [1, 0]
    np.testing.assert_array_equal(history.values, [[0.5, math.inf], [math.nan, math.nan]])
    assert [FINISHED_STATES[code] for code in history.states] == [COMPLETED, FAILED]
    np.testing.assert_array_equal(history.rows()[1], CONDITIONAL.to_row(first.params))
    assert dict(history.attrs) == {1: {"g": 3}}


def test_nan_is_a_value_and_no_value_is_none() -> None:
    history = History(Space(a=Int(0, 9)), LOSS)
    for number in (0, 1):
        history.start(number, Suggestion({"a": number}))
    history.finish(0, PRUNED, (math.nan,), step=-1)
    history.finish(1, PRUNED, None, step=0)
    nan, none = history.finished()
    assert nan.values is not None
    assert math.isnan(nan.values[0])
    assert (none.values, nan.step, none.step) == (None, -1, 0)


def test_the_columns_cannot_be_written() -> None:
    history = History(DISCRETE, LOSS)
    for column in (history.rows(), history.values, history.numbers, history.states):
        with pytest.raises(ValueError, match="read-only"):
            column[...] = 0


@settings(max_examples=30, deadline=None)
@given(spaces(), st.integers(0, 1000), st.integers(1, 300))
def test_many_trials(space: Space, seed: int, count: int) -> None:
    history = History(space, LOSS)
    rng = np.random.default_rng(seed)
    given_params = [space.sample(rng) for _ in range(count)]
    for number, params in enumerate(given_params):
        history.start(number, Suggestion(params))
        history.finish(number, COMPLETED, (float(number),))
    assert [t.params for t in history.finished()] == given_params
    assert history.rows().shape == (count, len(space))
    assert history.values[:, 0].tolist() == list(range(count))
    if len(space) and space.cardinality is not None:
        assert all(history.seen(space.key(params)) for params in given_params)


def test_seen_counts_what_was_started_and_not_what_was_dropped() -> None:
    history = History(DISCRETE, LOSS)
    params: Params = {"a": 1, "b": "x"}
    key = DISCRETE.key(params)
    assert not history.seen(key)
    history.start(0, Suggestion(params))
    history.start(0, Suggestion(params))  # again, after its worker died
    history.start(1, Suggestion({"a": 2, "b": "x"}))
    assert history.seen(key)
    history.drop(0)
    assert not history.seen(key)
    history.start(2, Suggestion(params))
    history.start(3, Suggestion(params))
    history.finish(2, FAILED, None, failure=FailureClass.LOST)
    history.drop(3)
    assert history.seen(key)
    assert list(history.running) == [1]
    history.drop(99)  # never started


def test_seen_is_not_kept_where_repeats_do_not_happen() -> None:
    for space in (MIXED, Space()):
        history = History(space, LOSS)
        params = space.sample(np.random.default_rng(0))
        history.start(0, Suggestion(params))
        assert not history.seen(space.key(params))


def test_define_by_run_grows_the_space() -> None:
    history = History(Space(), LOSS)
    history.start(0, Suggestion({}, {"k": 1}))
    history.add_param(0, "lr", Float(0.1, 1), 0.5)
    history.add_param(0, "act", Choice("relu", "gelu"), "gelu")
    assert history.running[0] == Suggestion({"lr": 0.5, "act": "gelu"}, {"k": 1})
    history.finish(0, COMPLETED, (1.0,))
    history.start(1, Suggestion({}))
    history.add_param(1, "act", Choice("relu", "gelu"), "relu")
    history.add_param(1, "width", Int(1, 8), 3)
    history.add_param(1, "lr", Float(0.01, 0.5), 0.02)
    history.finish(1, COMPLETED, (2.0,))
    assert history.is_define_by_run
    assert history.space == Space(lr=Float(0.01, 1), act=Choice("relu", "gelu"), width=Int(1, 8))
    assert [t.params for t in history.finished()] == [
        {"lr": 0.5, "act": "gelu"}, {"lr": 0.02, "act": "relu", "width": 3}]
    np.testing.assert_array_equal(history.rows(), [[0.5, 1, math.nan], [0.02, 0, 3]])


@pytest.mark.parametrize(("domain", "value", "match"), [
    (Choice("gelu", "relu"), "relu", "another domain before"), (Int(0, 1), 0, "another domain before"),
    (Choice("relu", "gelu"), "tanh", "outside its domain"), (Float(1, 0), 0.5, "'act': low is greater"),
])
def test_a_contradiction_changes_nothing(domain: Float | Int | Choice, value: object, match: str) -> None:
    history = History(Space(), LOSS)
    history.start(0, Suggestion({}))
    history.add_param(0, "act", Choice("relu", "gelu"), "relu")
    with pytest.raises(SpaceError, match=match):
        history.add_param(0, "act", domain, value)  # type: ignore[arg-type]  # a mistake that a user makes
    assert history.space == Space(act=Choice("relu", "gelu"))
    assert history.running[0].params == {"act": "relu"}


def test_a_hundred_thousand_trials_fit_in_20_megabytes() -> None:
    space = Space({f"p{i}": Float(0, 1) for i in range(10)})
    suggestion = Suggestion(space.sample(np.random.default_rng(0)))
    tracemalloc.start()
    try:
        history = History(space, LOSS)
        for number in range(100_000):
            history.start(number, suggestion)
            history.finish(number, COMPLETED, (1.0,))
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
