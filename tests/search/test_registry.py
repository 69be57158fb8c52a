from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from tests.contracts.scheduler_contract import SomePeers
from velodrome.errors import UsageError
from velodrome.search import constraints, domains, grid, numeric, options, registry, space
from velodrome.search.arch.net import Net
from velodrome.search.arch.stages import staged
from velodrome.search.grid import GridSampler
from velodrome.search.history import History
from velodrome.search.options import parse
from velodrome.search.registry import SAMPLERS, SCHEDULERS, make_sampler, make_scheduler
from velodrome.search.sampler import Exhausted
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Direction, Goal, Report

LOSS = Goal.parse("minimize loss")
MANY = Goal.parse("maximize accuracy, minimize loss")


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_made_by_name_and_suggests(name: str) -> None:
    space = Space(x=domains.Float(0, 1), c=domains.Choice("a", "b"))
    history = History(staged(Space(net=Net((3,), "dense"))) if name == "sharing" else space, LOSS)
    history.space.check(make_sampler(name, seed=1).suggest(0, history, generator(1, "suggest", 0)).params)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_is_made_by_name(name: str) -> None:
    assert make_scheduler(name, MANY).needs_reports == (name != "none")


def test_options_reach_their_owner() -> None:
    sampler = make_sampler(" Grid: points = 2 ", seed=0)
    assert isinstance(sampler, GridSampler)
    history = History(Space(x=domains.Float(0, 1)), LOSS)
    assert [sampler.suggest(n, history, generator(0, "s", n)).params["x"] for n in (0, 1)] == [0.0, 1.0]
    with pytest.raises(Exhausted):
        sampler.suggest(2, history, generator(0, "s", 2))
    asha = make_scheduler("asha:min_steps=2,reduction=3,max_steps=100", MANY)
    assert [s for s in range(100) if asha.decide(Report(0, s, 0.5), SomePeers()) is not None] == [2, 6, 18, 54]
    median = make_scheduler("median:warmup_steps=0,min_trials=1", MANY)
    assert median.decide(Report(0, 1, 0.5), SomePeers()) is None
    verdict = median.decide(Report(1, 1, 0.4), SomePeers())
    assert verdict is not None
    assert verdict.stop  # the goal's first metric is maximized
    assert MANY.direction is Direction.MAXIMIZE


@pytest.mark.parametrize(("text", "match"), [
    ("rndom", "Did you mean 'random'"), ("", "allowed: auto, random, grid, sobol"), ("asha", "no such sampler"),
    ("grid:point=3", "Did you mean 'points'"), ("grid:points", "KEY=VALUE"), ("grid:points=x", "whole number"),
    ("grid:points=2,points=3", "twice"), ("random:n=3", "no options"), ("sobol:=3", "KEY=VALUE"),
    ("grid:points=0", "1 or more"),
])
def test_samplers_that_make_no_sense(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make_sampler(text, seed=0)


@pytest.mark.parametrize(("text", "match"), [
    ("ahsa", "Did you mean 'asha'"), ("median:min_trial=3", "Did you mean 'min_trials'"),
    ("asha:reduction=1", "2 or more"), ("tpe", "no such scheduler"),
])
def test_schedulers_that_make_no_sense(text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make_scheduler(text, LOSS)


def test_values_of_options() -> None:
    assert parse("tpe:a=1,b=-2,c=0.5,d=1e-3,e=true,f=False,g=none,h=text,i=inf,") == ("tpe", {
        "a": 1, "b": -2, "c": 0.5, "d": 1e-3, "e": True, "f": False, "g": None, "h": "text", "i": float("inf")})


@pytest.mark.parametrize("module", [constraints, domains, grid, numeric, options, registry, space])
def test_examples_in_the_docs(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
