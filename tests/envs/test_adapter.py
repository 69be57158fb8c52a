"""``make_envs``: one rule for every source, with everything that an environment may do."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from tests.envs import adapter_envs as user
from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.check_timing import random_actions
from velodrome.envs.env_batch import EnvBatch, Step, env_seed

MODES = ("sync", "process")


def drive(envs: EnvBatch, num_steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)
    return [
        envs.step(random_actions(envs.action_layout, envs.num_envs, rng, envs.action_mask)).copy()
        for _ in range(num_steps)
    ]


def same(one: list[Step], two: list[Step]) -> None:
    for a, b in zip(one, two, strict=True):
        done = a.terminated | a.truncated
        for name in ("obs", "reward", "terminated", "truncated", "valid", "episode_done"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
        np.testing.assert_array_equal(a.final_obs[done], b.final_obs[done])
        np.testing.assert_array_equal(a.episode_return[a.episode_done], b.episode_return[a.episode_done])
        np.testing.assert_array_equal(a.episode_length[a.episode_done], b.episode_length[a.episode_done])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("truncates", [False, True])
def test_an_episode_ends_in_its_own_step_with_its_last_observation(mode, truncates) -> None:
    kwargs = {"length": 2, "truncates": truncates}
    with make_envs(user.Counter, 3, seed=1, mode=mode, kwargs=kwargs, info_keys=["score"]) as envs:
        obs = envs.reset().copy()
        assert obs[:, :2].tolist() == [[0, 0]] * 3
        first = envs.step(np.array([0, 1, 2])).copy()
        assert first.reward.tolist() == [11, 21, 31]  # actions start at 1 in this environment
        assert first.obs[:, :2].tolist() == [[0, 1]] * 3
        assert not (first.terminated | first.truncated | first.episode_done).any()
        last = envs.step(np.array([0, 0, 0]))
        assert last.terminated.tolist() == [not truncates] * 3
        assert last.truncated.tolist() == [truncates] * 3
        assert last.final_obs[:, :2].tolist() == [[0, 2]] * 3
        assert last.obs[:, :2].tolist() == [[1, 0]] * 3
        assert last.episode_return.tolist() == [23, 33, 43]
        assert last.episode_length.tolist() == [2] * 3
        assert last.infos["score"].tolist() == [4.0] * 3
        assert last.valid.all()


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", user.Nested, user.Masked, user.Bits])
def test_the_source_does_not_change_the_results(env) -> None:
    steps = []
    for options in ({"mode": "sync"}, {"mode": "process", "num_workers": 3}, {"mode": "process", "groups": 2}):
        with make_envs(env, 5, seed=3, **options) as envs:
            envs.reset()
            steps.append(drive(envs, 30))
    same(steps[0], steps[1])
    same(steps[0], steps[2])


def test_results_are_gymnasium_s_own() -> None:
    with make_envs("CartPole-v1", 2, seed=5, mode="sync") as envs:
        obs = envs.reset().copy()
        own = gym.make("CartPole-v1")
        assert own.reset(seed=env_seed(5, 1))[0].tolist() == obs[1].tolist()
        last = drive(envs, 60)[-1]
        own_obs, length = own.reset(seed=env_seed(5, 1))[0], 0
        rng = np.random.default_rng(0)
        for _ in range(60):
            actions = random_actions(envs.action_layout, 2, rng)
            own_obs, _, terminated, truncated, _ = own.step(int(actions[1]))
            length += 1
            if terminated or truncated:
                own_obs, length = own.reset()[0], 0
        np.testing.assert_array_equal(own_obs, last.obs[1])


@pytest.mark.parametrize("mode", MODES)
def test_masks_come_from_the_infos(mode) -> None:
    with make_envs(user.Masked, 2, seed=1, mode=mode) as envs:
        envs.reset()
        assert envs.action_mask.tolist() == [[True, False, False]] * 2
        steps = drive(envs, 9)  # the environment asserts that the action is the allowed one
        assert steps[0].action_mask.tolist() == [[False, True, False]] * 2
        assert steps[3].action_mask.tolist() == [[True, False, False]] * 2  # of the new episode


def test_two_groups_are_stepped_apart() -> None:
    with make_envs(user.Counter, 5, seed=2, mode="process", groups=2) as envs:
        envs.reset()
        assert [(group.rows.start, group.rows.stop) for group in envs.groups] == [(0, 2), (2, 5)]
        for group in envs.groups:
            envs.send(np.zeros(group.num_envs, int), group.index)
        first = envs.receive(0)
        assert first.obs.shape == (2, 3)
        envs.send(np.ones(2, int), 0)
        assert envs.receive(1).obs[:, 1].tolist() == [1, 1, 1]
        assert envs.receive(0).obs[:, 1].tolist() == [2, 2]
        with pytest.raises(EnvError, match="receive comes after send"):
            envs.receive(0)


def test_actions_of_a_box_are_clipped_on_their_way_if_asked() -> None:
    for clip, reward in ((True, 2.0), (False, 10.0)):
        with make_envs(user.Box2, 1, seed=1, mode="sync", clip_actions=clip) as envs:
            envs.reset()
            if clip:
                assert envs.step(np.full((1, 2), 5.0)).reward.tolist() == [reward]
            else:
                with pytest.raises(EnvError, match="AssertionError"):
                    envs.step(np.full((1, 2), 5.0))


@pytest.mark.parametrize("mode", MODES)
def test_nan_is_found_with_its_environment_and_step(mode) -> None:
    with make_envs(user.TurnsNaN, 3, seed=1, mode=mode, check_nan=True) as envs:
        envs.reset()
        drive(envs, 2)
        with pytest.raises(EnvError, match=r"Environment 0 gave a .* not finite at step 3\.\n  given: nan at index 1"):
            drive(envs, 1)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_of_the_user_s_code_comes_with_their_line(mode) -> None:
    with make_envs(user.Raises, 2, seed=1, mode=mode) as envs:
        envs.reset()
        with pytest.raises(EnvError, match="ZeroDivisionError: the user's own mistake in step") as error:
            drive(envs, 5)
    assert "adapter_envs.py" in error.value.place
    assert 'raise ZeroDivisionError("the user\'s own mistake")' in error.value.traceback
    assert "adapter_rows" not in error.value.traceback


@pytest.mark.parametrize("env", [user.Counter, "CartPole-v1", "Pendulum-v1", "velodrome/CartPole-v1", user.Nested])
@pytest.mark.parametrize("mode", MODES)
def test_a_state_goes_on_bit_for_bit(env, mode) -> None:
    mode = "auto" if isinstance(env, str) and env.startswith("velodrome/") else mode
    with make_envs(env, 4, seed=1, mode=mode) as envs:
        envs.reset()
        drive(envs, 7)
        state = pickle.loads(pickle.dumps(envs.get_state()))
        assert state["exact"]
        obs, want = envs.obs.copy(), drive(envs, 20, seed=9)
    with make_envs(env, 4, seed=77, mode=mode) as envs:
        envs.reset()
        drive(envs, 3)
        envs.set_state(state)
        np.testing.assert_array_equal(envs.obs, obs)
        same(want, drive(envs, 20, seed=9))


def test_a_reset_with_a_seed_repeats_everything() -> None:
    with make_envs("CartPole-v1", 3, mode="sync") as envs:
        envs.reset(seed=4)
        one = drive(envs, 20)
        envs.reset(seed=4)
        same(one, drive(envs, 20))
        envs.reset()
        assert envs.obs.tolist() != one[0].obs.tolist()


@pytest.mark.parametrize(("env", "options", "said"), [
    ("CartPol-v1", {}, "Did you mean 'CartPole-v1'"),
    ("cartpole-v1", {}, "Did you mean 'CartPole-v1'"),
    ("CartPole-v7", {}, "Did you mean 'CartPole-v1'"),
    ("no_such_module:Env-v0", {}, "There is no module 'no_such_module'"),
    ("nowhere.py:Env", {}, "There is no such file"),
    ("CartPole-v1", {"mode": "proces"}, "Did you mean 'process'"),
    ("CartPole-v1", {"wrappers": ["frame_stak:4"]}, "Did you mean 'frame_stack'"),
    ("CartPole-v1", {"wrappers": ["time_limit"]}, "allowed: time_limit:1000"),
    ("CartPole-v1", {"wrappers": ["grey_scale"]}, "grey_scale needs images"),
    ("CartPole-v1", {"kwargs": {"gravitation": 1}, "mode": "sync"}, "gravitation"),
    (user.Counter, {"mode": "vector"}, "has no vector environment: it is a class"),
    (dict, {}, "no gymnasium.Env"),
    (3, {}, "makes no environment"),
    ("CartPole-v1", {"groups": 3}, "given: 3 groups of 2 environments"),
])
def test_what_makes_no_sense_is_refused(env: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(EnvError, match=said):
        make_envs(env, 2, **options)


def test_a_batch_needs_one_environment_or_more() -> None:
    with pytest.raises(EnvError, match="1 or more"):
        make_envs("CartPole-v1", 0)


def test_stepping_before_the_first_reset_is_refused() -> None:
    with make_envs(user.Counter, 2, mode="sync") as envs, pytest.raises(EnvError, match="never reset"):
        envs.step(np.zeros(2, int))


def test_auto_takes_our_simulator_where_there_is_one() -> None:
    with make_envs("CartPole-v1", 4) as envs:
        assert "simulated" in envs.source
    with make_envs("CartPole-v1", 4, wrappers=["time_limit:10"]) as envs:
        assert envs.source == "4 in this process"


def test_the_simulators_groups_do_not_change_the_results() -> None:
    steps = []
    for groups in (1, 2):
        with make_envs("velodrome/CartPole-v1", 5, seed=3, groups=groups) as envs:
            envs.reset()
            steps.append(drive(envs, 60))
    same(*steps)


def test_a_class_in_a_file_can_be_named(tmp_path, monkeypatch) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from tests.envs.adapter_envs import Counter\nclass Mine(Counter):\n    pass\n")
    for mode in MODES:
        with make_envs(f"{path}:Mine", 2, seed=1, mode=mode) as envs:
            envs.reset()
            assert envs.name == "Mine"
            assert drive(envs, 4)[3].terminated.all()
    with make_envs(str(path), 1, mode="sync") as envs:
        assert envs.name == "Mine"
    with pytest.raises(EnvError, match="Did you mean 'Mine'"):
        make_envs(f"{path}:Mime", 1)
