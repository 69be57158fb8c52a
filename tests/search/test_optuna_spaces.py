"""The bridge to Optuna's samplers: any space of ours, in Optuna's terms and back."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.search.optuna_loop import SMALL, Loop
from velodrome.errors import SpaceError
from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.optuna_bridge import OptunaSampler
from velodrome.search.optuna_samplers import KINDS
from velodrome.search.optuna_space import Layout, coding
from velodrome.search.optuna_table import row
from velodrome.search.space import Space
from velodrome.seeding import generator

_NUMBERS = st.sampled_from([-7.5, -1.0, 0.0, 0.1, 0.3, 1.0, 3.0, 17.25])


@st.composite
def domains(draw) -> Domain:
    kind = draw(st.sampled_from(["float", "log float", "int", "log int", "choice"]))
    if kind == "choice":
        return Choice(*draw(st.permutations([True, 1, 0, False, "a", None, 2.5]))[: draw(st.integers(1, 7))])
    low, width = draw(_NUMBERS), draw(st.sampled_from([0.0, 0.25, 1.0, 2.0, 13.7, 4000.0]))
    if "int" in kind:
        low = int(low) if kind == "int" else max(1, int(low))
        return Int(low, low + int(width), log=kind == "log int", step=draw(st.integers(1, 5)))
    low = low if kind == "float" else max(1e-5, low)
    return Float(low, low + width, log=kind == "log float", step=draw(st.sampled_from([None, None, 0.1, 0.25, 1 / 3])))


@given(domains(), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_every_value_has_a_code_in_optunas_range_and_every_code_is_a_value(domain, points, seed):
    told = coding(domain)
    for value in map(domain.from_unit, points):
        back = told.decode(told.encode(value))
        assert back == pytest.approx(value, rel=1e-9) if isinstance(domain, Float) else back is value or back == value
        assert type(back) is type(value)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    draft = row(0, optuna.trial.TrialState.RUNNING)
    drawn = study.sampler.sample_independent(study, draft, "p", told.distribution)
    assert domain.contains(told.decode(drawn))


@pytest.mark.parametrize("kind", KINDS)
def test_suggestions_are_configurations_of_any_space(kind):
    space = Space(
        {"learning rate": Float(1e-5, 1e-1, log=True)}, one=Float(2, 2), only=Choice("here"), flag=Choice(True, 1, 1.5),
        drop=Float(0, 0.5, step=0.1), grid=Float(0.1, 100, log=True, step=0.1), thirds=Float(0, 3, step=1 / 3),
        even=Int(2, 11, step=2), units=Int(4, 512, log=True, step=4), big=Int(-(2**53), 2**53),
        net=Choice(
            None, mlp={"depth": Int(1, 4), "act": Choice("relu", "gelu")},
            cnn={"depth": Int(1, 4), "pool": Choice("max", avg={"size": Int(2, 3)})}, lonely={"fixed": Int(3, 3)},
        ),
    )
    loop, sampler = Loop(space), OptunaSampler(kind, 0, **SMALL[kind])
    seen = set()
    for _ in range(9 if kind == "gp" else 60):
        number = loop.start(sampler)
        params = loop.history.running[number].params
        space.check(params)
        seen.add(params["net"])
        assert list(params) == [name for name in space.domains if name in params]
        loop.complete(number, abs(math.log10(params["grid"])) + params["drop"])
    assert kind == "gp" or seen == {None, "mlp", "cnn", "lonely"}


def test_a_space_of_choices_only_and_an_empty_space():
    for kind in KINDS:
        sampler = OptunaSampler(kind, 0, **SMALL[kind])
        space = Space(a=Choice("p", "q", "r"), b=Choice(True, False))
        loop = Loop(space)
        loop.run(sampler, lambda params: 2 * (params["a"] != "q") + (params["b"] is True), 8 if kind == "gp" else 30)
        assert space.contains(loop.suggestion(sampler).params)
        late = [trial.params["a"] == "q" for trial in loop.history.finished(15)]
        assert kind == "gp" or sum(late) > 5  # of 15; by chance 5
        assert Loop(Space()).suggestion(OptunaSampler(kind)).params == {}


@pytest.mark.parametrize("kind", KINDS)
def test_constraints_hold_and_a_random_configuration_helps_out(kind):
    space = Space(a=Int(1, 100), b=Int(1, 100), constraints=["a + b <= 20"])  # 2 % of the space
    loop, sampler = Loop(space), OptunaSampler(kind, 0, **SMALL[kind])
    loop.run(sampler, lambda params: -params["a"], 6 if kind == "gp" else 20)
    assert all(space.contains(trial.params) for trial in loop.history.finished())
    impossible = Space(a=Int(1, 9), b=Int(1, 9), constraints=["a > b + 10"])
    with pytest.raises(SpaceError, match="a > b"):
        Loop(impossible).suggestion(OptunaSampler(kind))


def test_constants_need_no_model():
    layout = Layout(Space(a=Int(3, 3), b=Choice("x", y={"c": Float(1, 1), "d": Float(0, 1)})))
    assert [(list(g.distributions), g.constants, g.parent, g.options) for g in layout.groups] == [
        (["b"], {"a": 3}, "", frozenset()), (["b.d"], {"b.c": 1.0}, "b", frozenset({1})),
    ]


def test_define_by_run_parameters_may_change_their_range_and_be_asked_for_twice():
    for kind in KINDS:
        loop, sampler = Loop(Space()), OptunaSampler(kind, 0, **SMALL[kind])
        for number in range(7 if kind == "gp" else 18):
            loop.start(sampler)
            assert loop.history.running[number].params == {}
            high = 3 + number % 4
            n = loop.ask_param(sampler, number, "n", Int(1, high))
            assert 1 <= n <= high
            assert sampler.suggest_param(number, "n", Int(1, high), loop.history, generator(9)) == n
            c = loop.ask_param(sampler, number, "c", Choice("a", "b"))
            assert loop.ask_param(sampler, number, "one", Int(4, 4)) == 4
            if c == "a":
                assert 0.5 <= loop.ask_param(sampler, number, "z", Float(0.5, 2, log=True, step=0.5)) <= 2
            loop.complete(number, n + (c == "a"))
        with pytest.raises(SpaceError, match="z"):
            sampler.suggest_param(loop.start(sampler), "z", Float(2, 1), loop.history, generator(0))
