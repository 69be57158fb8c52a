from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import velodrome as velo
from velodrome.errors import SpaceError
from velodrome.search.arch import operators
from velodrome.search.arch.operators import Shape, ShapeError, make_module, measured

IMAGE, SEQUENCE = (6, 9, 8), (5, 12)

CASES: list[tuple[str, tuple[Shape, ...], dict[str, Any]]] = [
    *[("conv", (IMAGE,), settings) for settings in (
        {}, {"width": 4, "kernel": 5, "stride": 2}, {"groups": 3, "norm": "none"}, {"dilation": 2, "norm": "layer"},
        {"norm": "group", "act": "gelu", "pre": True}, {"width": 10, "kernel": 1, "act": "none"})],
    *[("separable", (IMAGE,), settings) for settings in (
        {}, {"width": 4, "kernel": 5, "stride": 2, "times": 2}, {"dilation": 2})],
    *[("pool", (IMAGE,), settings) for settings in ({}, {"kind": "avg", "stride": 2}, {"width": 3, "stride": 3})],
    *[("skip", (IMAGE,), settings) for settings in ({}, {"stride": 2}, {"width": 3}, {"width": 5, "stride": 2})],
    ("skip", (SEQUENCE,), {}), ("zero", (IMAGE,), {"stride": 2, "width": 3}), ("zero", (SEQUENCE,), {"width": 3}),
    ("zeros", (IMAGE,), {"size": "2x3"}),
    ("residual_block", (IMAGE,), {}), ("residual_block", (IMAGE,), {"width": 4, "stride": 2, "norm": "none"}),
    ("patches", ((3, 8, 12),), {"size": 4, "width": 10}), ("embed", ((5,),), {"vocabulary": 9, "width": 4}),
    ("attention", (SEQUENCE,), {"heads": 3}), ("attention", (SEQUENCE,), {"heads": 2, "causal": True}),
    ("feedforward", (SEQUENCE,), {"ratio": 1.5}), ("feedforward", (SEQUENCE,), {"act": "silu"}),
    ("dense", ((7,),), {"width": 4, "norm": "batch", "dropout": 0.1}),
    ("dense", (SEQUENCE,), {"width": 4, "norm": "layer", "act": "tanh"}), ("dense", (IMAGE,), {}),
    *[("classifier", (shape,), {"classes": 3, "dropout": 0.5}) for shape in (IMAGE, SEQUENCE, (7,))],
    *[(name, (shape,), {}) for name in ("mean", "flatten") for shape in (IMAGE, SEQUENCE, (7,))],
    ("add", (IMAGE, IMAGE, IMAGE), {}), ("concat", (IMAGE, (2, 9, 8)), {}), ("concat", (SEQUENCE, (5, 3)), {}),
    ("residual", (IMAGE, IMAGE), {}), ("residual", (IMAGE, (4, 5, 4)), {}), ("residual", (SEQUENCE, (5, 3)), {}),
    ("residual", ((7,), (3,)), {}), ("align", (IMAGE, (3, 5, 4)), {"width": 2}),
    *[(name, (IMAGE,), {"stride": 2}) for name in (
        "conv1x1", "conv3x3", "conv5x5", "sep3x3", "sep5x5", "dil3x3", "dil5x5", "max3x3", "avg3x3")],
]


@pytest.mark.parametrize(("name", "inputs", "settings"), CASES)
def test_the_arithmetic_is_that_of_the_module(name: str, inputs: tuple[Shape, ...], settings: dict[str, Any]) -> None:
    assert name in operators.operators()
    given = tuple(sorted(settings.items()))
    assert measured(name, given, inputs) == operators._on_meta(name, given, inputs)


@pytest.mark.parametrize(("name", "inputs", "settings"), CASES)
def test_the_module_runs(name: str, inputs: tuple[Shape, ...], settings: dict[str, Any]) -> None:
    module = make_module(name, tuple(sorted(settings.items())), inputs)
    xs = [torch.ones(2, *shape) for shape in inputs]
    out = module(*xs)
    assert tuple(out.shape[1:]) == measured(name, tuple(sorted(settings.items())), inputs).shape
    if any(p.requires_grad for p in module.parameters()):
        out.sum().backward()
        assert all(p.grad is not None for p in module.parameters())


def test_every_built_in_operator_is_tested() -> None:
    built_in = [name for name, op in operators.operators().items() if op.make is None]
    assert sorted(built_in) == sorted({name for name, _, _ in CASES})


@pytest.mark.parametrize(("name", "inputs", "settings", "said"), [
    ("conv", ((4,),), {}, "takes an image"), ("conv", (IMAGE,), {"kernel": 2}, "even"),
    ("conv", (IMAGE,), {"groups": 4}, "do not divide"), ("conv", (IMAGE,), {"norm": "batc"}, "none of batch"),
    ("pool", ((3, 1, 1),), {"stride": 2}, "nothing is left of 3x1x1"),
    ("attention", (SEQUENCE,), {"heads": 5}, "heads"),
    ("patches", (IMAGE,), {"size": 4}, "squares of 4"), ("add", (IMAGE, SEQUENCE), {}, "can't be added"),
    ("concat", (IMAGE, (2, 3, 4)), {}, "can't be joined"), ("residual", (IMAGE, (7,)), {}, "can't be added"),
    ("align", (IMAGE, (3, 7, 4)), {"width": 2}, "can't be brought"), ("embed", (IMAGE,), {"vocabulary": 3}, "token"),
    ("dense", (SEQUENCE,), {"norm": "batch"}, "norm='layer'"),
])
def test_shapes_that_can_not_meet(
    name: str, inputs: tuple[Shape, ...], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ShapeError, match=said):
        measured(name, tuple(sorted(settings.items())), inputs)


def test_an_operator_of_ones_own() -> None:
    @velo.register_op("test_gate")
    def gate(shape: Shape, *, width: int = 3) -> nn.Module:
        return nn.Sequential(nn.Linear(shape[-1], width, bias=False), nn.GLU() if width % 2 == 0 else nn.Identity())

    net = velo.Net((8,), velo.Block("test_gate", width=velo.Choice(3, 4)), velo.Block("classifier", classes=2))
    space = velo.Space(net=net)
    assert space.graph({"net.0.width": 4}).total() == ((2,), 8 * 4 + 3 * 2, 2 * 8 * 4 + 2 * 2 * 2)
    assert space.build({"net.0.width": 3})(torch.zeros(5, 8)).shape == (5, 2)
    assert space.to_json()["params"]["net"]["parts"][0][1]["home"] == __file__


def test_registering_what_is_no_operator() -> None:
    with pytest.raises(SpaceError, match="built-in operator 'conv'"):
        velo.register_op("conv")
    with pytest.raises(SpaceError, match="no text"):
        velo.register_op(3)  # type: ignore[arg-type]  # a mistake that a user makes
    with pytest.raises(SpaceError, match="takes no shape"):
        velo.register_op("test_nothing")(lambda: None)


HOME = """
import velodrome as velo
from torch import nn

@velo.register_op("test_at_home")
def at_home(shape, *, width=3):
    return nn.Linear(shape[-1], width)
{more}
"""


def space_json(home: Path) -> dict[str, Any]:
    """A space whose operator nobody has registered in this process."""
    block = {"part": "block", "op": "test_at_home", "settings": {"width": 2}, "home": str(home)}
    net = {"type": "net", "shape": [4], "part": "chain", "parts": [["0", block]]}
    return {"params": {"net": net}, "constraints": []}


def test_an_operator_is_found_in_the_file_that_registered_it(tmp_path: Path) -> None:
    home = tmp_path / "home.py"
    space = velo.Space.from_json(space_json(home))
    with pytest.raises(SpaceError, match=r"'test_at_home' of 'net\.0' is not registered"):
        space.graph({}).total()
    home.write_text(HOME.replace("{more}", "1 / 0"))
    with pytest.raises(SpaceError, match=r"registers operator 'test_at_home' of 'net\.0' raised ZeroDivisionError"):
        space.graph({}).total()
    del operators._OPS["test_at_home"]  # the file got as far as that
    home.write_text(HOME.replace("{more}", ""))
    assert velo.Space.from_json(space_json(home)).graph({}).total().shape == (2,)
