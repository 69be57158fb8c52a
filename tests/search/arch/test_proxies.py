from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from torch import nn

import velodrome as velo
from tests.search.arch.nets import NETS
from velodrome.search.arch.build import GraphModule
from velodrome.search.arch.names import PROXIES
from velodrome.search.arch.proxies import random_batch, score, zero_cost
from velodrome.search.history import History
from velodrome.search.registry import make_sampler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.types import Goal, TrialState


def built(name: str, seed: int = 0) -> GraphModule:
    space = Space(net=NETS[name])
    torch.manual_seed(seed)
    net = space.build(space.sample(generator(seed, "net")))
    assert isinstance(net, GraphModule)
    return net


@pytest.mark.parametrize("name", ["cnn", "mlp", "transformer"])
@pytest.mark.parametrize("proxy", PROXIES)
def test_a_net_keeps_its_weights_and_the_figure_is_the_same_again(name: str, proxy: str) -> None:
    net = built(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    figure = zero_cost(net, proxy)
    assert figure == zero_cost(net, proxy)
    assert not math.isnan(figure)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(w.grad is None for w in net.parameters())


def linear_net(width: int = 3) -> GraphModule:
    net = Space(net=velo.Net((4,), velo.Block("dense", width=width, act="none"))).build({})
    assert isinstance(net, GraphModule)
    return net


def test_synflow_of_a_linear_layer_is_the_sum_of_its_weights() -> None:
    """R = sum |W| x 1 + sum |b|, so the flow of each weight is itself."""
    net = linear_net()
    expected = sum(float(w.detach().double().abs().sum()) for w in net.parameters())
    assert zero_cost(net, "synflow") == pytest.approx(math.log(expected))


def test_gradients_are_those_of_the_mean_loss() -> None:
    net = linear_net()
    x, y = random_batch(net, 0)
    nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]  # torch says nothing
    grads = [(w.detach(), w.grad) for w in net.parameters() if w.grad is not None]
    assert zero_cost(net, "grad_norm", batch=(x, y)) == pytest.approx(sum(float(g.norm()) for _, g in grads))
    assert zero_cost(net, "snip", batch=(x, y)) == pytest.approx(sum(float((w * g).abs().sum()) for w, g in grads))


def test_naswot_by_hand() -> None:
    """Two examples that agree in two of three activations: K is [[3, 2], [2, 3]], of determinant 5."""
    net = Space(net=velo.Net((3,), velo.Block("dense", width=3))).build({})
    assert isinstance(net, GraphModule)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Linear):
                module.weight.copy_(torch.eye(3))
                module.bias.zero_()
    x = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])
    assert zero_cost(net, "naswot", batch=(x, torch.tensor([0, 1]))) == pytest.approx(math.log(5))


def test_nothing_flows_through_a_net_of_zeros() -> None:
    net = Space(net=velo.Net((4, 6, 6), velo.Cell("zero", nodes=2), velo.Block("mean"))).build({})
    assert isinstance(net, GraphModule)
    for proxy in ("synflow", "naswot", "jacob_cov"):
        assert zero_cost(net, proxy) == -math.inf
    for proxy in ("grad_norm", "snip"):
        assert zero_cost(net, proxy) == 0


def test_a_net_that_no_space_has_built() -> None:
    with pytest.raises(velo.VeloError, match=r"a net that a space has built[^§]*given: Linear"):
        zero_cost(nn.Linear(2, 2), "synflow")  # type: ignore[arg-type]  # that is what is tried


def test_an_unknown_proxy() -> None:
    with pytest.raises(velo.VeloError, match="Did you mean 'synflow'"):
        zero_cost(linear_net(), "sinflow")


def test_a_score_leaves_the_global_generator_and_the_threads_alone() -> None:
    space = Space(net=NETS["mlp"])
    params = space.sample(generator(0, "x"))
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert score(space, params, "snip", seed=3) == score(space, params, "snip", seed=3)
    assert score(space, params, "snip", seed=3) != score(space, params, "snip", seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["evolution", "local", "predictor"])
def test_a_warm_start_begins_with_the_best_of_its_pool(name: str) -> None:
    space = Space(lr=velo.Float(0, 1), net=velo.Net((4, 4, 4), velo.nas201_cell()))
    made = [make_sampler(f"{name}:warm=params,pool=60", seed=7) for _ in range(2)]
    history = History(space, Goal.parse("maximize value"))
    sizes = []
    for number in range(8):  # every other suggestion is that of a sampler which did not see the others made
        suggestion = made[number % 2].suggest(number, history, generator(7, "suggest", number))
        sizes.append(space.graph(suggestion.params).total().params)
        history.start(number, suggestion)
        history.finish(number, TrialState.COMPLETED, (0.0,))
    assert sizes == sorted(sizes, reverse=True)
    rng = generator(7, "warm")
    pool = {space.structure(params): space.graph(params).total().params for params in
            (space.sample(rng) for _ in range(60))}
    assert sizes == sorted(pool.values(), reverse=True)[:8]


def test_a_pool_is_ranked_by_the_mean_rank_of_several_proxies() -> None:
    space = Space(net=velo.Net((4, 4, 4), velo.nas201_cell(), velo.Block("mean")))
    names, rng = ("params", "synflow"), generator(3, "warm")
    pool = {space.structure(params): params for params in (space.sample(rng) for _ in range(30))}
    ranks = np.mean([rankdata([score(space, p, name, seed=3) for p in pool.values()]) for name in names], axis=0)
    history = History(space, Goal.parse("maximize value"))
    first = make_sampler("local:warm=params+synflow,pool=30", seed=3).suggest(
        0, history, generator(3, "suggest", 0)).params
    assert ranks[list(pool).index(space.structure(first))] == ranks.max()


@pytest.mark.parametrize(("warm", "said"), [
    ("params+sinflow", "Did you mean 'synflow'"), ("params+", "makes no sense"),
])
def test_a_combination_that_makes_no_sense(warm: str, said: str) -> None:
    with pytest.raises(velo.VeloError, match=said):
        make_sampler(f"evolution:warm={warm}", seed=0)


def test_a_warm_start_needs_a_net() -> None:
    history = History(Space(x=velo.Float(0, 1)), Goal.parse("maximize value"))
    with pytest.raises(velo.VeloError, match="needs a net to score"):
        make_sampler("evolution:warm=synflow", seed=0).suggest(0, history, generator(0, "suggest", 0))
