"""Architectures for tests: one of each style."""

from __future__ import annotations

import velodrome as velo

CELL = velo.Net((4, 8, 8), cell=velo.nas201_cell())
CNN = velo.Net(
    (1, 8, 8), stem=velo.Block("conv", width=8),
    body=velo.Repeat(velo.Chain(
        velo.Block("conv", width=velo.Choice(4, 8), kernel=velo.Choice(3, 5), act=velo.Choice("relu", "gelu")),
        velo.Either("skip", pool=velo.Block("pool", kind=velo.Choice("max", "avg"), stride=2)),
    ), times=velo.Int(1, 5)),
    head=velo.Block("classifier", classes=3),
)
TRANSFORMER = velo.Net(
    (6,), embed=velo.Block("embed", vocabulary=20, width=velo.Choice(8, 12)),
    body=velo.Repeat(velo.Chain(
        velo.Block("attention", heads=velo.Choice(2, 3, 4)), velo.Block("feedforward", ratio=velo.Choice(1, 2)),
    ), times=velo.Int(1, 3), shared=True),
    head=velo.Block("classifier", classes=3),
)
DARTS = velo.Net(
    (3, 8, 8), stem=velo.Block("conv", width=4), first=velo.Repeat(velo.darts_cell(4), times=2, shared=True),
    smaller=velo.darts_cell(8, reduce=True), last=velo.darts_cell(8), head=velo.Block("classifier", classes=3),
)
MLP = velo.Net(
    (10,), body=velo.Repeat(velo.Residual(
        velo.Block("dense", width=velo.Int(4, 16), norm=velo.Choice("none", "batch", "layer")),
        skip=velo.Choice(True, False),
    ), times=velo.Int(0, 3)),
    head=velo.Block("classifier", classes=3),
)
EDGES = velo.Net((4, 8, 8), cell=velo.Cell("conv3x3", "skip", edges=[(0, 2), (2, 1), (0, 1), (1, 3)]))
NETS = {"cell": CELL, "cnn": CNN, "transformer": TRANSFORMER, "darts": DARTS, "mlp": MLP, "edges": EDGES}
