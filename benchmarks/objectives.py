"""Objectives that do nothing, so that what is measured is the system around them."""

from __future__ import annotations

import velodrome as velo

SPACE = velo.Space(
    lr=velo.Float(1e-5, 1e-1, log=True),
    dropout=velo.Float(0.0, 0.9),
    momentum=velo.Float(0.0, 0.99),
    decay=velo.Float(1e-8, 1e-2, log=True),
    smoothing=velo.Float(0.0, 0.5, step=0.05),
    width=velo.Int(16, 1024, log=True),
    depth=velo.Int(1, 12),
    batch=velo.Int(32, 512, step=32),
    activation=velo.Choice("relu", "gelu", "tanh"),
    norm=velo.Choice("none", "batch", "layer"),
)


@velo.objective(SPACE, goal="minimize value")
def noop(trial: velo.Trial) -> float:
    """One figure, at once."""
    return (trial.params["dropout"] - 0.3) ** 2 + trial.params["depth"] * 0.01


@velo.objective(SPACE, goal="minimize value")
def reports(trial: velo.Trial) -> float:
    """Twenty reports of three metrics."""
    value = 1.0
    for step in range(20):
        value = trial.params["dropout"] / (step + 1)
        trial.report(step, value=value, loss=2.0 * value, accuracy=1.0 - value)
    return value
