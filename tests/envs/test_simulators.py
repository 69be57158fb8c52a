"""The simulators: the contract, Gymnasium's dynamics step by step, and what is refused."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import velodrome.envs
from tests.contracts.env_contract import VectorEnvContract
from velodrome.envs.simulators.batch import SimBatch, StepBuffers
from velodrome.envs.simulators.catalogue import CATALOGUE, simulator
from velodrome.envs.simulators.vector_env import SimVectorEnv
from velodrome.errors import UsageError

CLASSIC = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1"]
SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


@pytest.mark.parametrize("name", CATALOGUE)
class TestSimulators(VectorEnvContract):
    @pytest.fixture(autouse=True)
    def _named(self, name: str) -> None:
        self.name = name
        self.num_steps = 40 if name.startswith("Probe") else 210

    def make(self, num_envs: int, mode: AutoresetMode, *, first: int = 0) -> SimVectorEnv:
        short = {"Acrobot-v1": 70, "MountainCarContinuous-v0": 70, "DoorKey-8x8-v0": 70,
                 "MinAtar-Freeway-v1": 70}.get(self.name)
        return SimVectorEnv(self.name, num_envs, autoreset_mode=mode, first_stream=first, max_episode_steps=short)


@pytest.mark.parametrize("name", CLASSIC)
def test_every_step_is_gymnasiums(name: str) -> None:
    """From the same state and action: the same next state, observation, reward and end, over whole episodes."""
    theirs = gym.make(name).unwrapped
    ours = SimBatch(simulator(name), 1)
    ours.reset(seed=3)
    theirs.reset(seed=3)
    theirs.action_space.seed(4)
    rng = np.random.default_rng(5)
    single = name == "MountainCarContinuous-v0"  # the one whose state Gymnasium rounds to float32
    num_ended = 0
    for _ in range(3000):
        before = ours.get_state()
        theirs.state = before["state"][:, 0].astype(np.float32 if single else np.float64)
        if name == "CartPole-v1":
            theirs.steps_beyond_terminated = None
        action = theirs.action_space.sample()
        if name in ("MountainCar-v0", "MountainCarContinuous-v0") and rng.random() < 0.9:  # so that it reaches the goal
            forward = before["state"][1, 0] >= 0
            action = 2 * int(forward) if name == "MountainCar-v0" else np.float32([1.7 if forward else -1.3])
        if name == "Acrobot-v1":
            action = 0 if before["state"][2, 0] >= 0 else 2
        expected, reward, terminated, _, _ = theirs.step(action)
        num_ended += ours.step(np.asarray(action)[None])
        out = ours.buffers
        np.testing.assert_allclose(out.final_obs[0] if out.done[0] else out.obs[0], expected, rtol=3e-7, atol=1e-7)
        # Pendulum: 0.001 * u**2 is in float32 there, and its power function may be off by the last bit of float32
        np.testing.assert_allclose(out.reward[0], reward, rtol=1e-13, atol=3e-10 if name == "Pendulum-v1" else 1e-13)
        assert out.terminated[0] == terminated
        if not out.done[0]:
            state = ours.get_state()["state"][:, 0]
            if single:
                np.testing.assert_array_equal(state, theirs.state)
            else:
                np.testing.assert_allclose(state, theirs.state, rtol=1e-12, atol=1e-13)
    assert num_ended > (-1 if name == "Pendulum-v1" else 2)


@pytest.mark.parametrize("name", CLASSIC)
def test_spaces_limits_and_thresholds_are_gymnasiums(name: str) -> None:
    theirs, ours = gym.spec(name), gym.spec(f"velodrome/{name}")
    assert (ours.max_episode_steps, ours.reward_threshold) == (theirs.max_episode_steps, theirs.reward_threshold)
    assert simulator(name).max_episode_steps == theirs.max_episode_steps
    env = gym.make(name)
    assert simulator(name).observation_space == env.observation_space
    assert simulator(name).action_space == env.action_space


@pytest.mark.parametrize("name", CLASSIC)
def test_episodes_begin_as_gymnasiums_do(name: str) -> None:
    """The same ranges, filled evenly: mean and extremes of 20,000 starts."""
    ours = SimBatch(simulator(name), 20_000)
    ours.reset(seed=1)
    state = ours.get_state()["state"]
    low, high = {
        "CartPole-v1": ([-0.05] * 4, [0.05] * 4), "Acrobot-v1": ([-0.1] * 4, [0.1] * 4),
        "MountainCar-v0": ([-0.6, 0], [-0.4, 0]), "MountainCarContinuous-v0": ([-0.6, 0], [-0.4, 0]),
        "Pendulum-v1": ([-np.pi, -1], [np.pi, 1]),
    }[name]
    width = np.subtract(high, low)
    np.testing.assert_allclose(state.min(1), low, atol=1e-6 + 1e-3 * width.max())
    np.testing.assert_allclose(state.max(1), high, atol=1e-6 + 1e-3 * width.max())
    assert (abs(state.mean(1) - np.add(low, high) / 2) <= 0.012 * width).all()
    assert (abs(np.corrcoef(state[width > 0]) - np.eye((width > 0).sum())) < 0.03).all()


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_and_the_simulator_agree(name: str) -> None:
    spec = gym.spec(f"velodrome/{name}")
    assert simulator(name).name == name
    assert simulator(name).max_episode_steps == spec.max_episode_steps
    assert simulator(f"velodrome/{name}") is simulator(name)


def test_the_time_limit_truncates_and_a_terminated_last_step_is_both() -> None:
    env = SimVectorEnv("Pendulum-v1", 2, max_episode_steps=3)
    env.reset(seed=1)
    flags = [env.step(np.zeros((2, 1), np.float32))[2:4] for _ in range(6)]
    assert [f[1].tolist() for f in flags] == [[False] * 2, [False] * 2, [True] * 2] * 2
    assert not any(f[0].any() for f in flags)
    both = SimVectorEnv("ProbeValue-v0", 1, max_episode_steps=1)
    both.reset(seed=1)
    _, _, terminated, truncated, _ = both.step(np.zeros(1, int))
    assert (terminated[0], truncated[0]) == (True, True)


def test_the_sums_of_an_episode_are_told() -> None:
    env = SimVectorEnv("CartPole-v1", 4)
    env.reset(seed=1)
    length = np.zeros(4, int)
    told = 0
    for action in np.random.default_rng(0).integers(0, 2, (200, 4)):
        _, _, terminated, truncated, infos = env.step(action)
        length += 1
        done = terminated | truncated
        if done.any():
            episode = infos["final_info"]["episode"]
            np.testing.assert_array_equal(episode["l"][done], length[done])
            np.testing.assert_array_equal(episode["r"][done], length[done])
            np.testing.assert_array_equal(infos["final_info"]["_episode"], done)
            length[done] = 0
            told += done.sum()
    assert told > 10


def run(env: SimVectorEnv, steps: int) -> list[Any]:
    env.reset(seed=11)
    env.action_space.seed(2)
    return [env.step(env.action_space.sample())[:4] for _ in range(steps)]


def test_threads_change_nothing() -> None:
    one, three = (run(SimVectorEnv("CartPole-v1", 200, num_threads=k), 100) for k in (1, 3))
    for a, b in zip(one, three, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


def test_without_copies_the_buffers_come_back() -> None:
    env = SimVectorEnv("CartPole-v1", 4, copy=False)
    first, _ = env.reset(seed=1)
    obs, reward, *_ = env.step(np.ones(4, int))
    assert obs is first is env.buffers.obs
    assert reward is env.buffers.reward


def test_a_rollout_of_the_caller_is_filled_in_place() -> None:
    env, other = SimVectorEnv("CartPole-v1", 4), SimVectorEnv("CartPole-v1", 4)
    env.reset(seed=1)
    other.reset(seed=1)
    rollout = [StepBuffers.empty(env.simulator, 4) for _ in range(30)]
    actions = np.random.default_rng(0).integers(0, 2, (30, 4))
    ended = sum(env.step_into(action, rows) for action, rows in zip(actions, rollout, strict=True))
    for action, rows in zip(actions, rollout, strict=True):
        obs, reward, terminated, truncated, infos = other.step(action)
        np.testing.assert_array_equal(rows.obs, obs)
        np.testing.assert_array_equal(rows.reward, reward)
        np.testing.assert_array_equal(rows.done, terminated | truncated)
        if "final_obs" in infos:
            np.testing.assert_array_equal(rows.final_obs[rows.done], infos["final_obs"][rows.done])
    assert ended == sum(rows.done.sum() for rows in rollout) > 0


def test_a_list_of_seeds_gives_single_environments() -> None:
    env = SimVectorEnv("CartPole-v1", 3)
    obs, _ = env.reset(seed=[5, 6, 5])
    single = gym.make("velodrome/CartPole-v1")
    np.testing.assert_array_equal(obs[0], single.reset(seed=5)[0])
    np.testing.assert_array_equal(obs[1], single.reset(seed=6)[0])
    np.testing.assert_array_equal(obs[0], obs[2])
    again, _ = env.reset(seed=[None, 6, 5])
    np.testing.assert_array_equal(again[1:], obs[1:])
    single.reset(seed=5)
    np.testing.assert_array_equal(again[0], single.reset()[0])


def test_seeds_next_to_each_other_share_no_episode() -> None:
    env = SimVectorEnv("CartPole-v1", 50)
    starts = np.concatenate([env.reset(seed=seed)[0] for seed in range(20)])
    assert len(np.unique(starts, axis=0)) == 1000


@pytest.mark.parametrize("name", CATALOGUE)
def test_gymnasium_makes_them(name: str) -> None:
    envs = gym.make_vec(f"velodrome/{name}", num_envs=2)
    assert isinstance(envs, SimVectorEnv)
    assert envs.spec is not None
    assert envs.spec.id == f"velodrome/{name}"
    synced = gym.make_vec(f"velodrome/{name}", num_envs=2, vectorization_mode="sync",
                          vector_kwargs={"autoreset_mode": SAME})
    obs, infos = envs.reset(seed=[3, 4])
    expected, expected_infos = synced.reset(seed=[3, 4])
    np.testing.assert_array_equal(obs, expected)
    synced.action_space.seed(1)
    for _ in range(60):
        assert infos.keys() >= expected_infos.keys() - {"final_info", "_final_info"}
        if "action_mask" in infos:
            np.testing.assert_array_equal(infos["action_mask"], expected_infos["action_mask"])
        action = synced.action_space.sample()
        *ours, infos = envs.step(action)
        *theirs, expected_infos = synced.step(action)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_limit_of_the_callers() -> None:
    assert gym.make_vec("velodrome/CartPole-v1", num_envs=2, max_episode_steps=7).batch.max_episode_steps == 7
    assert gym.make_vec("velodrome/CartPole-v1", num_envs=2, max_episode_steps=-1).batch.max_episode_steps is None


def test_gymnasiums_wrappers_take_them() -> None:
    envs = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec("velodrome/CartPole-v1", num_envs=4))
    envs.reset(seed=1)
    envs.action_space.seed(1)
    ended = [infos["episode"]["l"][infos["_episode"]] for *_, infos in
             (envs.step(envs.action_space.sample()) for _ in range(60)) if "episode" in infos]
    assert sum(map(len, ended)) > 4


def cartpole(num_envs: int = 2, **options: Any) -> SimVectorEnv:
    env = SimVectorEnv("CartPole-v1", num_envs, **options)
    env.reset(seed=1)
    return env


@pytest.mark.parametrize(("wrong", "text"), [
    (lambda: SimVectorEnv("CartPol-v1"), "Did you mean 'CartPole-v1'"),
    (lambda: SimVectorEnv("CartPole-v1", 0), "num_envs"),
    (lambda: SimVectorEnv("CartPole-v1", 2.5), "num_envs"),
    (lambda: SimVectorEnv("CartPole-v1", 2, num_threads=0), "num_threads"),
    (lambda: SimVectorEnv("CartPole-v1", 2, max_episode_steps=0), "max_episode_steps"),
    (lambda: SimVectorEnv("CartPole-v1", 2, first_stream=-1), "first_stream"),
    (lambda: SimVectorEnv("CartPole-v1", 2, autoreset_mode="Later"), "'SameStep'"),
    (lambda: SimVectorEnv("CartPole-v1", 2, render_mode="rgb_array"), "can't be drawn"),
    (lambda: SimVectorEnv("CartPole-v1", 2).step(np.zeros(2, int)), "before its first reset"),
    (lambda: cartpole().step(np.zeros(3, int)), r"shape \(3,\)"),
    (lambda: cartpole().step(np.zeros(2)), "float64"),
    (lambda: cartpole().step(np.array([0, 2])), "2 in row 1"),
    (lambda: cartpole().step(np.array([-1, 0])), "-1 in row 0"),
    (lambda: cartpole().step(np.array([True, False])), "bool"),
    (lambda: cartpole().reset(seed=-1), r"\[0, 2\*\*64\)"),
    (lambda: cartpole().reset(seed=1.5), r"\[0, 2\*\*64\)"),
    (lambda: cartpole().reset(seed=[1]), "list of 2"),
    (lambda: cartpole().reset(options={"low": -1}), "reset_mask"),
    (lambda: cartpole().reset(options={"reset_mask": [True, False]}), "bool array"),
    (lambda: cartpole().reset(options={"reset_mask": np.zeros(2, bool)}), "true value"),
    (lambda: SimVectorEnv("CartPole-v1", 2).reset(options={"reset_mask": np.arange(2) > 0}), "without an episode"),
    (lambda: cartpole().set_state(cartpole(3).get_state()), "no state of 2 x CartPole-v1"),
    (lambda: cartpole().set_state({}), "nothing"),
    (lambda: cartpole().step_into(np.zeros(2, int), StepBuffers.empty(simulator("CartPole-v1"), 3)), "don't fit"),
    (lambda: gym.make("velodrome/CartPole-v1").reset(options={"low": -1}), "no options"),
])
def test_what_is_wrong_is_refused(wrong: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        wrong()


def test_nan_actions_are_refused_and_leave_the_state_alone() -> None:
    env = SimVectorEnv("Pendulum-v1", 2)
    env.reset(seed=1)
    before = env.get_state()
    with pytest.raises(UsageError, match="row 1"):
        env.step(np.array([[0.0], [np.nan]]))
    after = env.get_state()
    assert all((before[name] == after[name]).all() for name in before)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_any_integer_type_will_do(dtype: type) -> None:
    actions = np.array([1, 0], dtype)
    actions.flags.writeable = False
    np.testing.assert_array_equal(cartpole().step(actions)[0], cartpole().step(np.array([1, 0]))[0])


def test_a_batch_can_be_closed_twice() -> None:
    env = SimVectorEnv("CartPole-v1", 200, num_threads=2)
    env.close()
    env.close()
    assert velodrome.envs.__doc__ is not None


@pytest.mark.parametrize(("name", "seen"), [("CartPole", [0, 2]), ("Pendulum", [0, 1])])
def test_without_velocities_all_else_is_the_same(name: str, seen: list[int]) -> None:
    whole, hidden = SimVectorEnv(f"{name}-v1", 8), SimVectorEnv(f"{name}NoVelocity-v1", 8)
    whole.action_space.seed(2)
    expected, _ = whole.reset(seed=1)
    obs, _ = hidden.reset(seed=1)
    assert hidden.single_observation_space.shape == (2,)
    ended = 0
    for _ in range(250):
        np.testing.assert_array_equal(obs, expected[:, seen])
        action = whole.action_space.sample()
        expected, *rest = whole.step(action)
        obs, *others = hidden.step(action)
        for one, other in zip(rest[:3], others[:3], strict=True):
            np.testing.assert_array_equal(one, other)
        ended += int((rest[1] | rest[2]).sum())
    assert ended > 0
