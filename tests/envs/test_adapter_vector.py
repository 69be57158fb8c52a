"""Other people's vector environments, in each autoreset mode, and the libraries that may be installed."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from tests.envs import adapter_envs as user
from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_vector import VectorOptions, VectorStepper
from velodrome.envs.env_batch import EnvBatch


def batch_of(make: Any, mode: AutoresetMode, num: int = 2, **options: Any) -> EnvBatch:
    vector = SyncVectorEnv([make] * num, autoreset_mode=mode)
    return EnvBatch("test", VectorStepper(vector, "test", **options), seed=1)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_same_step_and_disabled_give_what_our_own_loop_gives(mode: AutoresetMode) -> None:
    with batch_of(lambda: user.Counter(length=2), mode, info_keys=("score",)) as envs:
        envs.reset()
        envs.step(np.array([0, 1]))
        last = envs.step(np.array([0, 0]))
        assert last.terminated.all()
        assert last.valid.all()
        assert last.final_obs[:, :2].tolist() == [[0, 2]] * 2
        assert last.obs[:, :2].tolist() == [[1, 0]] * 2
        assert last.episode_return.tolist() == [23, 33]
        assert last.episode_length.tolist() == [2, 2]
        assert last.infos["score"].tolist() == [4, 4]


def test_next_step_marks_the_reset_and_counts_it_nowhere() -> None:
    with batch_of(lambda: user.Counter(length=2), AutoresetMode.NEXT_STEP) as envs:
        envs.reset()
        envs.step(np.array([0, 1]))
        last = envs.step(np.array([0, 0])).copy()
        assert last.valid.all()
        assert last.terminated.all()
        assert last.final_obs[:, :2].tolist() == [[0, 2]] * 2
        between = envs.step(np.array([0, 0])).copy()
        assert not between.valid.any()
        assert not (between.terminated | between.truncated | between.episode_done).any()
        assert between.reward.tolist() == [0, 0]
        assert between.obs[:, :2].tolist() == [[1, 0]] * 2
        assert envs.step(np.array([0, 0])).valid.all()
        after = envs.step(np.array([0, 0]))
        assert after.episode_length.tolist() == [2, 2]
        assert after.episode_return.tolist() == [23, 23]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_nested_observations_and_masks_of_vector_environments(mode: AutoresetMode) -> None:
    with batch_of(user.Nested, mode) as envs:
        envs.reset()
        for _ in range(20):
            step = envs.step(np.zeros((2, 2), int))
            for row in step.obs:
                assert user.Nested.observation_space.contains(envs.obs_layout.unflatten(row))
    with batch_of(user.Masked, mode) as envs:
        envs.reset()
        for _ in range(10):
            step = envs.step(envs.action_mask.argmax(axis=1))  # the environment asserts that it is the allowed one
        assert step.action_mask.sum(axis=1).tolist() == [1, 1]


def test_episodic_life_and_clipped_rewards_leave_the_raw_return_alone() -> None:
    options = VectorOptions(clip_reward=(-1.0, 1.0), episodic_life=True)
    with batch_of(user.Lives, AutoresetMode.SAME_STEP, options=options) as envs:
        envs.reset()
        steps = [envs.step(np.zeros(2, int)).copy() for _ in range(6)]
    assert [step.terminated[0] for step in steps] == [False, True, False, True, False, True]
    assert [step.episode_done[0] for step in steps] == [False] * 5 + [True]
    assert steps[5].episode_return[0] == 30
    assert all(step.reward[0] == 1 for step in steps)


def test_a_vector_environment_must_say_how_it_resets() -> None:
    vector = SyncVectorEnv([user.Counter])
    vector.metadata = {}
    with pytest.raises(EnvError, match="does not say how it resets"):
        VectorStepper(vector, "test")


def test_a_registered_vector_environment_is_used_if_asked_for() -> None:
    with make_envs("CartPole-v1", 3, seed=1, mode="vector", kwargs={"sutton_barto_reward": True}) as envs:
        assert envs.source == "3 in CartPoleVectorEnv"
        envs.reset()
        num_valid, lengths = 0, 0
        for _ in range(100):
            step = envs.step(np.zeros(3, int))
            num_valid += int(step.valid.sum())
            lengths += int(step.episode_length[step.episode_done].sum())
        assert num_valid < 300  # gymnasium's resets in the next step
        assert num_valid - 3 * 15 < lengths <= num_valid


needs_ale = pytest.mark.skipif(importlib.util.find_spec("ale_py") is None, reason="needs ale-py: velodrome[atari]")
needs_envpool = pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="needs envpool")
needs_mujoco = pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="needs mujoco: velodrome[mujoco]")


@needs_ale
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("mode", "source"), [("auto", "2 in AtariVectorEnv"), ("sync", "2 in this process")])
def test_atari(mode: Any, source: str) -> None:
    with make_envs("ALE/Breakout-v5", 2, seed=1, mode=mode, wrappers=["atari"]) as envs:
        assert envs.source == source
        envs.reset()
        assert (envs.obs_layout.shape, envs.obs_layout.dtype) == ((4, 84, 84), np.uint8)
        rng, ended, lost, returns = np.random.default_rng(0), 0, 0, []
        for _ in range(400):
            step = envs.step(rng.integers(0, 4, 2))
            assert set(step.reward.tolist()) <= {-1.0, 0.0, 1.0}
            ended += int(step.episode_done.sum())
            lost += int(step.terminated.sum())
            returns += step.episode_return[step.episode_done].tolist()
        assert ended >= 1
        assert lost >= 5 * ended
        assert all(value == int(value) >= 0 for value in returns)


@needs_ale
def test_atari_without_wrappers_is_gymnasium_s_own() -> None:
    with make_envs("ALE/Pong-v5", 1, seed=1) as envs:
        assert envs.obs_layout.shape == (210, 160, 3)


@needs_envpool
def test_envpool() -> None:
    with make_envs("CartPole-v1", 3, seed=1, mode="envpool") as envs:
        obs = envs.reset().copy()
        steps = [envs.step(np.zeros(3, int)).copy() for _ in range(60)]
        assert all(step.valid.all() for step in steps)
        done = [step for step in steps if step.terminated.any()]
        assert done
        for step in done:
            row = int(step.terminated.argmax())
            assert abs(step.final_obs[row, 2]) > 0.2 > abs(step.obs[row, 2])
        first = envs.reset(seed=5).copy()
        assert first.tolist() != obs.tolist()
        assert envs.reset(seed=5).tolist() == first.tolist()
    with pytest.raises(EnvError, match="Did you mean 'CartPole-v1'"):
        make_envs("CartPol-v1", 3, seed=1, mode="envpool")


@needs_mujoco
def test_the_state_of_mujoco_goes_on_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (60, 2, 8))
    with make_envs("Ant-v5", 2, seed=1, mode="sync") as envs:
        envs.reset()
        for action in actions[:20]:
            envs.step(action)
        state = envs.get_state()
        want = [envs.step(action).copy() for action in actions[20:]]
    with make_envs("Ant-v5", 2, seed=9, mode="sync") as envs:
        envs.set_state(state)
        for step, action in zip(want, actions[20:], strict=True):
            got = envs.step(action)
            assert got.obs.tolist() == step.obs.tolist()
            assert got.reward.tolist() == step.reward.tolist()


@pytest.mark.skipif(importlib.util.find_spec("envpool") is not None, reason="EnvPool is installed")
def test_a_library_that_is_missing_is_named() -> None:
    with pytest.raises(EnvError, match="EnvPool is not installed"):
        make_envs("CartPole-v1", 3, mode="envpool")


@pytest.mark.skipif(importlib.util.find_spec("mujoco") is not None, reason="MuJoCo is installed")
def test_a_missing_extra_is_named() -> None:
    with pytest.raises(EnvError, match=r"try: pip install 'velodrome\[mujoco\]'"):
        make_envs("HalfCheetah-v5", 1)


@pytest.mark.skipif(importlib.util.find_spec("ale_py") is not None, reason="ale-py is installed")
def test_missing_atari_is_named() -> None:
    with pytest.raises(EnvError, match=r"try: pip install 'velodrome\[atari\]'"):
        make_envs("ALE/Pong-v5", 1)
