"""The grid worlds: MiniGrid's rules step by step, its layouts, the view, and that every level can be solved.

What all simulators do (seeds, batches, saved states, autoreset) is tested in ``test_simulators``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from velodrome.envs.simulators import grid_door_key as door_key
from velodrome.envs.simulators import grid_four_rooms as four_rooms
from velodrome.envs.simulators.batch import SimBatch
from velodrome.envs.simulators.catalogue import simulator
from velodrome.envs.simulators.grid_view import (
    CLOSED,
    DIRECTION,
    DONE,
    DROP,
    EMPTY,
    FORWARD,
    GOAL,
    KEY,
    LEFT,
    LOCKED,
    OPEN,
    PICKUP,
    RIGHT,
    STEPS,
    TOGGLE,
    VIEW,
    WALL,
    X,
    Y,
    show,
)
from velodrome.envs.simulators.simulator import DISABLED

SIZES = {"DoorKey-5x5-v0": 5, "DoorKey-6x6-v0": 6, "DoorKey-8x8-v0": 8, "FourRooms-v0": 19}
MINIGRID_CODES = {
    0: (0, 0, 0), EMPTY: (1, 0, 0), WALL: (2, 5, 0), GOAL: (8, 1, 0), KEY: (5, 4, 0), OPEN: (4, 4, 0),
    CLOSED: (4, 4, 1), LOCKED: (4, 4, 2),
}
LETTERS = {0: " ", EMPTY: ".", WALL: "#", GOAL: "G", KEY: "k", OPEN: "/", CLOSED: "D", LOCKED: "L"}
HEADINGS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def cells(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The cell of each place in a view: planes as the bits of a number."""
    return (obs * (1 << np.arange(obs.shape[-1]))).sum(-1)


def as_minigrid(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Object, colour and state."""
    table = np.full((64, 3), 255, np.uint8)
    for cell, codes in MINIGRID_CODES.items():
        table[cell] = codes
    return table[cells(obs)]


def batch(name: str, num_envs: int = 1, seed: int = 1) -> SimBatch:
    made = SimBatch(simulator(name), num_envs, mode=DISABLED, max_episode_steps=simulator(name).max_episode_steps)
    made.reset(seed)
    return made


def variables(envs: SimBatch, row: int = 0) -> list[int]:
    return [int(v) for v in envs.get_state()["state"][:, row]]


def cell(name: str, state: list[int], x: int, y: int) -> int:
    """The cell by a description of the level that is not the simulator's."""
    size = SIZES[name]
    if not (0 < x < size - 1 and 0 < y < size - 1):
        return WALL
    if name == "FourRooms-v0":
        gaps = {(9, state[four_rooms.NORTH_GAP]), (9, state[four_rooms.SOUTH_GAP]),
                (state[four_rooms.WEST_GAP], 9), (state[four_rooms.EAST_GAP], 9)}
        if (x, y) == (state[four_rooms.GOAL_X], state[four_rooms.GOAL_Y]):
            return GOAL
        return WALL if 9 in (x, y) and (x, y) not in gaps else EMPTY
    if x == state[door_key.WALL_X]:
        return state[door_key.DOOR] if y == state[door_key.DOOR_Y] else WALL
    if (x, y) == (state[door_key.KEY_X], state[door_key.KEY_Y]):
        return KEY
    return GOAL if (x, y) == (size - 2, size - 2) else EMPTY


def plan(name: str, state: list[int]) -> list[int]:
    """The shortest way to the goal, by breadth-first search over place, direction, and what became of key and door."""
    locked = name != "FourRooms-v0"
    start = (state[X], state[Y], state[DIRECTION], not locked, not locked)
    before: dict[Any, Any] = {start: None}
    queue = deque([start])
    while queue:
        here = queue.popleft()
        x, y, direction, has_key, is_open = here
        ahead = x + HEADINGS[direction][0], y + HEADINGS[direction][1]
        front = cell(name, state, *ahead)
        if front == KEY and has_key:
            front = EMPTY
        if front == LOCKED and is_open:
            front = OPEN
        following = {LEFT: (x, y, (direction - 1) % 4, has_key, is_open),
                     RIGHT: (x, y, (direction + 1) % 4, has_key, is_open)}
        if front in (EMPTY, OPEN, GOAL):
            following[FORWARD] = (*ahead, direction, has_key, is_open)
        if front == KEY:
            following[PICKUP] = (x, y, direction, True, is_open)
        if front == LOCKED and has_key:
            following[TOGGLE] = (x, y, direction, has_key, True)
        for action, there in following.items():
            if there not in before:
                before[there] = (here, action)
                queue.append(there)
            if action == FORWARD and front == GOAL:
                return [*path(before, here), FORWARD]
    raise AssertionError(f"no way to the goal: {state}")


def path(before: dict[Any, Any], last: Any) -> list[int]:
    actions: list[int] = []
    while before[last] is not None:
        last, action = before[last]
        actions.append(action)
    return actions[::-1]


@pytest.mark.parametrize("name", SIZES)
def test_every_level_can_be_solved_and_the_reward_is_that_of_its_steps(name: str) -> None:
    envs = batch(name, 200)
    plans = [plan(name, variables(envs, row)) for row in range(200)]
    limit = simulator(name).max_episode_steps
    for row, actions in enumerate(plans[:40]):
        one = SimBatch(simulator(name), 1, first_stream=row, max_episode_steps=limit)
        one.reset(1)
        for action in actions:
            assert not one.buffers.done[0]
            one.step(np.array([action]))
        assert one.buffers.terminated[0]
        assert not one.buffers.truncated[0]
        assert one.buffers.reward[0] == 1 - 0.9 * (len(actions) / limit)
        assert one.buffers.episode_return[0] == one.buffers.reward[0]
    assert max(map(len, plans)) < limit


@pytest.mark.parametrize("name", SIZES)
def test_a_goal_after_the_usual_limit_is_still_worth_something(name: str) -> None:
    limit = simulator(name).max_episode_steps
    one = SimBatch(simulator(name), 1)
    one.reset(3)
    actions = plan(name, variables(one))
    for action in [DONE] * (2 * limit) + actions:
        one.step(np.array([action]))
    assert one.buffers.terminated[0]
    assert one.buffers.reward[0] == pytest.approx(0.1)


def minigrid_copy(name: str, state: list[int]) -> Any:
    """The package's environment, with our level put into it."""
    envs = pytest.importorskip("minigrid.envs")
    objects = pytest.importorskip("minigrid.core.world_object")
    grid = pytest.importorskip("minigrid.core.grid").Grid
    make = {WALL: objects.Wall, GOAL: objects.Goal, KEY: lambda: objects.Key("yellow"), EMPTY: lambda: None,
            LOCKED: lambda: objects.Door("yellow", is_locked=True)}
    size = SIZES[name]
    env = envs.FourRoomsEnv() if name == "FourRooms-v0" else envs.DoorKeyEnv(size=size)
    env.reset(seed=0)
    env.grid = grid(size, size)
    for x in range(size):
        for y in range(size):
            env.grid.set(x, y, make[cell(name, state, x, y)]())
    env.agent_pos, env.agent_dir = (state[X], state[Y]), state[DIRECTION]
    return env


def some_actions(name: str, envs: SimBatch, rng: np.random.Generator) -> Iterator[int]:
    """250 random ones; in every second episode a few turns, and then those that solve the level."""
    if rng.random() < 0.5:
        yield from rng.choice(7, 250, p=[0.12, 0.12, 0.36, 0.12, 0.08, 0.17, 0.03]).tolist()
        return
    for _ in range(rng.integers(3)):
        yield int(rng.choice([LEFT, RIGHT, DROP, DONE]))
    yield from plan(name, variables(envs))


@pytest.mark.parametrize("name", SIZES)
def test_every_step_is_minigrids(name: str) -> None:
    """From the same level, the same actions: the same views, rewards and ends, over whole episodes."""
    rng = np.random.default_rng(7)
    ours = batch(name)
    seen = Counter[int]()
    num_ended = num_truncated = 0
    for episode in range(60):
        ours.reset()
        theirs = minigrid_copy(name, variables(ours))
        np.testing.assert_array_equal(as_minigrid(ours.buffers.obs[0]), theirs.gen_obs()["image"])
        actions = some_actions(name, ours, rng)
        if episode < 2:  # to the time limit
            actions = iter(rng.choice([LEFT, RIGHT, DROP, PICKUP], 1000).tolist())
        for action in actions:
            expected, reward, terminated, truncated, _ = theirs.step(action)
            ours.step(np.array([action]))
            out = ours.buffers
            np.testing.assert_array_equal(as_minigrid(out.obs[0]), expected["image"])
            assert (out.reward[0], out.terminated[0], out.truncated[0]) == (reward, terminated, truncated)
            assert variables(ours)[DIRECTION] == expected["direction"]
            seen.update(cells(out.obs[0]).ravel().tolist())
            if out.done[0]:
                num_ended += int(terminated)
                num_truncated += int(truncated)
                break
    assert set(seen) == {0, EMPTY, WALL, GOAL} | (set() if name == "FourRooms-v0" else {KEY, LOCKED, CLOSED, OPEN})
    assert num_ended > 15
    assert num_truncated >= 2


def assert_even(values: np.ndarray[Any, Any], low: int, high: int) -> None:
    """The values are the whole numbers from low to high, each as often as the others, within five deviations."""
    assert low <= values.min() <= values.max() <= high
    each = len(values) / (high - low + 1)
    assert abs(np.bincount(values - low) - each).max() <= 5 * np.sqrt(each)


def test_levels_of_door_key_5_are_minigrids_and_as_likely() -> None:
    """All 48: two doors, three places of the agent, two of the key, four directions."""
    rows = batch("DoorKey-5x5-v0", 48_000).get_state()["state"].astype(int)
    named = [X, Y, DIRECTION, door_key.WALL_X, door_key.DOOR_Y, door_key.KEY_X, door_key.KEY_Y]
    counts = Counter(zip(*rows[named].tolist(), strict=True))
    left = [(1, 1), (1, 2), (1, 3)]
    assert set(counts) == {
        (*agent, heading, 2, door, *key) for agent in left for key in left if agent != key for door in (1, 2)
        for heading in range(4)
    }
    assert abs(np.array(list(counts.values())) - 1000).max() < 160


@pytest.mark.parametrize("name", ["DoorKey-6x6-v0", "DoorKey-8x8-v0"])
def test_levels_of_larger_door_keys_fill_the_left_side(name: str) -> None:
    rows = batch(name, 40_000).get_state()["state"].astype(int)
    size, wall = SIZES[name], rows[door_key.WALL_X]
    agent, key = rows[[X, Y]], rows[[door_key.KEY_X, door_key.KEY_Y]]
    assert_even(wall, 2, size - 3)
    assert_even(rows[door_key.DOOR_Y], 1, size - 3)
    assert_even(rows[DIRECTION], 0, 3)
    assert not (agent == key).all(0).any()
    for wall_x in range(2, size - 2):
        for columns, lines in (agent[:, wall == wall_x], key[:, wall == wall_x]):
            assert_even(columns, 1, wall_x - 1)
            assert_even(lines, 1, size - 2)


def test_levels_of_four_rooms_are_minigrids() -> None:
    """Agent and goal anywhere in the rooms, or in a gap."""
    rows = batch("FourRooms-v0", 52_000).get_state()["state"].astype(int)
    north, south, west, east = rows[four_rooms.NORTH_GAP : four_rooms.EAST_GAP + 1]
    for gap, low in ((north, 1), (south, 10), (west, 1), (east, 10)):
        assert_even(gap, low, low + 7)
    assert_even(rows[DIRECTION], 0, 3)
    assert not (rows[[X, Y]] == rows[[four_rooms.GOAL_X, four_rooms.GOAL_Y]]).all(0).any()
    for x, y in (rows[[X, Y]], rows[[four_rooms.GOAL_X, four_rooms.GOAL_Y]]):
        in_gap = ((x == 9) & ((y == north) | (y == south))) | ((y == 9) & ((x == west) | (x == east)))
        in_room = (x != 9) & (y != 9)
        assert (in_gap ^ in_room).all()
        assert_even(x[in_room] - (x[in_room] > 9), 1, 16)
        assert_even(y[in_room] - (y[in_room] > 9), 1, 16)
        assert abs(in_gap.sum() - 800) < 5 * np.sqrt(800)


def picture(envs: SimBatch) -> list[str]:
    """The nearer half of the view, a letter for each cell; the agent looks up from the middle of the last line."""
    return ["".join(LETTERS[int(c)] for c in line) for line in cells(envs.buffers.obs[0]).T[3:]]


def test_a_story_in_pictures() -> None:
    """Key, door and goal of a 5 x 5 level, seen by the agent: the rules without any other program."""
    envs = batch("DoorKey-5x5-v0")
    state = envs.get_state()
    rows = [X, Y, DIRECTION, door_key.DOOR_Y, door_key.KEY_X, door_key.KEY_Y]
    state["state"][rows, 0] = [1, 1, 1, 2, 1, 3]  # the agent in the corner, the key two cells in front of it
    envs.set_state(state)

    def after(*actions: int) -> list[str]:
        for action in actions:
            envs.step(np.array([action]))
        return picture(envs)

    assert after(DONE, TOGGLE, PICKUP, DROP) == ["  ###  ", "  #k#  ", "  L.#  ", "  #.#  "]
    assert after(FORWARD, FORWARD) == ["       ", "  ###  ", "  #k#  ", "  L.#  "]  # the key is in the way
    assert after(LEFT, TOGGLE, FORWARD) == ["       ", "       ", " ##L## ", " #..k# "]  # locked
    assert after(RIGHT, PICKUP) == ["       ", "  ###  ", "  #.#  ", "  Lk#  "]  # in the hand
    assert after(LEFT, TOGGLE, DROP) == [" ##### ", " #..G# ", " ##/## ", " #.k.# "]
    assert after(TOGGLE, FORWARD) == ["       ", "       ", " ##D## ", " #.k.# "]
    assert after(LEFT, DROP, RIGHT, TOGGLE) == [" ##### ", " #..G# ", " ##/## ", " #k..# "]  # opens without the key
    assert after(LEFT, PICKUP, RIGHT, FORWARD) == ["       ", " ##### ", " #..G# ", "  #k#  "]
    assert after(DROP, FORWARD) == ["       ", " ##### ", " #.kG# ", "  #.#  "]
    assert after(PICKUP, FORWARD, RIGHT) == ["       ", "  #####", "  #G#.#", "  #k/.#"]
    assert not envs.buffers.reward[0]
    envs.step(np.array([FORWARD]))
    assert envs.buffers.terminated[0]
    assert envs.buffers.reward[0] == 1 - 0.9 * (variables(envs)[STEPS] / 250)


def test_what_can_be_seen_among_random_walls_is_what_minigrid_shows() -> None:
    grids, objects = pytest.importorskip("minigrid.core.grid"), pytest.importorskip("minigrid.core.world_object")
    rng = np.random.default_rng(2)
    for _ in range(500):
        walls = rng.random((VIEW, VIEW)) < rng.uniform(0.05, 0.7)
        walls[VIEW // 2, VIEW - 1] = False  # the agent
        grid = grids.Grid(VIEW, VIEW)
        for x, y in np.argwhere(walls).tolist():
            grid.set(x, y, objects.Wall())
        obs = np.zeros((1, VIEW, VIEW, 2), np.bool_)
        show(np.where(walls, WALL, EMPTY), 2, obs, 0)
        np.testing.assert_array_equal(obs[0].any(-1), grid.process_vis((VIEW // 2, VIEW - 1)))
