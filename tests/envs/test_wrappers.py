"""Wrappers by name, and what ours do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from tests.envs import adapter_envs as user
from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.wrappers import NamedWrapper, parse_wrappers
from velodrome.envs.wrappers_atari import FireReset, MaxAndSkip, NoopReset
from velodrome.envs.wrappers_base import EpisodeTracker, EpisodicLife
from velodrome.envs.wrappers_image import GreyScale, Resize, area_taps


class Pictures(user.Counter):
    """Random pictures; frame t of an episode is also full of t in one corner."""

    observation_space = spaces.Box(0, 255, (21, 16, 3), np.uint8)
    action_space = spaces.Discrete(4)

    def _obs(self) -> np.ndarray:
        obs = self.np_random.integers(0, 256, (21, 16, 3), np.uint8)
        obs[0, 0] = self.t
        return obs

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE", "UP", "DOWN"]


def test_names_values_and_presets_are_parsed() -> None:
    assert [str(w) for w in parse_wrappers("resize:64,48 frame_stack:3")] == ["resize:64,48", "frame_stack:3"]
    assert parse_wrappers(["clip_reward:-10,10"]) == (NamedWrapper("clip_reward", (-10.0, 10.0)),)
    assert [w.name for w in parse_wrappers(["atari"])][-3:] == ["resize", "frame_stack", "clip_reward"]
    assert parse_wrappers([GreyScale]) == (GreyScale,)


@pytest.mark.parametrize("text", ["resize:a", "resize:1,2,3", "frame_stack:4.5", "grey_scale:1", "time_limit:"])
def test_wrong_values_are_refused(text: str) -> None:
    with pytest.raises(EnvError, match="The wrapper's values are wrong"):
        parse_wrappers(text)


def test_grey_scale_agrees_with_gymnasium_s_to_one_level() -> None:
    ours, theirs = GreyScale(Pictures()), gym.wrappers.GrayscaleObservation(Pictures())
    assert ours.observation_space == theirs.observation_space
    one, two = ours.reset(seed=1)[0], theirs.reset(seed=1)[0]
    assert one.dtype == np.uint8
    assert np.abs(one.astype(int) - two.astype(int)).max() <= 1


@pytest.mark.parametrize(("old", "new"), [(210, 84), (160, 84), (7, 7), (8, 4), (5, 1), (9, 4)])
def test_area_taps_are_the_overlaps_by_brute_force(old: int, new: int) -> None:
    indices, weights = area_taps(old, new)
    matrix = np.zeros((new, old))
    for tap in range(len(indices)):
        for pixel in range(new):
            matrix[pixel, indices[tap, pixel]] += weights[tap, pixel]
    for pixel in range(new):  # each old pixel is cut into ``new`` pieces, of which every new one averages ``old``
        want = np.bincount(np.arange(pixel * old, (pixel + 1) * old) // new, minlength=old) / old
        np.testing.assert_allclose(matrix[pixel], want, atol=1e-6)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)


def test_resize_keeps_flat_pictures_and_averages_others() -> None:
    env = Resize(Pictures(), 7, 8)
    assert env.observation_space.shape == (7, 8, 3)
    flat = np.full((21, 16, 3), 77, np.uint8)
    assert (env.observation(flat) == 77).all()
    picture = Pictures().reset(seed=3)[0]
    want = picture.reshape(7, 3, 8, 2, 3).mean(axis=(1, 3))
    assert np.abs(env.observation(picture) - want).max() <= 0.51
    with pytest.raises(EnvError, match="resize makes images smaller"):
        Resize(Pictures(), 42, 8)


def test_resize_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="needs OpenCV to compare with")
    picture = np.random.default_rng(0).integers(0, 256, (210, 160), np.uint8)
    env = Resize(GreyScale(Big()), 84, 84)
    theirs = cv2.resize(picture, (84, 84), interpolation=cv2.INTER_AREA)
    assert np.abs(env.observation(picture).astype(int) - theirs).max() <= 1


class Big(Pictures):
    observation_space = spaces.Box(0, 255, (210, 160, 3), np.uint8)


def test_a_lost_life_ends_the_learner_s_episode_but_not_the_game() -> None:
    with make_envs(user.Zero, 1, seed=1, mode="sync", wrappers=["episodic_life", "clip_reward"]) as envs:
        envs.reset()
        steps = [envs.step(np.zeros((1,), int)).copy() for _ in range(4)]
    # Lives of two steps; the step that goes on after a loss is a step of the game as well.
    assert [step.terminated[0] for step in steps] == [False, True, True, True]
    assert [step.episode_done[0] for step in steps] == [False, False, False, True]
    assert steps[3].episode_return[0] == 30
    assert steps[3].episode_length[0] == 6
    assert steps[0].reward[0] == 1


def test_a_seed_begins_a_new_game_whatever_the_lives() -> None:
    env = EpisodicLife(user.Zero())
    env.reset(seed=1)
    env.step(0)
    env.step(0)
    assert env.unwrapped.t == 2
    assert env.reset(seed=1)[0][1] == 0


def test_a_time_limit_above_the_tracker_ends_the_raw_episode() -> None:
    with make_envs(user.Counter, 1, seed=1, mode="sync", kwargs={"length": 9}, wrappers=["time_limit:3"]) as envs:
        envs.reset()
        steps = [envs.step(np.zeros(1, int)).copy() for _ in range(6)]
    assert [bool(step.truncated[0]) for step in steps] == [False, False, True] * 2
    assert [bool(step.episode_done[0]) for step in steps] == [False, False, True] * 2
    assert steps[5].episode_length[0] == 3
    assert not any(step.terminated[0] for step in steps)


def test_frames_are_stacked_the_oldest_first() -> None:
    with make_envs(user.Counter, 1, seed=1, mode="sync", kwargs={"length": 9}, wrappers=["frame_stack:3"]) as envs:
        envs.reset()
        for _ in range(2):
            step = envs.step(np.zeros(1, int))
        assert step.obs.shape == (1, 3, 3)
        assert step.obs[0, :, 1].tolist() == [0, 1, 2]


def test_actions_are_rescaled() -> None:
    class Wide(user.Box2):
        action_space = spaces.Box(-5, 5, (2,), np.float32)

    with make_envs(Wide, 1, seed=1, mode="sync", wrappers=["rescale_action"]) as envs:
        envs.reset()
        assert envs.step(np.ones((1, 2), np.float32)).reward.tolist() == [10.0]


def test_skipped_frames_add_up_and_show_the_larger_pixels() -> None:
    env = MaxAndSkip(Pictures(length=9), 4)
    env.reset(seed=1)
    plain = Pictures(length=9)
    plain.reset(seed=1)
    results = [plain.step(2) for _ in range(4)]
    obs, reward, terminated, _, _ = env.step(2)
    assert reward == sum(result[1] for result in results)
    assert (obs == np.maximum(results[2][0], results[3][0])).all()
    assert not terminated


def test_a_game_begins_with_waiting_and_fire() -> None:
    waited = set()
    env = NoopReset(Pictures(length=99), 5)
    for seed in range(30):
        env.reset(seed=seed)
        waited.add(env.unwrapped.t)
    assert waited == {1, 2, 3, 4, 5}
    fired = FireReset(Pictures())
    fired.reset(seed=1)
    assert fired.unwrapped.t == 1
    plain = FireReset(user.Counter())
    plain.reset(seed=1)
    assert plain.unwrapped.t == 0


def test_a_user_s_wrapper_sees_through_the_tracker() -> None:
    def lengthen(env: Any) -> Any:
        assert env.length == 4  # an attribute of the user's own class
        return env

    assert EpisodeTracker(user.Counter()).length == 4
    make_envs(user.Counter, 1, mode="sync", wrappers=[lengthen]).close()
    with pytest.raises(AttributeError):
        EpisodeTracker(user.Counter()).no_such_thing  # noqa: B018 - the look-up is the test


def test_video_needs_frames() -> None:
    with pytest.raises(EnvError, match=r"kwargs={'render_mode': 'rgb_array'}"):
        make_envs(user.Counter, 1, mode="sync", wrappers=["video:out"])


@pytest.mark.parametrize(("env_id", "seen"), [("CartPole-v1", [0, 2]), ("Pendulum-v1", [0, 1])])
def test_velocities_are_hidden(env_id: str, seen: list[int]) -> None:
    plain, hidden = gym.make(env_id), parse_wrappers("no_velocity")[0](gym.make(env_id))
    expected, _ = plain.reset(seed=3)
    obs, _ = hidden.reset(seed=3)
    plain.action_space.seed(1)
    for _ in range(8):
        assert obs.tolist() == expected[seen].tolist()
        assert hidden.observation_space.contains(obs)
        action = plain.action_space.sample()
        expected, obs = plain.step(action)[0], hidden.step(action)[0]


def test_velocities_of_an_unknown_environment_are_not_guessed() -> None:
    with pytest.raises(EnvError, match="velocities"):
        make_envs(user.Counter, 1, mode="sync", wrappers=["no_velocity"])
