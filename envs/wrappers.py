"""Wrappers by name, for ``make_envs(wrappers=...)`` and the command line: ``"frame_stack:4"``, ``"atari"``.

Gymnasium's own where they are right and quick; ours (``wrappers_base``, ``wrappers_image``) where they are not.
A wrapper can also be given as a function that takes an environment and returns the wrapped one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from velodrome.envs.adapter_errors import EnvError
from velodrome.errors import nearest

Wrapper = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class NamedWrapper:
    """A wrapper from the table below with its options; can be pickled, and called with an environment."""

    name: str
    values: tuple[Any, ...] = ()

    def __call__(self, env: Any) -> Any:
        """The wrapped environment."""
        return _TABLE[self.name].make(env, *self.values)

    def __str__(self) -> str:
        return ":".join([self.name, ",".join(map(str, self.values))]) if self.values else self.name


def parse_wrappers(wrappers: Sequence[str | Wrapper] | str) -> tuple[Wrapper, ...]:
    """The wrappers as functions, innermost first; presets are opened.

    A name may have values after a colon: ``"resize:64,64"``, ``"clip_reward:-10,10"``. One string may name several,
    with spaces between.

    Raises:
        EnvError: If there is no such wrapper, or its values are wrong.
    """
    items = wrappers.split() if isinstance(wrappers, str) else list(wrappers)
    found: list[Wrapper] = []
    for item in items:
        if not isinstance(item, str):
            found.append(item)
            continue
        name, _, text = item.partition(":")
        if name in PRESETS and not text:
            found += parse_wrappers(PRESETS[name])
            continue
        if name not in _TABLE:
            names = [*_TABLE, *PRESETS]
            raise EnvError("There is no such wrapper", given=repr(item), allowed=", ".join(names),
                           hint=nearest(name, names))
        found.append(NamedWrapper(name, _values(_TABLE[name], item, text)))
    return tuple(found)


PRESETS: dict[str, tuple[str, ...]] = {
    "atari": ("noop_reset:30", "max_and_skip:4", "episodic_life", "fire_reset", "grey_scale", "resize:84,84",
              "frame_stack:4", "clip_reward:-1,1"),
}
"""Chains of wrappers, innermost first. ``atari``: Mnih et al. 2015, for an environment made with ``frameskip=1``."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A wrapper's maker, the kinds of its values, and how many of them are needed."""

    make: Callable[..., Any]
    kinds: tuple[type, ...]
    num_needed: int
    usage: str


def _values(entry: _Entry, item: str, text: str) -> tuple[Any, ...]:
    words = [word for word in text.split(",") if word]
    try:
        values = tuple(kind(word) for kind, word in zip(entry.kinds, words, strict=False))
    except ValueError:
        values = ()
    if len(values) != len(words) or len(words) < entry.num_needed:
        raise EnvError("The wrapper's values are wrong", given=repr(item), allowed=entry.usage)
    return values


def _frame_stack(env: Any, num: int = 4) -> Any:
    from gymnasium.wrappers import FrameStackObservation

    return FrameStackObservation(env, num)


def _grey_scale(env: Any) -> Any:
    from velodrome.envs.wrappers_image import GreyScale

    return GreyScale(env)


def _resize(env: Any, height: int = 84, width: int = 84) -> Any:
    from velodrome.envs.wrappers_image import Resize

    return Resize(env, height, width)


def _clip_reward(env: Any, low: float = -1.0, high: float = 1.0) -> Any:
    from gymnasium.wrappers import ClipReward

    return ClipReward(env, low, high)


def _clip_action(env: Any) -> Any:
    from gymnasium.wrappers import ClipAction

    return ClipAction(env)


def _rescale_action(env: Any, low: float = -1.0, high: float = 1.0) -> Any:
    from gymnasium.wrappers import RescaleAction

    return RescaleAction(env, np.float32(low), np.float32(high))


def _time_limit(env: Any, num_steps: int) -> Any:
    from gymnasium.wrappers import TimeLimit

    return TimeLimit(env, num_steps)


def _episodic_life(env: Any) -> Any:
    from velodrome.envs.wrappers_base import EpisodicLife

    return EpisodicLife(env)


def _no_velocity(env: Any) -> Any:
    from velodrome.envs.wrappers_hidden import NoVelocity

    return NoVelocity(env)


def _noop_reset(env: Any, most: int = 30) -> Any:
    from velodrome.envs.wrappers_atari import NoopReset

    return NoopReset(env, most)


def _max_and_skip(env: Any, num: int = 4) -> Any:
    from velodrome.envs.wrappers_atari import MaxAndSkip

    return MaxAndSkip(env, num)


def _fire_reset(env: Any) -> Any:
    from velodrome.envs.wrappers_atari import FireReset

    return FireReset(env)


def _video(env: Any, folder: str = "videos", every: int = 1) -> Any:
    from velodrome.envs.wrappers_video import RecordVideo

    return RecordVideo(env, folder, every)


_TABLE: dict[str, _Entry] = {
    "frame_stack": _Entry(_frame_stack, (int,), 0, "frame_stack:4 (how many frames)"),
    "grey_scale": _Entry(_grey_scale, (), 0, "grey_scale"),
    "resize": _Entry(_resize, (int, int), 0, "resize:84,84 (height, width)"),
    "clip_reward": _Entry(_clip_reward, (float, float), 0, "clip_reward:-1,1"),
    "clip_action": _Entry(_clip_action, (), 0, "clip_action"),
    "rescale_action": _Entry(_rescale_action, (float, float), 0, "rescale_action:-1,1"),
    "time_limit": _Entry(_time_limit, (int,), 1, "time_limit:1000 (steps)"),
    "episodic_life": _Entry(_episodic_life, (), 0, "episodic_life"),
    "no_velocity": _Entry(_no_velocity, (), 0, "no_velocity"),
    "noop_reset": _Entry(_noop_reset, (int,), 0, "noop_reset:30 (at most)"),
    "max_and_skip": _Entry(_max_and_skip, (int,), 0, "max_and_skip:4 (frames)"),
    "fire_reset": _Entry(_fire_reset, (), 0, "fire_reset"),
    "video": _Entry(_video, (str, int), 0, "video:FOLDER,EVERY (every so many episodes)"),
}
"""Every wrapper that has a name."""
