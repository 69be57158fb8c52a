"""Zero-cost proxies: figures of an untrained net that go along with how good it gets. Higher is better in all of them.

- ``synflow``: Tanaka et al. 2020, https://arxiv.org/abs/2006.05467; the logarithm of the flow of synapses.
- ``naswot``: Mellor et al. 2021, https://arxiv.org/abs/2006.04647; how differently examples switch the activations.
- ``jacob_cov``: the first version of the same paper; how uncorrelated examples' gradients are.
- ``grad_norm`` and ``snip``: Lee et al. 2019, https://arxiv.org/abs/1810.02340, as in Abdelfattah et al. 2021,
  https://arxiv.org/abs/2101.08134, where all of these were compared.
- ``params`` and ``flops``: the size of the net.

A batch of real examples serves best; without one, they are drawn from a normal distribution (tokens evenly), and labels
at random. ``synflow``, ``params`` and ``flops`` look at no examples at all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from velodrome import seeding
from velodrome.errors import UsageError, nearest
from velodrome.search.arch.build import GraphModule, build
from velodrome.search.arch.names import PROXIES
from velodrome.search.space import Space
from velodrome.types import Params

Batch = tuple[torch.Tensor, torch.Tensor]
"""Examples [n, *shape] and labels [n]."""

_EXAMPLES = 32
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
_ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU)


def zero_cost(net: GraphModule, proxy: str, *, batch: Batch | None = None, seed: int = 0) -> float:
    """A proxy of a net that ``Space.build`` made; its weights and buffers stay as they are.

    Args:
        net: The net.
        proxy: One of ``PROXIES``.
        batch: Examples and class labels; drawn at random where None.
        seed: Of what is drawn at random.

    Raises:
        UsageError: If there is no such proxy, or the net was made otherwise.
    """
    if not isinstance(net, GraphModule):
        raise UsageError("A zero-cost proxy looks at a net that a space has built", given=type(net).__name__,
                         allowed="space.build(params)")
    if proxy not in PROXIES:
        raise UsageError("There is no such zero-cost proxy", given=repr(proxy), allowed=", ".join(PROXIES),
                         hint=nearest(proxy, PROXIES))
    if proxy in ("params", "flops"):
        total = net.graph.total()
        return float(total.params if proxy == "params" else total.flops)
    x, y = random_batch(net, seed) if batch is None else batch
    device = next((w.device for w in net.parameters()), x.device)
    found = _MEASURES[proxy](copy.deepcopy(net), (x.to(device), y.to(device)))
    return found if math.isfinite(found) else -math.inf


def score(space: Space, params: Params, proxy: str, *, seed: int = 0) -> float:
    """The sum of a proxy over the nets of a configuration, built with weights that depend on ``seed`` alone."""
    total, threads = 0.0, torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(1)  # the nets are small, and there are many
        try:
            for name, net in space.active_nets(params).items():
                torch.manual_seed(seeding.derive(seed, "proxy", name))
                total += zero_cost(build(net.graph(params, name)), proxy, seed=seed)
        finally:
            torch.set_num_threads(threads)
    return total


def random_batch(net: GraphModule, seed: int, examples: int = _EXAMPLES) -> Batch:
    """Examples that the net can take, and labels, drawn at random."""
    rng = torch.Generator().manual_seed(seed)
    graph = net.graph
    vocabulary = next((int(str(dict(n.settings)["vocabulary"])) for n in graph.nodes if n.op == "embed"), 0)
    size = (examples, *graph.shape)
    x = torch.randint(vocabulary, size, generator=rng) if vocabulary else torch.randn(size, generator=rng)
    classes = graph.total().shape[0]
    return x, torch.randint(classes, (examples,), generator=rng)


def _synflow(net: GraphModule, batch: Batch) -> float:
    """The sum over weights of |w dR/dw|, R the sum of the outputs for an input of ones, all weights positive."""
    _without_norms(net)
    net.double().eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.abs_()
    x = batch[0][:1]
    ones = torch.ones_like(x) if not x.is_floating_point() else torch.ones_like(x, dtype=torch.float64)
    out = net(ones).sum()
    if not out.requires_grad:
        return -math.inf
    out.backward()
    flow = sum(float((w.detach() * w.grad).abs().sum()) for w in net.parameters() if w.grad is not None)
    return math.log(flow) if flow > 0 else -math.inf


def _naswot(net: GraphModule, batch: Batch) -> float:
    """The log determinant of how often two examples agree in an activation's sign."""
    n = len(batch[0])
    agree = torch.zeros(n, n, dtype=torch.float64)

    def look(_module: nn.Module, _inputs: object, out: torch.Tensor) -> None:
        signs = (out.detach().reshape(n, -1) > 0).double()
        agree.add_((signs @ signs.T + (1 - signs) @ (1 - signs).T).cpu())

    for module in net.modules():
        if isinstance(module, _ACTIVATIONS):
            module.register_forward_hook(look)
    with torch.no_grad():
        net.train()(batch[0])
    return float(torch.linalg.slogdet(agree)[1])


def _jacob_cov(net: GraphModule, batch: Batch) -> float:
    """Minus the sum of log(v + k) + 1 / (v + k) over the eigenvalues v of the gradients' correlations."""
    x = batch[0]
    if not x.is_floating_point():
        return -math.inf
    x = x.clone().requires_grad_()
    out = net.train()(x)
    if not out.requires_grad:
        return -math.inf
    out.backward(torch.ones_like(out))
    if x.grad is None:  # the output does not depend on the input
        return -math.inf
    rows = x.grad.reshape(len(x), -1).double()
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / (rows.norm(dim=1, keepdim=True) + 1e-30)
    values = torch.linalg.eigvalsh(rows @ rows.T) + 1e-5
    return -float((torch.log(values.clamp_min(1e-12)) + 1 / values).sum())


def _grad_norm(net: GraphModule, batch: Batch) -> float:
    _backward(net, batch)
    return sum(float(w.grad.norm()) for w in net.parameters() if w.grad is not None)


def _snip(net: GraphModule, batch: Batch) -> float:
    _backward(net, batch)
    return sum(float((w.detach() * w.grad).abs().sum()) for w in net.parameters() if w.grad is not None)


def _backward(net: GraphModule, batch: Batch) -> None:
    x, y = batch
    out = net.train()(x)
    if any(w.requires_grad for w in net.parameters()):
        functional.cross_entropy(out.flatten(1), y).backward()  # type: ignore[no-untyped-call]  # torch says nothing


def _without_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _NORMS):
            setattr(module, name, nn.Identity())
        else:
            _without_norms(child)


_MEASURES: dict[str, Callable[[GraphModule, Batch], float]] = {
    "synflow": _synflow, "naswot": _naswot, "jacob_cov": _jacob_cov, "grad_norm": _grad_norm, "snip": _snip,
}
