from __future__ import annotations

import doctest
import importlib.util
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import velodrome as velo
from tests.search.arch.nets import NETS
from velodrome.errors import UsageError
from velodrome.search.arch import cell, draw, net, parts, repeat
from velodrome.search.arch.export import python_source
from velodrome.search.arch.weights import load_weights

HALF = 0.5


def halved(x: torch.Tensor) -> torch.Tensor:
    return x * HALF


class Halve(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return halved(x) + math.floor(0.5)


@velo.register_op("test_halve")
def halve(shape: tuple[int, ...], *, twice: bool = False) -> nn.Module:
    return nn.Sequential(Halve(), Halve()) if twice else Halve()


OWN = velo.Net((4,), own=velo.Block("test_halve", twice=True), head=velo.Block("classifier", classes=2))


def loaded(source: str, folder: Path) -> Any:
    """The module that the source is; it does not import velodrome."""
    assert "velodrome" not in source
    path = folder / "exported.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["own", "edges", "transformer", "darts"])
def test_an_exported_net_is_the_same_net(name: str, tmp_path: Path) -> None:
    space = velo.Space(net={**NETS, "own": OWN}[name])
    params = space.sample(np.random.default_rng(4))
    built = space.build(params).eval()
    exported = loaded(python_source(space.graph(params), "A test's net"), tmp_path).Net().eval()
    exported.load_state_dict(built.state_dict())
    x = torch.rand(3, *space.graph(params).shape)
    torch.testing.assert_close(exported(x), built(x), rtol=0, atol=0)


def test_text_shows_each_node_with_its_shape() -> None:
    cells = velo.Cell("conv3x3", "skip", nodes=2)
    space = velo.Space(net=velo.Net((3, 8, 8), cells, velo.Block("classifier", classes=2)))
    params = {"net.0.0-1": "conv3x3", "net.0.0-2": "skip", "net.0.1-2": "conv3x3"}
    assert draw.text(draw.drawing_of(space.graph(params))).splitlines() == [
        "o    input                            3x8x8",
        "| o  net.0.0-1  conv3x3               3x8x8  87 parameters",
        "| o  net.0.1-2  conv3x3               3x8x8  87 parameters",
        "o .  net.0.2    add                   3x8x8                 reads input, net.0.1-2",
        "o    net.1      classifier classes=2  2       8 parameters",
    ]


@pytest.mark.parametrize("name", list(NETS))
def test_an_svg_has_a_box_for_each_node_and_a_line_for_each_edge(name: str) -> None:
    space = velo.Space(net=NETS[name])
    graph = space.graph(space.sample(np.random.default_rng(0)))
    drawing = draw.drawing_of(graph)
    root = ET.fromstring(draw.svg(drawing))
    space_name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f".//{space_name}rect")) == len(drawing.graph.nodes)
    assert len(root.findall(f".//{space_name}path")) == sum(len(n.inputs) for n in drawing.graph.nodes)
    assert draw.text(drawing).count("\n") == len(drawing.graph.nodes) - 1
    assert [row["node"] for row in draw.rows(drawing)] == [n.name for n in drawing.graph.nodes]


def test_a_net_with_a_missing_operator_is_drawn_without_sizes() -> None:
    graph = velo.Space(net=velo.Net((3,), a=velo.Block("test_absent"))).graph({})
    drawing = draw.drawing_of(graph)
    assert drawing.measures is None
    assert "test_absent" in draw.text(drawing)
    assert "test_absent" in draw.svg(drawing)


def test_weights_are_found_wherever_they_stand_in_a_checkpoint() -> None:
    space = velo.Space(net=OWN)
    one, two = space.build({}), space.build({})
    for state in (one.state_dict(), {"model": one.state_dict()}, {"epoch": 3, "nets": {"ema": one.state_dict()}}):
        load_weights(two, state, "trial 3")
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    with pytest.raises(UsageError, match=r"checkpoint of trial 3[^§]*dict with 'model'"):
        load_weights(two, {"model": {"x": 1}}, "trial 3")


@pytest.mark.parametrize("module", [cell, draw, net, parts, repeat])
def test_examples_in_docstrings(module: Any) -> None:
    names = {"Int": velo.Int, "Repeat": velo.Repeat, "Block": velo.Block}
    result = doctest.testmod(module, extraglobs=names)
    assert result.failed == 0
    assert result.attempted > 0


def test_weights_that_a_training_job_keeps_in_two_parts() -> None:
    space = velo.Space(net=velo.Net((4,), velo.Block("dense", width=3, norm="batch")))
    trained, fresh = space.build({}), space.build({})
    trained(torch.randn(8, 4))  # the norm's averages move
    state = {"step": 1, "parameters": dict(trained.named_parameters()), "buffers": dict(trained.named_buffers())}
    load_weights(fresh, state, "trial 0")
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in fresh.state_dict().items())
    del state["buffers"]
    with pytest.raises(UsageError, match="no weights for the net"):
        load_weights(fresh, state, "trial 0")
