"""MinAtar's games: every step as the package's, the rules, the options, and the ids that mean ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from velodrome.envs.adapter import make_envs
from velodrome.envs.simulators.batch import SimBatch
from velodrome.envs.simulators.catalogue import simulator
from velodrome.envs.simulators.counter_random import DRAWS, uniform_pair
from velodrome.envs.simulators.minatar import breakout, seaquest
from velodrome.envs.simulators.minatar.common import DOWN, FIRE, LEFT, NOTHING, RIGHT, UP
from velodrome.envs.simulators.vector_env import SimVectorEnv
from velodrome.errors import UsageError

GAMES = {"Breakout": "breakout", "Asterix": "asterix", "Freeway": "freeway", "SpaceInvaders": "space_invaders",
         "Seaquest": "seaquest"}
Edit = Callable[[SimBatch, Any, np.random.Generator], None]
Policy = Callable[[Any, np.random.Generator], int]


class OurDraws:
    """A stand-in for the package's generator, which gives it the draws of one of our environments, in our order."""

    def begin(self, batch: SimBatch, *, is_reset: bool = False) -> None:
        """The draws of the next step, or of the episode that has just begun."""
        state = batch.get_state()
        self.keys, self.counts = state["keys"], state["counts"]
        self.is_first, self.left = not is_reset, None
        if is_reset:
            self.counts[DRAWS] = 0

    def rand(self, size: int | None = None) -> Any:
        if size is not None:  # Freeway's directions, each drawn with the speed of its car
            return np.array(self.directions)
        if self.left is not None:
            number, self.left = self.left, None
            return number
        number, rest = uniform_pair(self.keys, self.counts, 0)
        self.left = None if self.is_first else rest  # the pair of the sticky action serves nothing else
        self.is_first = False
        return number

    def randint(self, low: int, high: int | None = None, size: int | None = None) -> Any:
        low, high = (0, low) if high is None else (low, high)
        if size is not None:
            pairs = [uniform_pair(self.keys, self.counts, 0) for _ in range(size)]
            self.directions = [direction for _, direction in pairs]
            return np.array([low + int(number * (high - low)) for number, _ in pairs])
        number = self.rand()
        self.left = None
        return low + int(number * (high - low))


def follow(name: str, num_steps: int, policy: Policy, edit: Edit | None = None, **options: Any) -> tuple[float, int]:
    """Steps ours and the package's together; returns the sum of rewards and the number of episodes."""
    minatar = pytest.importorskip("minatar")
    batch = SimBatch(simulator(f"MinAtar-{name}-v1").with_options(options), 1)
    theirs = minatar.Environment(GAMES[name], **options)
    actions = theirs.minimal_action_set()
    theirs.random = theirs.env.random = draws = OurDraws()
    rng = np.random.default_rng(1)

    def begin() -> None:
        draws.begin(batch, is_reset=True)
        theirs.reset()
        theirs.last_action = NOTHING  # the package goes on with the action of the episode before
        if edit:
            edit(batch, theirs.env, rng)

    batch.reset(seed=2)
    begin()
    total, num_ended = 0.0, 0
    for _ in range(num_steps):
        action = policy(theirs.env, rng) if rng.random() < 0.9 else int(rng.choice(actions))
        draws.begin(batch)
        reward, terminated = theirs.act(action)
        batch.step(np.array([actions.index(action)]))
        out = batch.buffers
        np.testing.assert_array_equal(out.final_obs[0] if terminated else out.obs[0], theirs.state())
        assert (out.reward[0], out.terminated[0]) == (reward, terminated)
        if terminated:
            num_ended += 1
            begin()
        else:
            np.testing.assert_array_equal(batch.get_state()["counts"][DRAWS], draws.counts[DRAWS])
        total += reward
    return total, num_ended


def at_random(game: Any, rng: np.random.Generator) -> int:
    return int(rng.choice(game.minimal_action_set()))


def catch_the_ball(game: Any, rng: np.random.Generator) -> int:
    return NOTHING if game.ball_x == game.pos else LEFT if game.ball_x < game.pos else RIGHT


def dodge(game: Any, rng: np.random.Generator) -> int:
    """Asterix: to where no enemy is or comes, rather towards gold and away from the sides."""
    def danger(action: int) -> float:
        x = min(9, max(0, game.player_x + (action == RIGHT) - (action == LEFT)))
        y = min(8, max(1, game.player_y + (action == DOWN) - (action == UP)))
        thing = game.entities[y - 1]
        side = 2.0 if x in (0, 9) else rng.random()
        if thing is None or thing[3]:
            return side - (thing is not None)
        return side + 5.0 * (thing[0] == x) + 5.0 * (thing[0] + (1 if thing[2] else -1) == x)
    return min((NOTHING, LEFT, UP, RIGHT, DOWN), key=danger)


def cross(game: Any, rng: np.random.Generator) -> int:
    return UP if rng.random() < 0.95 else DOWN


def shoot(game: Any, rng: np.random.Generator) -> int:
    """Space Invaders: away from shots, else fire."""
    def is_safe(x: int) -> bool:
        return not game.e_bullet_map[8:, min(9, max(0, x))].any()
    safe = [move for move, x in ((LEFT, game.pos - 1), (NOTHING, game.pos), (RIGHT, game.pos + 1)) if is_safe(x)]
    if game.shot_timer == 0 and (NOTHING in safe or not safe):
        return FIRE
    return int(rng.choice(safe or [NOTHING]))


def dive(game: Any, rng: np.random.Generator) -> int:
    """Seaquest: for divers, up in time, and shots at whatever is in the row."""
    enemies = [thing[:3] for thing in [*game.e_fish, *game.e_subs, *game.e_bullets]]
    x, y = game.sub_x, game.sub_y
    go_up = game.diver_count == 6 or (game.oxygen < 30 and game.diver_count > 0) or game.diver_count < 0
    divers = [diver[:2] for diver in game.divers] or [(5, 4)]
    goal = (x, 0) if go_up else min(divers, key=lambda diver: abs(diver[0] - x) + abs(diver[1] - y))

    def cost(action: int) -> float:
        new_x = min(9, max(0, x + (action == RIGHT) - (action == LEFT)))
        new_y = min(8, max(0, y + (action == DOWN) - (action == UP)))
        ahead = [(new_x - at) if rightwards else (at - new_x) for at, row, rightwards in enemies if row == new_y]
        drowns = new_y == 0 and game.diver_count == 0 and not game.surface
        return 40.0 * sum(0 <= far <= 2 for far in ahead) + abs(new_x - goal[0]) + abs(new_y - goal[1]) + 500.0 * drowns

    can_hit = any(row == y and (other > x) == bool(game.sub_or) for other, row, _ in enemies)
    if game.shot_timer == 0 and can_hit and rng.random() < 0.7:
        return FIRE
    return min((NOTHING, LEFT, UP, RIGHT, DOWN), key=lambda action: cost(action) + rng.random())


@pytest.mark.parametrize("name", GAMES)
def test_random_steps_are_the_packages(name: str) -> None:
    policies = {"Freeway": cross}
    _, num_ended = follow(name, 4000, policies.get(name, at_random))
    assert num_ended > 0


@pytest.mark.parametrize("options", [{}, {"sticky_action_prob": 0.0, "difficulty_ramping": False}])
@pytest.mark.parametrize(("name", "policy", "least"), [
    ("Breakout", catch_the_ball, 100), ("Asterix", dodge, 50), ("Freeway", cross, 20), ("SpaceInvaders", shoot, 200),
    ("Seaquest", dive, 30),
])
def test_the_steps_of_a_fair_player_are_the_packages(
    name: str, policy: Policy, least: int, options: dict[str, Any]
) -> None:
    """Far enough for new waves of aliens, ramps of difficulty, and full submarines."""
    total, _ = follow(name, 8000, policy, **options)
    assert total > least


def test_breakout_with_few_bricks_is_the_packages() -> None:
    """So that walls are cleared and built again."""
    walls = []

    def few_bricks(batch: SimBatch, game: Any, rng: np.random.Generator) -> None:
        game.brick_map[1:4] = rng.random((3, 10)) < 0.02
        change(batch, {breakout.BRICKS + k: int((1 << np.flatnonzero(game.brick_map[1 + k])).sum()) for k in range(3)})
        walls.append(game.brick_map.sum())

    total, num_ended = follow("Breakout", 6000, catch_the_ball, few_bricks)
    assert total > sum(walls) + 30
    assert num_ended > 10


def test_seaquest_at_its_hardest_is_the_packages() -> None:
    """An enemy a step, which move every third; full and empty submarines."""

    def hardest(batch: SimBatch, game: Any, rng: np.random.Generator) -> None:
        game.e_spawn_speed, game.move_speed, game.diver_count = 1, 2, int(rng.integers(-1, 7))
        change(batch, {seaquest.SPAWN_EVERY: 1, seaquest.MOVE_WAIT: 2, seaquest.NUM_ABOARD: game.diver_count})

    total, num_ended = follow("Seaquest", 6000, dive, hardest)
    assert total > 100
    assert num_ended > 20


@pytest.mark.parametrize("name", GAMES)
def test_the_spaces_are_the_packages(name: str) -> None:
    package = pytest.importorskip("minatar.gym")
    env = package.BaseEnv(game=GAMES[name], use_minimal_action_set=True)
    assert simulator(f"MinAtar-{name}-v1").observation_space == env.observation_space
    assert simulator(f"MinAtar-{name}-v1").action_space == env.action_space


def change(batch: SimBatch, values: dict[int, int]) -> None:
    """Sets variables of the state in all rows."""
    state = batch.get_state()
    for variable, value in values.items():
        state["state"][variable] = value
    batch.set_state(state)


def plain(name: str, num_envs: int = 4) -> SimBatch:
    """A game in which each action is done."""
    batch = SimBatch(simulator(f"MinAtar-{name}-v1").with_options({"sticky_action_prob": 0.0}), num_envs)
    batch.reset(seed=1)
    return batch


def run(batch: SimBatch, actions: list[int]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rewards and ends ``[T, N]`` of the same actions in all rows."""
    rewards, ends = [], []
    for action in actions:
        batch.step(np.full(batch.num_envs, action))
        rewards.append(batch.buffers.reward.copy())
        ends.append(batch.buffers.terminated.copy())
    return np.array(rewards), np.array(ends)


def test_breakout_ends_when_the_ball_passes_the_paddle() -> None:
    """The ball, last in column 5 (from the left wall) or 4 (from the right), and the paddle in column 4."""
    batch = plain("Breakout", 16)
    from_the_left = batch.buffers.obs[:, 3, 0, 1].copy()
    rewards, ends = run(batch, [0] * 6)
    assert not rewards.any()
    assert not ends[:5].any()
    np.testing.assert_array_equal(ends[5], from_the_left)
    assert 0 < from_the_left.sum() < 16


def test_asterix_has_nothing_but_the_player_until_the_first_thing_comes() -> None:
    batch = plain("Asterix")
    for _ in range(10):
        assert batch.buffers.obs.sum(axis=(1, 2, 3)).tolist() == [1] * 4
        run(batch, [0])
    run(batch, [0])
    assert (batch.buffers.obs[..., [1, 3]].sum(axis=(1, 2, 3)) == 1).all()


def test_freeway_ends_after_2501_steps_with_a_point_for_each_crossing() -> None:
    rewards, ends = run(plain("Freeway"), [1] * 2501)
    assert ends[-1].all()
    assert not ends[:-1].any()
    assert (rewards.sum(0) >= 1).all()
    assert (rewards.sum(0) <= 2501 // (3 * 9)).all()
    assert not rewards[:27].any()  # nine cells, one every third step


def test_space_invaders_pays_for_an_alien_that_is_shot() -> None:
    """The lowest row of aliens is row 3; the shot leaves row 9 and is in row 8 at the end of the first step."""
    rewards, ends = run(plain("SpaceInvaders"), [3, 0, 0, 0, 0, 0])
    assert rewards.sum(1).tolist() == [0, 0, 0, 0, 0, 4]
    assert not ends.any()


def test_seaquest_needs_divers_to_surface_and_loses_oxygen_below() -> None:
    batch = plain("Seaquest")
    run(batch, [DOWN] + [NOTHING] * 10)
    assert batch.buffers.obs[:, 9, :, 7].sum(1).tolist() == [9] * 4
    _, ends = run(batch, [UP])
    assert ends.all()


def test_seaquests_lists_are_long_enough() -> None:
    """At the hardest, watched from the surface, where nothing can end the episode."""
    batch = plain("Seaquest", 256)
    change(batch, {seaquest.SPAWN_EVERY: 1, seaquest.MOVE_WAIT: 2})
    most = np.zeros(2, int)
    for _ in range(300):
        run(batch, [NOTHING])
        state = batch.get_state()["state"]
        lengths = np.array([state[seaquest.FISH] + state[seaquest.SUBS], state[seaquest.ENEMY_SHOTS]])
        most = np.maximum(most, lengths.max(1))
    assert (most <= 30).all()
    assert seaquest.MAX_ENEMIES >= 30 + 5
    assert not batch.buffers.terminated.any()


def test_an_action_is_repeated_as_often_as_the_option_says() -> None:
    """In the first step the action before is to do nothing."""
    for prob in (0.0, 0.1, 0.25, 1.0):
        batch = SimBatch(simulator("MinAtar-Breakout-v1").with_options({"sticky_action_prob": prob}), 20_000)
        batch.reset(seed=3)
        run(batch, [2])
        stayed = batch.buffers.obs[:, 9, 4, 0].mean()
        assert stayed == pytest.approx(prob, abs=0.01)
    default = SimBatch(simulator("MinAtar-Breakout-v1"), 20_000)
    default.reset(seed=3)
    run(default, [2])
    assert default.buffers.obs[:, 9, 4, 0].mean() == pytest.approx(0.1, abs=0.01)


def test_gymnasium_and_make_envs_take_the_options() -> None:
    kwargs = {"sticky_action_prob": 1.0, "difficulty_ramping": False, "max_episode_steps": 50}
    vector = gym.make_vec("velodrome/MinAtar-Breakout-v1", num_envs=2, **kwargs)
    single = gym.make("velodrome/MinAtar-Breakout-v1", **kwargs)
    for options in (vector.unwrapped.simulator.options, single.unwrapped.simulator.options):
        assert options == {"sticky_action_prob": 1.0, "difficulty_ramping": False}
    with make_envs("MinAtar/Breakout-v1", 2, seed=1, kwargs=kwargs) as envs:
        envs.reset()
        step = envs.step(np.full(2, 2))
        assert step.obs[:, 9, 4, 0].all()


@pytest.mark.parametrize(("options", "text"), [
    ({"sticky_action_prob": 1.5}, "1.5"), ({"sticky_action_prob": -0.1}, "0 to 1"),
    ({"sticky_action_prob": True}, "True"), ({"sticky_action_prob": float("nan")}, "nan"),
    ({"difficulty_ramping": 1}, "True or False"),
    ({"sticky_actions_prob": 0.1}, "Did you mean 'sticky_action_prob'"),
])
def test_wrong_options_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        SimVectorEnv("MinAtar-Breakout-v1", 2, **options)
    with pytest.raises(UsageError, match="no such option"):
        SimVectorEnv("CartPole-v1", 2, **options)


@pytest.mark.parametrize("name", GAMES)
def test_the_packages_ids_mean_ours(name: str) -> None:
    with make_envs(f"MinAtar/{name}-v1", 3, seed=1) as envs, make_envs(f"MinAtar/{name}-v1", 3, mode="sync") as singles:
        assert envs.source == "3 simulated in this process"
        obs, of_singles = envs.reset(), singles.reset()
        assert obs.shape == of_singles.shape
        assert obs.dtype == of_singles.dtype == np.bool_


def test_the_packages_ids_can_be_wrapped() -> None:
    with make_envs("MinAtar/Breakout-v1", 2, seed=1, wrappers=["time_limit:5"]) as envs:
        envs.reset()
        for _ in range(5):
            step = envs.step(np.zeros(2, np.int64))
        assert step.truncated.all()
