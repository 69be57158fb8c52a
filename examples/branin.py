"""Two small solvers walk down Branin's function: which of them, and with which settings, gets lowest in 60 steps?

Plain Python and instant, so it is the example to try velo's commands on. It has a choice with parameters of its own,
a report per step, and settings that go wrong: a descent whose rate is too high runs off to infinity.

    velo sweep examples/branin.py --trials 200 --scheduler asha
"""

import math
import random

import velodrome as velo

STEPS = 60
SPACE = velo.Space(
    solver=velo.Choice(
        descent={"rate": velo.Float(1e-4, 1.0, log=True), "momentum": velo.Float(0.0, 0.9)},
        annealing={"temperature": velo.Float(0.1, 100.0, log=True), "cooling": velo.Float(0.8, 1.0)},
    ),
    start=velo.Choice("corner", "centre"),
)
B, C, R, S = 5.1 / (4 * math.pi**2), 5 / math.pi, 6.0, 10 * (1 - 1 / (8 * math.pi))


def branin(x: float, y: float) -> float:
    """Branin's function; its least value is 0.397887. (Dixon and Szego 1978.)"""
    if abs(x) > 1e6:
        return math.inf
    return (y - B * x * x + C * x - R) ** 2 + S * math.cos(x) + 10


def gradient(x: float, y: float) -> tuple[float, float]:
    """Its slope along x and along y."""
    root = y - B * x * x + C * x - R
    return 2 * root * (C - 2 * B * x) - S * math.sin(x), 2 * root


@velo.objective(SPACE, goal="minimize value")
def solve(trial: velo.Trial) -> float:
    """Walks 60 steps and returns the value at the end."""
    params, rng = trial.params, random.Random(trial.seed)
    x, y = (-5.0, 15.0) if params["start"] == "corner" else (2.5, 7.5)
    value, dx, dy = branin(x, y), 0.0, 0.0
    for step in range(1, STEPS + 1):
        if params["solver"] == "descent":
            slope_x, slope_y = gradient(x, y)
            dx = params["solver.momentum"] * dx - params["solver.rate"] * slope_x
            dy = params["solver.momentum"] * dy - params["solver.rate"] * slope_y
            x, y, value = x + dx, y + dy, branin(x + dx, y + dy)
        else:  # a random step, taken if it goes down, or up with a chance that shrinks as the temperature falls
            x_next, y_next = x + rng.gauss(0, 1), y + rng.gauss(0, 1)
            rise = branin(x_next, y_next) - value
            temperature = params["solver.temperature"] * params["solver.cooling"] ** step
            if rise <= 0 or rng.random() < math.exp(-rise / temperature):
                x, y, value = x_next, y_next, value + rise
        trial.report(step, value=value, x=x, y=y)
        if trial.should_stop or not math.isfinite(value):
            break
    return value
