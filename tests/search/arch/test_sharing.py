from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch

import velodrome as velo
from tests.search.arch.nets import CELL, NETS
from velodrome.errors import NotFoundError, SpaceError, UsageError
from velodrome.search.arch.names import STAGES
from velodrome.search.arch.stages import SharingSampler, staged, unstaged
from velodrome.search.arch.supernet import Supernet, fair_paths, use_batch_statistics
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.search.sampler import Exhausted
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import FailureClass, Goal, Suggestion, TrialState

SPACE = Space(lr=velo.Float(0.1, 1.0), net=CELL, constraints=["params < 500", "lr >= 0.2"])
STAGED = staged(SPACE)
GOAL = Goal.parse("maximize value")


@pytest.mark.parametrize("name", list(NETS))
def test_a_round_of_paths_is_fair(name: str) -> None:
    space = Space(net=NETS[name])
    if name in ("cnn", "transformer"):  # some of its nets are impossible, and others take their place
        assert all(space.contains(params) for params in fair_paths(space, np.random.default_rng(0)))
        return
    paths = fair_paths(space, np.random.default_rng(0))
    always = [n for n in space.domains if n not in space.conditions and isinstance(space.domains[n], velo.Choice)]
    for parameter in always:
        counts = Counter(params[parameter] for params in paths)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(counts) == len(space.domains[parameter].options)  # type: ignore[union-attr]  # it is a choice


def test_nets_of_a_supernet_share_the_weights_of_what_they_have_in_common() -> None:
    space = Space(net=CELL)
    supernet = Supernet(space)
    edges = list(space.domains)
    one = supernet.net(dict.fromkeys(edges, "conv3x3"))
    two = supernet.net(dict.fromkeys(edges, "conv3x3") | {edges[1]: "skip"})
    shared = {id(p) for p in one.parameters()} & {id(p) for p in two.parameters()}
    assert len(shared) == 5 * 3
    assert {id(p) for p in one.parameters()} <= {id(p) for p in supernet.parameters()}
    assert len(list(supernet.parameters())) == 6 * 2 * 3, "six edges, two operators with weights, three tensors each"


def test_shared_weights_are_learnt() -> None:
    """All nets get better on a task while single paths are trained; a state keeps what they learnt."""
    space = Space(net=velo.Net((2, 4, 4), velo.Cell("skip", "conv1x1", "conv3x3", nodes=2),
                               velo.Block("classifier", classes=2)))
    torch.manual_seed(0)
    supernet, rng = Supernet(space), np.random.default_rng(0)
    x = torch.randn(64, 2, 4, 4)
    y = (x[:, 0].mean((1, 2)) > x[:, 1].mean((1, 2))).long()
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.2, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        for params in fair_paths(space, rng):
            loss = torch.nn.functional.cross_entropy(supernet.net(params).train()(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # torch says nothing
        optimizer.step()

    def accuracy(net: torch.nn.Module) -> float:
        with torch.no_grad():
            return float((use_batch_statistics(net)(x).argmax(1) == y).double().mean())

    chosen = [space.sample(rng) for _ in range(8)]
    accuracies = [accuracy(supernet.net(params)) for params in chosen]
    assert np.mean(accuracies) > 0.8
    again = Supernet.of(space, supernet.state_dict())
    assert [accuracy(again.net(params)) for params in chosen] == accuracies
    third = Supernet(space, seed=5)
    third.load_state_dict(again.state_dict())
    assert [accuracy(third.net(params)) for params in chosen] == accuracies


def test_no_weights_yet() -> None:
    with pytest.raises(NotFoundError, match="no shared weights yet"):
        Supernet.of(Space(net=CELL), None)


def test_a_staged_space_is_the_space_in_all_stages_but_the_first() -> None:
    assert Space.from_json(json.loads(json.dumps(STAGED.to_json()))) == STAGED
    assert sorted(c.text for c in STAGED.constraints if "built" not in c.text) == ["params < 500", "stage.lr >= 0.2"]
    seen = Counter()
    for seed in range(40):
        params = STAGED.sample(np.random.default_rng(seed))
        seen[params["stage"]] += 1
        if params["stage"] == "supernet":
            assert unstaged(params) == {}
        else:
            SPACE.check(unstaged(params))
    assert set(seen) == set(STAGES)
    for wrong in (Space(x=velo.Float(0, 1)), Space(a=CELL, b=CELL)):
        with pytest.raises(SpaceError, match="one net"):
            staged(wrong)


def walk(sampler: SharingSampler, history: History, most: int, first: int = 0) -> list[str]:
    stages = []
    for number in range(first, first + most):
        try:
            suggestion = sampler.suggest(number, history, generator(1, "suggest", number))
        except Exhausted:
            break
        STAGED.check(suggestion.params)
        stage = str(suggestion.params["stage"])
        stages.append(stage)
        history.start(number, suggestion)
        value = None if stage == "supernet" else (-float(list(suggestion.params.values()).count("zero")),)
        history.finish(number, TrialState.COMPLETED if stage == "alone" else TrialState.PRUNED, value, 0)
    return stages


def test_the_stages_follow_each_other_and_the_best_are_trained_alone() -> None:
    history = History(STAGED, GOAL)
    stages = walk(SharingSampler(candidates=20, winners=3, population=6), history, 99)
    assert stages == ["supernet"] + ["inherited"] * 20 + ["alone"] * 3
    judged = {STAGED.structure(t.params).split(",")[1]: t.values for t in history.finished() if
              t.params["stage"] == "inherited"}
    best = sorted(judged.values(), reverse=True)[:3]
    assert [t.values for t in history.finished() if t.params["stage"] == "alone"] == best
    later = [t.values[0] for t in list(history.finished())[12:21] if t.values]
    early = [t.values[0] for t in list(history.finished())[1:7] if t.values]
    assert np.mean(later) > np.mean(early), "the candidates evolve"


def test_a_new_sampler_goes_on_in_the_same_stage() -> None:
    whole, cut = History(STAGED, GOAL), History(STAGED, GOAL)
    walk(SharingSampler(candidates=8, winners=2, population=4), whole, 99)
    assert [t.attrs for t in whole.finished()][:2] == [{"lends": True}, {"begins_from": 0}]
    for first in range(0, 12, 3):
        walk(SharingSampler(candidates=8, winners=2, population=4), cut, 3, first)
    assert [t.params for t in whole.finished()] == [t.params for t in cut.finished()]


def test_while_the_supernet_trains_others_train_random_nets_alone() -> None:
    history, sampler = History(STAGED, GOAL), SharingSampler()
    for number in range(3):
        suggestion = sampler.suggest(number, history, generator(0, "suggest", number))
        assert suggestion.params["stage"] == ("supernet" if number == 0 else "alone")
        history.start(number, suggestion)


def test_candidates_begin_with_the_best_of_a_warm_pool() -> None:
    history = History(STAGED, GOAL)
    assert walk(SharingSampler(candidates=6, winners=1, seed=4, warm="params", pool=40), history, 7) == [
        "supernet"] + ["inherited"] * 6
    sizes = [STAGED.graph(t.params).total().params for t in history.finished() if t.params["stage"] == "inherited"]
    rng = np.random.default_rng(0)
    drawn = [SPACE.graph(SPACE.sample(rng)).total().params for _ in range(40)]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > np.median(drawn)


def test_a_supernet_that_failed_is_trained_again() -> None:
    history, sampler = History(STAGED, GOAL), SharingSampler()
    history.start(0, Suggestion({"stage": "supernet"}))
    history.finish(0, TrialState.FAILED, None, None, FailureClass.USER)
    assert sampler.suggest(1, history, generator(0, "suggest", 1)).params == {"stage": "supernet"}


def test_the_sampler_needs_stages() -> None:
    with pytest.raises(UsageError, match=r"needs a space with stages[^§]*velo\.staged"):
        make_sampler("sharing", seed=0).suggest(0, History(SPACE, GOAL), generator(0, "suggest", 0))
    with pytest.raises(UsageError, match="'winners' of 'sharing'"):
        make_sampler("sharing:winners=0", seed=0)
    with pytest.raises(UsageError, match="needs a search space"):
        make_sampler("sharing", seed=0).suggest(0, History(Space(), GOAL), generator(0, "suggest", 0))
