"""What every vector environment must do. Subclass it, say how to make one, and pytest runs the rest::

    class TestMyEnv(VectorEnvContract):
        def make(self, num_envs: int, mode: AutoresetMode, *, first: int = 0) -> VectorEnv:
            return MyVectorEnv(num_envs, autoreset_mode=mode, first_stream=first)

Episodes must end within ``num_steps`` steps of random actions, in some of 9 environments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED
Arrays = list[np.ndarray[Any, Any]]


class VectorEnvContract(ABC):
    """The contract."""

    num_steps = 600

    @abstractmethod
    def make(self, num_envs: int, mode: AutoresetMode, *, first: int = 0) -> Any:
        """A new environment whose row 0 has the random stream of row ``first`` in a batch that begins at 0."""

    def actions(self, env: VectorEnv, seed: int = 3) -> Iterator[Any]:
        """Random actions, always the same."""
        env.action_space.seed(seed)
        while True:
            yield env.action_space.sample()

    def run(self, env: Any, actions: Iterator[Any], num_steps: int) -> list[Arrays]:
        """``[obs, reward, terminated, truncated]`` of each step."""
        return [list(env.step(next(actions)))[:4] for _ in range(num_steps)]

    def assert_same(self, ours: list[Arrays], theirs: list[Arrays]) -> None:
        """Bit for bit."""
        assert len(ours) == len(theirs)
        for mine, yours in zip(ours, theirs, strict=True):
            for a, b in zip(mine, yours, strict=True):
                np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("mode", AutoresetMode)
    def test_what_comes_out_is_in_the_spaces(self, mode: AutoresetMode) -> None:
        env = self.make(3, mode)
        assert env.num_envs == 3
        assert env.metadata["autoreset_mode"] is mode
        assert env.observation_space.shape == (3, *env.single_observation_space.shape)
        obs, infos = env.reset(seed=1)
        assert isinstance(infos, dict)
        done = np.zeros(3, np.bool_)
        for _, action in zip(range(50), self.actions(env), strict=False):
            assert env.observation_space.contains(obs)
            if mode is DISABLED and done.any():
                obs, _ = env.reset(options={"reset_mask": done})
                assert env.observation_space.contains(obs)
            obs, reward, terminated, truncated, infos = env.step(action)
            assert reward.dtype == np.float64
            assert terminated.dtype == truncated.dtype == np.bool_
            assert reward.shape == terminated.shape == truncated.shape == (3,)
            assert isinstance(infos, dict)
            done = terminated | truncated

    def test_a_seed_repeats_everything(self) -> None:
        env = self.make(5, SAME)
        runs = []
        for _ in range(2):
            first, _ = env.reset(seed=7)
            runs.append([[first], *self.run(env, self.actions(env), self.num_steps)])
        self.assert_same(*runs)

    def test_the_next_episodes_differ_from_the_first(self) -> None:
        env = self.make(9, SAME)
        if self.is_deterministic(env):
            pytest.skip("every episode begins alike")
        first, _ = env.reset(seed=7)
        again, _ = env.reset()
        other, _ = env.reset(seed=8)
        assert (first != again).any()
        assert (first != other).any()
        assert (first != first[0]).any()

    def test_without_a_seed_two_environments_differ(self) -> None:
        """Of many, for some begin with one of two observations: nine of these are alike in one case of 512."""
        env = self.make(64, SAME)
        if self.is_deterministic(env):
            pytest.skip("every episode begins alike")
        assert (env.reset()[0] != self.make(64, SAME).reset()[0]).any()

    def is_deterministic(self, env: Any) -> bool:
        """Whether every episode begins with the same observation."""
        observations = {env.reset(seed=seed)[0].tobytes() for seed in range(5)}
        return len(observations) == 1

    def test_a_returned_array_is_not_overwritten(self) -> None:
        env = self.make(3, SAME)
        actions = self.actions(env)
        obs, _ = env.reset(seed=1)
        kept = [obs, *env.step(next(actions))[:4]]
        values = [array.copy() for array in kept]
        self.run(env, actions, 30)
        self.assert_same([kept], [values])

    def test_same_step_shows_the_end_and_the_next_beginning(self) -> None:
        """Against DISABLED, which shows the end in the step and the beginning in the reset."""
        same, plain = self.make(9, SAME), self.make(9, DISABLED)
        actions = self.actions(same)
        obs, _ = same.reset(seed=5)
        np.testing.assert_array_equal(obs, plain.reset(seed=5)[0])
        num_ended = 0
        for _ in range(self.num_steps):
            action = next(actions)
            obs, reward, terminated, truncated, infos = same.step(action)
            last, *rest, _ = plain.step(action)
            done = terminated | truncated
            self.assert_same([[reward, terminated, truncated]], [rest])
            if done.any():
                num_ended += done.sum()
                np.testing.assert_array_equal(infos["_final_obs"], done)
                np.testing.assert_array_equal(np.stack(list(infos["final_obs"][done])), last[done])
                np.testing.assert_array_equal(obs, plain.reset(options={"reset_mask": done})[0])
            else:
                assert "final_obs" not in infos
                np.testing.assert_array_equal(obs, last)
        assert num_ended > 0

    def test_next_step_spends_a_step_on_the_reset(self) -> None:
        following, plain = self.make(9, NEXT), self.make(9, DISABLED)
        actions = self.actions(following)
        following.reset(seed=5)
        plain.reset(seed=5)
        done = np.zeros(9, np.bool_)
        num_ended = 0
        for _ in range(self.num_steps):
            action = next(actions)
            obs, reward, terminated, truncated, _ = following.step(action)
            if done.any():
                assert not (terminated | truncated)[done].any()
                assert not reward[done].any()
                begun, _ = plain.reset(options={"reset_mask": done})
                np.testing.assert_array_equal(obs[done], begun[done])
                before = plain.get_state()
                plain.step(action)
                self.keep_rows(plain, before, done)
            else:
                expected = plain.step(action)
                self.assert_same([[obs, reward, terminated, truncated]], [list(expected[:4])])
            done = terminated | truncated
            num_ended += done.sum()
        assert num_ended > 0

    def keep_rows(self, env: Any, before: dict[str, Any], rows: np.ndarray[Any, Any]) -> None:
        """Puts ``rows`` of ``env`` back to the state ``before``."""
        state = env.get_state()
        for name, array in state.items():
            axis = next((k for k, size in enumerate(array.shape) if size == len(rows)), None)
            if axis is not None:
                np.moveaxis(array, axis, 0)[rows] = np.moveaxis(before[name], axis, 0)[rows]
        env.set_state(state)

    def test_disabled_refuses_a_step_after_the_end(self) -> None:
        env = self.make(9, DISABLED)
        env.reset(seed=5)
        actions = self.actions(env)
        for _ in range(self.num_steps):
            _, _, terminated, truncated, _ = env.step(next(actions))
            if (terminated | truncated).any():
                break
        with pytest.raises(Exception, match="ended"):
            env.step(next(actions))

    def test_a_masked_reset_leaves_the_others_alone(self) -> None:
        env, untouched = self.make(11, DISABLED), self.make(11, DISABLED)
        for each in (env, untouched):
            each.reset(seed=2)
        mask = np.arange(11) % 3 == 1
        before = env.get_state()
        obs, _ = env.reset(options={"reset_mask": mask})
        after = env.get_state()
        for name, array in before.items():
            axis = next((k for k, size in enumerate(array.shape) if size == 11), None)
            if axis is not None:
                np.testing.assert_array_equal(
                    np.moveaxis(after[name], axis, 0)[~mask], np.moveaxis(array, axis, 0)[~mask])
        np.testing.assert_array_equal(obs[~mask], untouched.reset(seed=2)[0][~mask])

    def test_a_saved_state_goes_on_bit_for_bit(self) -> None:
        env = self.make(6, SAME)
        env.reset(seed=9)
        actions = self.actions(env)
        self.run(env, actions, 37)
        state = env.get_state()
        chosen = [next(actions) for _ in range(self.num_steps)]
        expected = self.run(env, iter(chosen), self.num_steps)
        fresh = self.make(6, SAME)
        fresh.set_state(state)
        self.assert_same(self.run(fresh, iter(chosen), self.num_steps), expected)
        env.set_state(state)
        self.assert_same(self.run(env, iter(chosen), self.num_steps), expected)

    def test_a_row_does_not_depend_on_its_batch(self) -> None:
        whole = self.make(21, SAME)
        begun, _ = whole.reset(seed=4)
        actions = self.actions(whole)
        chosen = [next(actions) for _ in range(self.num_steps)]
        steps = [[begun], *self.run(whole, iter(chosen), self.num_steps)]
        for rows in (slice(0, 1), slice(1, 9), slice(9, 21)):
            part = self.make(rows.stop - rows.start, SAME, first=rows.start)
            part_begun, _ = part.reset(seed=4)
            mine = [[part_begun], *self.run(part, iter([action[rows] for action in chosen]), self.num_steps)]
            self.assert_same(mine, [[array[rows] for array in step] for step in steps])
