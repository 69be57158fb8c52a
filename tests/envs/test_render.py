"""Pictures of the simulators, and what they are drawn with."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
import pytest

import velodrome.envs  # noqa: F401 - registers the simulators
from velodrome.envs.canvas import Canvas, cells
from velodrome.envs.render import picture
from velodrome.envs.simulators.catalogue import CATALOGUE
from velodrome.errors import UsageError

DRAWN = [name for name in CATALOGUE if not name.startswith("Probe")]


def area(canvas: Canvas) -> float:
    """Pixels that are black, parts of pixels included, on white."""
    return float((255.0 - canvas.frame[..., 0]).sum() / 255.0)


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0, math.pi / 2, 2.5, -1.0])
def test_a_box_covers_its_area_wherever_it_is_turned(angle: float) -> None:
    canvas = Canvas(80, 60)
    canvas.box((40.3, 30.7), angle, (-15, 10), (-6, 3), (0, 0, 0))
    assert area(canvas) == pytest.approx(25 * 9, rel=0.01)


def test_discs_and_lines_cover_theirs() -> None:
    disc, line = Canvas(50, 50), Canvas(50, 50)
    disc.disc((25.2, 24.9), 12.0, (0, 0, 0))
    line.line((5, 5), (35, 45), 2.0, (0, 0, 0))
    assert area(disc) == pytest.approx(math.pi * 144, rel=0.01)
    assert area(line) == pytest.approx(50 * 2, rel=0.02)


def test_y_goes_up_and_what_is_outside_is_left_out() -> None:
    canvas = Canvas(20, 10)
    canvas.box((0, 8), 0.0, (-5, 5), (0, 5), (0, 0, 0))
    assert (canvas.frame[:2, :5] == 0).all()
    assert (canvas.frame[2:] == 255).all()
    canvas.disc((500, 500), 3, (0, 0, 0))
    assert area(canvas) == 10


def test_cells_have_their_colours() -> None:
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    frame = cells(colours, 4)
    assert frame.shape == (8, 12, 3)
    assert (frame[2::4, 2::4] == colours).all()


@pytest.mark.parametrize("name", DRAWN)
def test_every_simulator_but_the_probes_is_drawn_as_it_moves(name: str) -> None:
    env = gym.make(f"velodrome/{name}", render_mode="rgb_array", disable_env_checker=True)
    assert env.metadata["render_fps"] >= 5
    env.reset(seed=1)
    env.action_space.seed(1)
    frames = [env.render()]
    for _ in range(8):
        env.step(env.action_space.sample())
        frames.append(env.render())
    first = frames[0]
    assert isinstance(first, np.ndarray)
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert min(first.shape[:2]) >= 200
    assert any(not np.array_equal(first, frame) for frame in frames[1:])
    env.reset(seed=1)
    assert np.array_equal(env.render(), first)
    env.close()


def test_a_pole_is_where_the_state_says() -> None:
    drawn = picture("CartPole-v1")
    assert drawn is not None
    brown = [np.argwhere(drawn.draw(np.array([x, 0.0, angle, 0.0]), np.zeros(4))[..., 2] == 101)
             for x, angle in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.2))]
    upright, right, leaning = (rows[:, 1].mean() for rows in brown)
    assert upright == pytest.approx(240, abs=1)
    assert right == pytest.approx(340, abs=1)
    assert upright + 5 < leaning < upright + 15  # a positive angle leans to the right


def test_a_grid_is_shown_whole() -> None:
    env = gym.make("velodrome/DoorKey-5x5-v0", render_mode="rgb_array")
    env.reset(seed=1)
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    middles = frame[32::64, 32::64]
    assert middles.shape == (5, 5, 3)
    assert (middles[[0, 4]] == 128).all()  # walls
    assert (frame[3 * 64 + 5, 3 * 64 + 5] == (60, 170, 80)).all()  # the goal in its corner
    env.close()


@pytest.mark.parametrize(("name", "mode"), [("ProbeAction-v0", "rgb_array"), ("CartPole-v1", "ansi")])
def test_what_can_not_be_drawn(name: str, mode: str) -> None:
    from velodrome.envs.simulators.single_env import SimEnv

    with pytest.raises(UsageError, match="can't be drawn"):
        SimEnv(name, render_mode=mode)
    assert SimEnv(name).render() is None
