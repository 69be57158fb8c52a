"""What every sampler must do. Subclass it, say how to make one, and pytest runs the rest::

    class TestMySampler(SamplerContract):
        define_by_run = False          # if it needs a space

        def make(self) -> Sampler:
            return MySampler(seed=0)
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping

import numpy as np
import pytest

from velodrome.errors import UsageError
from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.history import History
from velodrome.search.sampler import Exhausted, Sampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import FailureClass, Goal, Params, ParamValue, Suggestion, TrialState

SPACES: Mapping[str, Space] = {
    "mixed": Space(
        lr=Float(1e-5, 1e-1, log=True), width=Int(16, 256, log=True), depth=Int(1, 9, step=2),
        act=Choice("relu", "gelu"), dropout=Float(0, 0.5, step=0.1), flag=Choice(True, 1, None),
    ),
    "conditional": Space(lr=Float(0, 1), opt=Choice("none", adam={"beta": Float(0.8, 0.99)}, sgd={
        "momentum": Float(0, 0.99), "nesterov": Choice("no", yes={"k": Int(1, 4)})})),
    "constrained": Space(width=Int(1, 64), depth=Int(1, 32), constraints=["width * depth <= 256"]),
    "choices": Space(a=Choice("x", "y", "z"), b=Choice(1, 2, 3, 4), c=Choice(False, True)),
    "one value": Space(a=Int(3, 3), b=Float(0, 1)),
}
GOAL = Goal.parse("minimize loss")
BY_RUN: Mapping[str, Domain] = {"lr": Float(1e-4, 1, log=True), "width": Int(1, 9), "act": Choice("relu", "gelu")}


def loss(params: Params) -> float:
    """Some objective over any space: deterministic, and lower towards the low ends."""
    return sum(float(v) if isinstance(v, int | float) else len(str(v)) for v in params.values())


class SamplerContract:
    """The contract."""

    define_by_run = True
    """Whether it can do without a space."""
    seed = 3

    def make(self) -> Sampler:
        """A new sampler, always the same."""
        raise NotImplementedError

    @pytest.fixture(params=list(SPACES))
    def space(self, request: pytest.FixtureRequest) -> Space:
        return SPACES[request.param]

    def suggest(self, sampler: Sampler, number: int, history: History) -> Suggestion:
        return sampler.suggest(number, history, generator(self.seed, "suggest", number))

    def run(self, sampler: Sampler, history: History, numbers: range, *, parallel: int = 1) -> list[Suggestion]:
        """Runs trials, ``parallel`` at a time, and finishes them in order; stops where the sampler has nothing left."""
        suggestions: list[Suggestion] = []
        for number in numbers:
            try:
                suggestion = self.suggest(sampler, number, history)
            except Exhausted:
                return suggestions
            suggestions.append(suggestion)
            history.start(number, suggestion)
            if len(history.running) == parallel:
                first = next(iter(history.running))
                history.finish(first, TrialState.COMPLETED, (loss(history.running[first].params),), step=1)
        return suggestions

    def test_suggestions_are_configurations_of_the_space(self, space: Space) -> None:
        for suggestion in self.run(self.make(), History(space, GOAL), range(16), parallel=3):
            space.check(suggestion.params)

    def test_suggestions_are_json(self, space: Space) -> None:
        for suggestion in self.run(self.make(), History(space, GOAL), range(12)):
            for mapping in (suggestion.params, suggestion.attrs):
                again = json.loads(json.dumps(mapping))
                assert again == mapping
                assert [type(v) for v in again.values()] == [type(v) for v in mapping.values()]

    def test_the_same_seed_gives_the_same_suggestions(self, space: Space) -> None:
        one, two = (self.run(self.make(), History(space, GOAL), range(14), parallel=2) for _ in range(2))
        assert one == two

    @pytest.mark.parametrize("done", [0, 5, 13])
    def test_a_new_sampler_over_the_same_history_goes_on_as_the_old_one(self, space: Space, done: int) -> None:
        old, history = self.make(), History(space, GOAL)
        self.run(old, history, range(done))
        rebuilt = History(Space.from_json(json.loads(json.dumps(space.to_json()))), GOAL)
        for trial in history.finished():
            rebuilt.start(trial.number, Suggestion(trial.params, dict(trial.attrs)))
            rebuilt.finish(trial.number, trial.state, trial.values, trial.step, trial.failure)
        assert self.run(self.make(), rebuilt, range(done, done + 6)) == self.run(old, history, range(done, done + 6))

    def test_asked_again_it_gives_something_else(self) -> None:
        history = History(SPACES["choices"], GOAL)
        sampler = self.make()
        self.run(sampler, history, range(4))
        rng = generator(self.seed, "suggest", 4)
        asked = [sampler.suggest(4, history, rng).params for _ in range(15)]
        assert any(params != asked[0] for params in asked)
        history.start(4, Suggestion(asked[-1]))
        self.suggest(sampler, 5, history)  # and it goes on

    def test_failures_and_odd_values_do_no_harm(self) -> None:
        space = SPACES["mixed"]
        sampler, history = self.make(), History(space, GOAL)
        ends: list[tuple[TrialState, tuple[float, ...] | None, FailureClass | None]] = [
            (TrialState.FAILED, None, failure) for failure in FailureClass]
        ends += [
            (TrialState.COMPLETED, (math.inf,), None), (TrialState.COMPLETED, (-math.inf,), None),
            (TrialState.PRUNED, None, None), (TrialState.PRUNED, (0.5,), None), (TrialState.PRUNED, (math.nan,), None),
            (TrialState.FAILED, (math.nan,), FailureClass.DIVERGED), (TrialState.COMPLETED, (1e300,), None),
        ]
        for number, (state, values, failure) in enumerate(ends * 2):
            suggestion = self.suggest(sampler, number, history)
            space.check(suggestion.params)
            history.start(number, suggestion)
            history.finish(number, state, values, None if values is None else 1, failure)

    def test_dropped_trials_do_no_harm(self) -> None:
        space = SPACES["mixed"]
        sampler, history = self.make(), History(space, GOAL)
        for number in range(8):
            suggestion = self.suggest(sampler, number, history)
            history.start(number, suggestion)
            if number % 2:
                history.drop(number)
            else:
                history.finish(number, TrialState.COMPLETED, (1.0,))
        space.check(self.suggest(sampler, 8, history).params)

    def test_the_global_generators_are_left_alone(self) -> None:
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - it is this global generator that is watched
        before = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - as above
        self.run(self.make(), History(SPACES["mixed"], GOAL), range(12))
        after = random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - as above
        assert before == after

    def test_define_by_run(self) -> None:
        sampler, history = self.make(), History(Space(), GOAL)
        if not self.define_by_run:
            with pytest.raises(UsageError, match="needs a search space"):
                self.suggest(sampler, 0, history)
            with pytest.raises(UsageError, match="needs a search space"):
                sampler.suggest_param(0, "lr", Float(0, 1), history, generator(self.seed, "suggest", 0))
            return
        assert self._define_by_run(sampler, history) == self._define_by_run(self.make(), History(Space(), GOAL))

    def _define_by_run(self, sampler: Sampler, history: History) -> list[ParamValue]:
        asked = []
        for number in range(12):
            suggestion = self.suggest(sampler, number, history)
            assert suggestion.params == {}
            history.start(number, suggestion)
            for name, domain in BY_RUN.items():
                if name == "act" and number % 3 == 0:
                    continue
                rng = generator(self.seed, "suggest", number, name)
                value = sampler.suggest_param(number, name, domain, history, rng)
                domain.check(name, value)
                history.add_param(number, name, domain, value)
                asked.append(value)
            history.finish(number, TrialState.COMPLETED, (loss(history.running[number].params),))
        return asked

    def test_it_ends_only_when_all_was_suggested(self) -> None:
        suggestions = self.run(self.make(), History(Space(a=Choice("x", "y")), GOAL), range(6))
        values = [s.params["a"] for s in suggestions]
        assert len(values) == 6 or sorted(values, key=str) == ["x", "y"]
