"""``check_env`` finds what is wrong, and says in which line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.envs import adapter_envs as user
from velodrome.envs.adapter_factory import EnvFactory
from velodrome.envs.check import Finding, check_env
from velodrome.envs.check_timing import Timing, recommend, time_env
from velodrome.envs.check_values import why_not_in


class OldReset(user.Counter):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class OldStep(user.Counter):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class IntFlag(user.Counter):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, int(terminated), truncated, info


class WrongDtype(user.Counter):
    def _obs(self) -> np.ndarray:
        return super()._obs().astype(np.float64)


class WrongShape(user.Counter):
    def _obs(self) -> np.ndarray:
        return super()._obs()[:2]


class OutOfBounds(user.Counter):
    observation_space = spaces.Box(0, 3, (3,), np.float32)


class ArrayReward(user.Counter):
    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, np.array([reward]), terminated, truncated, info


class NoInfo(user.Counter):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], None


class Unseeded(user.Counter):
    def _obs(self) -> np.ndarray:
        obs = super()._obs()
        obs[2] = np.random.random()  # noqa: NPY002 - the mistake that is to be found
        return obs


class SharedState(user.Counter):
    """Its step depends on something that all objects share."""

    shared = [0.0]  # noqa: RUF012 - the mistake that is to be found

    def step(self, action: Any) -> Any:
        obs, *rest = super().step(action)
        self.shared[0] += 1
        obs[2] = self.shared[0]
        return obs, *rest


class DirtyReset(user.Counter):
    """A step after the end changes the next episode."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0

    def step(self, action: Any) -> Any:
        if self.t >= self.length:
            self.offset += 1
        return super().step(action)

    def _obs(self) -> np.ndarray:
        obs = super()._obs()
        if self.t == 0:
            obs[0] += self.offset
            self.offset = 0
        return obs


class NoSpace(user.Counter):
    action_space = None


class TextObs(user.Counter):
    observation_space = spaces.Text(3)


class Endless(user.Counter):
    def __init__(self) -> None:
        super().__init__(length=10**9)


class NotPicklable(user.Counter):
    def __init__(self) -> None:
        super().__init__()
        self.file = open(__file__, encoding="utf-8")  # noqa: SIM115, PTH123 - something that can't be pickled

    def close(self) -> None:
        self.file.close()


class RaisesInInit(user.Counter):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


def check(target: Any) -> list[Finding]:
    return check_env(EnvFactory(target, {}))


@pytest.mark.parametrize("target", [user.Counter, user.Nested, user.Masked, user.Box2, user.Bits, "CartPole-v1"])
def test_good_environments_have_no_bad_finding(target: Any) -> None:
    assert [finding for finding in check(target) if finding.status == "bad"] == []


@pytest.mark.parametrize(("target", "name", "said"), [
    (OldReset, "reset", "not (observation, info)"),
    (OldStep, "step", "returned a tuple of 4"),
    (IntFlag, "step", "terminated is 0, a int, not a bool"),
    (WrongDtype, "reset", "its dtype is float64, the space's is float32"),
    (WrongShape, "reset", "its shape is (2,), the space's is (3,)"),
    (OutOfBounds, "step", "its value 4.0 at index 1 is out of bounds [0.0, 3.0]"),
    (ArrayReward, "step", "a ndarray, not a number"),
    (NoInfo, "step", "info is a NoneType, not a dict"),
    (user.TurnsNaN, "step", "its value nan at index 1 is NaN"),
    (user.Raises, "step", "step 3 raised ZeroDivisionError: the user's own mistake"),
    (Unseeded, "seeding", "reset with the same seed twice gave two observations"),
    (SharedState, "determinism", "two environments with one seed differ in step 1"),
    (DirtyReset, "after the end", "a step too many changes the next episode"),
    (NoSpace, "action_space", "is None, which is no Gymnasium space"),
    (TextObs, "observation_space", "The observation space is not supported"),
    (RaisesInInit, "made", "RuntimeError: no licence"),
])
def test_the_first_bad_finding_names_the_fault(target: Any, name: str, said: str) -> None:
    bad = [finding for finding in check(target) if finding.status == "bad"]
    assert bad[0].name == name
    assert said in bad[0].detail


@pytest.mark.parametrize(("target", "line"), [
    (OldStep, "        return obs, reward, terminated, info"),
    (OldReset, "        return super().reset(seed=seed)[0]"),
    (user.Raises, '            raise ZeroDivisionError("the user\'s own mistake")'),
    (RaisesInInit, '        raise RuntimeError("no licence")'),
])
def test_a_finding_names_the_line(target: Any, line: str) -> None:
    bad = next(finding for finding in check(target) if finding.status == "bad")
    file, _, number = bad.where.rpartition(":")
    assert Path(file).read_text(encoding="utf-8").splitlines()[int(number) - 1] == line


def test_what_can_be_lived_with_is_a_warning() -> None:
    assert [f.name for f in check(Endless) if f.status == "warn"] == ["episodes"]
    assert [f.name for f in check(NotPicklable) if f.status == "warn"] == ["resume"]


@pytest.mark.parametrize(("space", "value", "said"), [
    (spaces.Box(0, 1, (2,), np.float32), [0.0, 1.0], "it is a list, not a NumPy array"),
    (spaces.Dict(a=spaces.Discrete(2)), {"b": 0}, "has ['b'], the space has the keys ['a']"),
    (spaces.Dict(a=spaces.Discrete(2)), {"a": 2}, "at /a: 2 (a int) is not in Discrete(2)"),
    (spaces.Tuple([spaces.Discrete(2)]), [0], "is not a tuple of 1"),
    (spaces.Box(0, 255, (1,), np.uint8), np.array([1], np.uint8), ""),
])
def test_why_a_value_is_not_in_a_space(space: spaces.Space, value: Any, said: str) -> None:
    assert said in why_not_in(space, value)
    assert bool(said) != (why_not_in(space, value) == "")


def test_timings_and_their_advice() -> None:
    timings = time_env(EnvFactory(user.Masked, {}), seconds=0.05)
    assert [t.mode for t in timings] == ["single", "sync", "process"]
    assert all(t.steps_per_s > 0 for t in timings)
    fake = [Timing("single", 1, 100.0, ""), Timing("sync", 8, 100.0, ""), Timing("process", 8, 190.0, "")]
    assert recommend(fake).startswith("mode='process': 1.9 times")
    assert recommend([*fake, Timing("auto", 8, 1900.0, "")]).startswith("mode='auto'")
    assert recommend([fake[0], fake[1], Timing("process", 8, 50.0, "")]).startswith("mode='sync'")
