from __future__ import annotations

import json
import pickle
import re
from typing import Any

import numpy as np
import pytest

import velodrome as velo
from tests.search.arch.nets import CNN, MLP, NETS
from velodrome.errors import SpaceError
from velodrome.search.arch.graph import ArchitectureError
from velodrome.search.grid import Grid


@pytest.mark.parametrize("name", list(NETS))
def test_a_space_with_a_net_is_json_and_python(name: str) -> None:
    space = velo.Space(lr=velo.Float(0, 1), net=NETS[name])
    again = velo.Space.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert hash(again) == hash(space)
    assert eval(repr(space), {n: getattr(velo, n) for n in velo.__all__}) == space
    assert pickle.loads(pickle.dumps(space)) == space
    params = space.sample(np.random.default_rng(0))
    assert again.sample(np.random.default_rng(0)) == params
    assert again.graph(params).key() == space.graph(params).key()


def test_parameters_are_flat_and_plain() -> None:
    space = velo.Space(net=CNN)
    params = space.sample(np.random.default_rng(3))
    space.check(params)
    assert json.loads(json.dumps(params)) == params
    depth = params["net.body"]
    assert [n for n in params if re.fullmatch(r"net\.body\.\d\.0\.width", n)] == [
        f"net.body.{i}.0.width" for i in range(int(str(depth)))]


def test_shared_copies_have_one_set_of_parameters() -> None:
    space = velo.Space(net=velo.Net((4,), velo.Repeat(velo.Block("dense", width=velo.Int(2, 9)), times=3, shared=True)))
    assert list(space.domains) == ["net.0.width"]
    graph = space.graph({"net.0.width": 5})
    assert [n.name for n in graph.nodes] == ["input", "net.0.0", "net.0.1", "net.0.2"]
    assert graph.total().params == (4 + 1) * 5 + 2 * (5 + 1) * 5


def test_a_constraint_on_the_nets_size() -> None:
    space = velo.Space(width=velo.Int(1, 5), net=MLP, constraints=["params <= 150", "flops < 1e6", "width < 4"])
    for seed in range(20):
        params = space.sample(np.random.default_rng(seed))
        assert space.graph(params).total().params <= 150
        assert int(str(params["width"])) < 4
    big = {"width": 1, "net.body": 2} | {
        f"net.body.{i}.{k}": v for i in (0, 1) for k, v in (("skip", True), ("part.width", 16), ("part.norm", "none"))}
    with pytest.raises(SpaceError, match=r"breaks a constraint[^§]*'params': \d+[^§]*params <= 150"):
        space.check(big)


def test_a_constraint_that_no_net_meets() -> None:
    with pytest.raises(SpaceError, match=r"params < 3'[^§]*let the nets be smaller"):
        velo.Space(net=MLP, constraints="params < 3").sample(np.random.default_rng(0))
    with pytest.raises(SpaceError, match=r"'parms'[^§]*Did you mean 'params'"):
        velo.Space(net=MLP, constraints="parms < 3")


def test_a_parameter_called_params_is_meant_first() -> None:
    space = velo.Space(params=velo.Int(1, 9), net=MLP, constraints="params < 3")
    assert all(space.sample(np.random.default_rng(seed))["params"] in (1, 2) for seed in range(9))


def test_nets_inside_a_choice() -> None:
    space = velo.Space(model=velo.Choice("none", cnn={"lr": velo.Float(0, 1), "net": CNN}, mlp={"flat": MLP}))
    assert velo.Space.from_json(space.to_json()) == space
    assert list(space.nets) == ["model.net", "model.flat"]
    seen = set()
    for seed in range(12):
        params = space.sample(np.random.default_rng(seed))
        space.check(params)
        seen.add(params["model"])
        if params["model"] == "none":
            with pytest.raises(SpaceError, match="has no such net"):
                space.graph(params)
        else:
            assert space.graph(params).shape == (CNN if params["model"] == "cnn" else MLP).shape
    assert seen == {"none", "cnn", "mlp"}


def test_several_nets_are_told_apart_by_name() -> None:
    space = velo.Space(actor=MLP, critic=MLP)
    params = space.sample(np.random.default_rng(0))
    with pytest.raises(SpaceError, match=r"Which net is meant\?[^§]*actor, critic"):
        space.build(params)
    assert space.graph(params, "critic").nodes[1].name.startswith("critic.")
    with pytest.raises(SpaceError, match="Did you mean 'critic'"):
        space.build(params, "critik")


def test_a_grid_over_a_cell() -> None:
    space = velo.Space(net=velo.Net((4, 6, 6), velo.Cell("skip", "conv3x3", "zero", nodes=2)))
    grid = Grid(space)
    assert len(grid) == space.cardinality == 27
    assert len({space.key(grid.point(i)) for i in range(27)}) == 27


def test_darts_nodes_read_two_earlier_ones() -> None:
    domains = velo.darts_cell(8).domains()
    assert {n: d.options for n, d in domains.items() if n.endswith("from")} == {
        "3.from": ("0,1", "0,2", "1,2"), "4.from": ("0,1", "0,2", "0,3", "1,2", "1,3", "2,3"),
        "5.from": tuple(f"{a},{b}" for a in range(5) for b in range(a + 1, 5)),
    }
    assert list(domains)[:2] == ["0-2", "1-2"]


WRONG: list[tuple[Any, str]] = [
    (velo.Cell("skip", edges=[(0, 1), (1, 2), (2, 3), (3, 1)]), r"Cell 'net\.x' has a cycle: 1 -> 2 -> 3 -> 1"),
    (velo.Cell("skip", edges=[(0, 1), (2, 3)]), r"Node 2 of cell 'net\.x' has no edge to it"),
    (velo.Cell("skip", edges=[(1, 0)]), "can't be"), (velo.Cell("skip", edges=[]), "has no edges"),
    (velo.Cell(nodes=2), "no operators"), (velo.Cell("skip", nodes=0), "nodes"),
    (velo.Cell("skip", inputs=3), "inputs=3"),
    (velo.Cell("dense", reduce=True), "'dense' of 'net.x' has no stride"),
    (velo.Block("conv", widht=3), r"no setting 'widht'[^§]*Did you mean 'width'"),
    (velo.Block("classifier"), "needs the setting 'classes'"),
    (velo.Block("conv", width=[3]), "no value and no domain"),
    (velo.Block("conv", width=velo.Choice(a={"b": velo.Int(1, 2)})), "has parameters inside its options"),
    (velo.Block("conv", width=velo.Int(5, 2)), r"'net\.x\.width'"), (velo.Block(3), "has no operator"),  # type: ignore[arg-type]
    (velo.Chain(), "has no parts"), (velo.Either(), "has no parts"), (velo.Either("skip", "skip"), "two|Two"),
    (velo.Repeat(velo.Block("skip"), times=-1), "number of times"), (velo.Repeat(3), "no part of a net"),  # type: ignore[arg-type]
    (velo.Repeat(velo.Block("skip"), times=velo.Choice("a")), "number of times"), (7, "no part of a net"),
]


@pytest.mark.parametrize(("part", "said"), WRONG)
def test_a_mistake_names_the_part(part: Any, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        velo.Space(net=velo.Net((3, 8, 8), x=part))


@pytest.mark.parametrize("shape", [(), 3, (3, 0), ("a",)])
def test_a_net_without_a_shape(shape: Any) -> None:
    with pytest.raises(SpaceError, match="has no input shape"):
        velo.Space(net=velo.Net(shape, "skip"))


def test_json_that_is_no_net() -> None:
    good = velo.Space(net=MLP).to_json()
    good["params"]["net"]["parts"][0][1]["of"]["part"] = "spiral"
    with pytest.raises(SpaceError, match="is not described as a part of a net"):
        velo.Space.from_json(good)


def test_shapes_that_depend_on_the_configuration_are_searched_around() -> None:
    space = velo.Space(net=NETS["transformer"])
    seen = {(p["net.embed.width"], p["net.body.0.heads"]) for p in (
        space.sample(np.random.default_rng(seed)) for seed in range(40))}
    assert seen == {(8, 2), (8, 4), (12, 2), (12, 3), (12, 4)}
    with pytest.raises(ArchitectureError, match=r"Node 'net\.body\.0\.0' \(attention, heads=3\).*3 heads do not"):
        space.check({"net.embed.width": 8, "net.body": 1, "net.body.0.heads": 3, "net.body.1.ratio": 1})
