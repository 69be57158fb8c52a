"""Which settings a sweep of an algorithm searches, and where."""

from __future__ import annotations

from typing import Any

import pytest

from velodrome.errors import UsageError
from velodrome.rl.algorithms import training_space
from velodrome.rl.presets import preset
from velodrome.search.domains import Choice, Domain, Float, Int


def domains_of(*given: str, env: str = "CartPole-v1", search: bool = True) -> dict[str, Domain]:
    return dict(training_space("ppo", env, 1_000, given, search=search).domains)


@pytest.mark.parametrize(("text", "domain"), [
    ("lr=1e-4..1e-2:log", Float(1e-4, 1e-2, log=True)),
    ("lr=0.001..0.002", Float(0.001, 0.002)),
    ("epochs=4..16", Int(4, 16)),
    ("epochs=4..16:log", Int(4, 16, log=True)),
    ("epochs=4|8|16", Choice(4, 8, 16)),
    ("activation=tanh|relu", Choice("tanh", "relu")),
    ("anneal_lr=true|false", Choice(True, False)),
    ("gamma=0.9|0.99", Choice(0.9, 0.99)),
])
def test_what_is_written_is_searched(text: str, domain: Domain) -> None:
    assert domains_of(text)[text.partition("=")[0]] == domain


def test_a_domain_leaves_the_other_settings_as_in_the_preset() -> None:
    domains = domains_of("lr=1e-4..1e-2:log", "gamma=0.5")
    assert domains["gamma"] == Choice(0.5)
    of_preset = preset("ppo", "CartPole-v1")
    assert domains["num_envs"] == Choice(of_preset["num_envs"])
    assert [name for name, domain in domains.items() if domain.cardinality != 1] == ["lr"]


def test_without_a_domain_all_that_is_not_given_is_searched() -> None:
    domains = domains_of("gamma=0.5")
    assert domains["gamma"] == Choice(0.5)
    assert {"lr", "epochs", "num_envs"} <= {name for name, domain in domains.items() if domain.cardinality != 1}


def test_python_gives_domains() -> None:
    given = {"lr": Float(1e-4, 1e-2, log=True), "epochs": Choice(4, 8)}
    domains = training_space("ppo", "CartPole-v1", 1_000, given, search=True).domains
    assert domains["lr"] == given["lr"]
    assert domains["epochs"] == given["epochs"]


@pytest.mark.parametrize(("given", "match"), [
    (["lr=1e-2..1e-4"], "lr"), (["lr=0..1:log"], "lr"), (["lr=1..2:exp"], "LOW..HIGH:log"), (["lr=1..x"], "lr"),
    (["epochs=0..3"], "whole number from 1"), (["activation=tanh..relu"], "VALUE"), (["activation=tanh|elu"], "tanh"),
    (["epochs=4|4"], "epochs"), (["eval_episodes=1..3"], "eval_episodes"), (["epoch=1..3"], "epochs"),
])
def test_what_makes_no_sense_is_refused(given: list[str], match: str) -> None:
    with pytest.raises(UsageError) as caught:
        domains_of(*given)
    assert match in str(caught.value)


@pytest.mark.parametrize("value", ["lr=1e-4..1e-2", "epochs=4|8", Float(1e-4, 1e-2)])
def test_a_run_takes_one_value(value: Any) -> None:
    with pytest.raises(UsageError, match=r"can't be that|velo sweep ppo --env CartPole-v1"):
        training_space("ppo", "CartPole-v1", 1_000, [value] if isinstance(value, str) else {"lr": value})
