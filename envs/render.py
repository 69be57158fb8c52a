"""Pictures of the simulators, drawn with NumPy: what ``SimEnv.render`` returns.

The five classic tasks look as Gymnasium's do; a grid world is shown whole, also what the agent can't see; a MinAtar
game has a colour for each of its channels. Probes have nothing to show.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from velodrome.envs.canvas import Canvas, Colour, Frame, cells

State = NDArray[Any]
_BLACK: Colour = (0, 0, 0)
_GREY: Colour = (128, 128, 128)
_YELLOW: Colour = (204, 204, 0)


@dataclass(frozen=True, slots=True)
class Picture:
    """How a simulator is drawn.

    Attributes:
        draw: From the state of one environment ``[num_variables]`` and its observation to ``[H, W, 3]``.
        fps: Frames a second that look right.
    """

    draw: Callable[[State, NDArray[Any]], Frame]
    fps: int


def picture(simulator: str) -> Picture | None:
    """How the simulator of that name is drawn; None if it can't be."""
    return _PICTURES.get(simulator.partition("-")[0])


def draw_cart_pole(state: State, _obs: NDArray[Any]) -> Frame:
    """A cart on its track, and the pole on it."""
    canvas = Canvas(480, 320)
    x, y = 240 + state[0] * 100, 80.0
    canvas.line((0, y), (480, y), 1, _BLACK)
    canvas.box((x, y), 0.0, (-20, 20), (-12, 12), _BLACK)
    axle = x, y + 6
    canvas.box(axle, math.pi / 2 - state[2], (-4, 96), (-4, 4), (202, 152, 101))
    canvas.disc(axle, 4, (129, 132, 203))
    return canvas.frame


def draw_acrobot(state: State, _obs: NDArray[Any]) -> Frame:
    """Two links, and the height that the tip is to reach."""
    canvas, scale = Canvas(400, 400), 400 / 4.4
    canvas.line((0, 200 + scale), (400, 200 + scale), 1, _BLACK)
    joint, angle = (200.0, 200.0), state[0] - math.pi / 2
    for turn in (0.0, state[1]):
        angle += turn
        canvas.box(joint, angle, (0, scale), (-0.1 * scale, 0.1 * scale), (0, 204, 204))
        canvas.disc(joint, 0.1 * scale, _YELLOW)
        joint = joint[0] + scale * math.cos(angle), joint[1] + scale * math.sin(angle)
    return canvas.frame


def draw_mountain_car(state: State, _obs: NDArray[Any]) -> Frame:
    """A car between two hills, and the flag on the right one."""
    canvas = Canvas(480, 320)
    canvas.frame[:] = _hills()
    (x, y), slope = _on_hill(state[0]), math.atan(1.35 * math.cos(3 * state[0]))
    canvas.box((x, y), slope, (-16, 16), (8, 24), _BLACK)
    for side in (-8.0, 8.0):
        cos, sin = math.cos(slope), math.sin(slope)
        canvas.disc((x + side * cos - 7 * sin, y + side * sin + 7 * cos), 6.5, _GREY)
    return canvas.frame


def draw_pendulum(state: State, _obs: NDArray[Any]) -> Frame:
    """A rod that hangs from its axle, or stands on it."""
    canvas, scale, colour = Canvas(400, 400), 400 / 4.4, (204, 77, 77)
    axle, angle = (200.0, 200.0), state[0] + math.pi / 2
    canvas.box(axle, angle, (0, scale), (-0.1 * scale, 0.1 * scale), colour)
    for centre in (axle, (200 + scale * math.cos(angle), 200 + scale * math.sin(angle))):
        canvas.disc(centre, 0.1 * scale, colour)
    canvas.disc(axle, 0.05 * scale, _BLACK)
    return canvas.frame


def draw_door_key(state: State, _obs: NDArray[Any]) -> Frame:
    """The whole level of DoorKey, with the key that the agent carries beside it."""
    from velodrome.envs.simulators import grid_door_key as door_key

    column = np.ascontiguousarray(state[:, None])
    level = door_key.level_of(column, 0)
    carries = state[door_key.KEY_X] == door_key.CARRIED
    return _draw_grid(state, int(state[door_key.SIZE]), lambda x, y: door_key.cell_at(level, x, y), carries=carries)


def draw_four_rooms(state: State, _obs: NDArray[Any]) -> Frame:
    """The whole level of FourRooms."""
    from velodrome.envs.simulators import grid_four_rooms as four_rooms

    level = four_rooms.level_of(np.ascontiguousarray(state[:, None]), 0)
    return _draw_grid(state, 19, lambda x, y: four_rooms.cell_at(level, x, y), carries=False)


def draw_channels(_state: State, obs: NDArray[Any]) -> Frame:
    """The channels ``[H, W, C]`` of an observation, each in its colour, the first on top."""
    colours = np.full((*obs.shape[:2], 3), (24, 24, 32), np.uint8)
    for channel in reversed(range(obs.shape[2])):
        colours[obs[:, :, channel].astype(np.bool_)] = _CHANNEL_COLOURS[channel]
    return cells(colours, 32)


_CHANNEL_COLOURS: tuple[Colour, ...] = (
    (255, 255, 255), (255, 99, 71), (150, 80, 60), (80, 160, 255), (90, 210, 110), (240, 200, 70), (190, 110, 240),
    (40, 120, 150), (255, 150, 200), (0, 220, 220),
)
"""Of the player, which is the first channel of every game, and the others."""


@cache
def _hills() -> Frame:
    """What stays the same in MountainCar."""
    canvas = Canvas(480, 320)
    for start, end in pairwise(_on_hill(position) for position in np.linspace(-1.2, 0.6, 61)):
        canvas.line(start, end, 1.5, _BLACK)
    x, y = _on_hill(0.5)
    canvas.line((x, y), (x, y + 40), 1.5, _BLACK)
    canvas.polygon([(x, y + 40), (x, y + 32), (x + 20, y + 36)], _YELLOW)
    return canvas.frame


def _on_hill(position: float) -> tuple[float, float]:
    """Where a position of MountainCar is in the picture."""
    scale = 480 / 1.8
    return (position + 1.2) * scale, (math.sin(3 * position) * 0.45 + 0.55) * scale


def _draw_grid(state: State, size: int, cell_at: Callable[[int, int], int], *, carries: bool) -> Frame:
    """A grid world of ``size`` by ``size`` cells; ``state`` begins as ``grid_view`` says."""
    from velodrome.envs.simulators import grid_view as grid

    pixels = 2 * (160 // size)
    level = {(x, y): cell_at(x, y) for x in range(size) for y in range(size)}
    floor, wall, goal, door = (36, 36, 42), (128, 128, 128), (60, 170, 80), (160, 100, 40)
    colour_of = {grid.WALL: wall, grid.GOAL: goal, grid.LOCKED: door, grid.CLOSED: door, grid.OPEN: floor}
    colours = np.array([[colour_of.get(level[x, y], floor) for x in range(size)] for y in range(size)], np.uint8)
    canvas = Canvas(size * pixels, size * pixels)
    canvas.frame[:] = cells(colours, pixels)

    def middle(x: float, y: float) -> tuple[float, float]:
        return (x + 0.5) * pixels, (size - y - 0.5) * pixels

    for place, cell in level.items():
        x, y = middle(*place)
        if cell == grid.KEY:
            _draw_key(canvas, x, y, pixels)
        elif cell == grid.LOCKED:
            canvas.disc((x, y), 0.14 * pixels, _YELLOW)
        elif cell == grid.OPEN:
            canvas.box((x, y), 0.0, (-0.45 * pixels, -0.3 * pixels), (-0.45 * pixels, 0.45 * pixels), door)
    x, y = middle(state[grid.X], state[grid.Y])
    angle = -math.pi / 2 * state[grid.DIRECTION]
    corners = [angle, angle + 0.75 * math.pi, angle - 0.75 * math.pi]
    canvas.polygon([(x + 0.4 * pixels * math.cos(a), y + 0.4 * pixels * math.sin(a)) for a in corners], (220, 60, 60))
    if carries:
        _draw_key(canvas, x, y, pixels // 2)
    return canvas.frame


def _draw_key(canvas: Canvas, x: float, y: float, size: int) -> None:
    canvas.box((x, y), 0.0, (-0.06 * size, 0.06 * size), (-0.4 * size, 0.1 * size), _YELLOW)
    canvas.box((x, y), 0.0, (0.0, 0.2 * size), (-0.4 * size, -0.28 * size), _YELLOW)
    canvas.disc((x, y + 0.2 * size), 0.18 * size, _YELLOW)
    canvas.disc((x, y + 0.2 * size), 0.08 * size, _BLACK)


_PICTURES = {
    "CartPole": Picture(draw_cart_pole, 50), "CartPoleNoVelocity": Picture(draw_cart_pole, 50),
    "Acrobot": Picture(draw_acrobot, 15),
    "MountainCar": Picture(draw_mountain_car, 30), "MountainCarContinuous": Picture(draw_mountain_car, 30),
    "Pendulum": Picture(draw_pendulum, 30), "PendulumNoVelocity": Picture(draw_pendulum, 30),
    "DoorKey": Picture(draw_door_key, 5), "FourRooms": Picture(draw_four_rooms, 5),
    "MinAtar": Picture(draw_channels, 10),
}
"""By the simulator's name up to its first dash."""
