"""Search spaces that are known from the literature."""

from __future__ import annotations

from velodrome.search.arch.cell import Cell
from velodrome.search.arch.net import Net
from velodrome.search.arch.operators import Shape
from velodrome.search.arch.parts import Block
from velodrome.search.arch.repeat import Repeat


def nas201_cell() -> Cell:
    """The cell of NAS-Bench-201: six edges, five operators, 15,625 architectures."""
    return Cell("zero", "skip", "conv1x1", "conv3x3", "avg3x3", nodes=3)


def nas201_net(
    shape: Shape = (3, 32, 32), *, width: int = 16, cells: int = 5, classes: int = 10
) -> Net:
    """The nets of NAS-Bench-201: three stages of the same cell, each with half the size and twice the channels."""
    return Net(
        shape, stem=Block("conv", width=width, act="none"),
        body=Repeat(Repeat(nas201_cell(), times=cells, shared=True), times=3, shared=True,
                    between=Block("residual_block", stride=2, grow=2)),
        head=Block("classifier", classes=classes),
    )


def darts_cell(width: int, *, reduce: bool = False) -> Cell:
    """A cell of DARTS: four nodes that read two earlier ones each, two inputs, all nodes joined."""
    return Cell("skip", "sep3x3", "sep5x5", "dil3x3", "dil5x5", "max3x3", "avg3x3", nodes=4, picks=2, inputs=2,
                output="concat", width=width, reduce=reduce)
