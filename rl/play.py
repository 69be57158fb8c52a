"""Plays episodes with a trained agent, one after the other in one environment, and writes a video of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from velodrome.envs.adapter_errors import EnvError, missing_module, raised
from velodrome.envs.adapter_rows import tracker_of
from velodrome.envs.video import VideoFile, check_video
from velodrome.errors import UsageError
from velodrome.rl.loading import LoadedAgent
from velodrome.seeding import derive

MAX_FRAMES = 1000
"""By default so many frames are kept at most."""

_MAX_STEPS = 100_000
"""An episode that is longer is cut, and counts with what it has."""
_FPS = 30
"""Where the environment does not say how fast it is to be shown."""


@dataclass(frozen=True, slots=True)
class Played:
    """Episodes that were played.

    Attributes:
        returns: ``[E]``, the sum of raw rewards of each.
        lengths: ``[E]``, in steps of the environment.
        frames: What was seen, ``[H, W, 3]`` uint8 each, where it was asked for.
        num_frames: How many went into frames or video.
        num_left_out: How many did not, because there were enough.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    frames: list[NDArray[np.uint8]]
    num_frames: int
    num_left_out: int


def play(
    agent: LoadedAgent, *, episodes: int = 1, seed: int = 0, video: str | os.PathLike[str] | None = None,
    fps: float | None = None, keep_frames: bool = False, max_frames: int = MAX_FRAMES,
) -> Played:
    """Plays episodes. Episode i is the same whatever their number, and whether it is drawn or not.

    Args:
        agent: Who plays.
        episodes: How many.
        seed: Of environment and drawn actions.
        video: ``FILE.mp4`` or ``FILE.gif``, for all episodes together.
        fps: Frames a second; None for what the environment says, so that time runs as in it.
        keep_frames: Whether frames are returned.
        max_frames: So many at most; playing goes on without them.

    Raises:
        UsageError: A number that makes no sense.
        EnvError: The environment can't be made or drawn, raises an error, or a library for videos is missing.
    """
    for name, value in (("episodes", episodes), ("max_frames", max_frames)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} can't be that", given=repr(value), allowed="a whole number from 1")
    if fps is not None and not 0 < fps <= 1000:
        raise UsageError("fps can't be that", given=repr(fps), allowed="frames a second, up to 1000")
    if video is not None:
        check_video(video)
    with ExitStack() as stack:
        env = agent.make_env("rgb_array" if video is not None or keep_frames else None)
        stack.callback(env.close)
        frames: list[NDArray[np.uint8]] = []
        sinks: list[Callable[[Any], None]] = [frames.append] if keep_frames else []
        if video is not None:
            sinks.append(stack.enter_context(VideoFile(video, fps or env.metadata.get("render_fps") or _FPS)).add)
        camera = _Camera(env, sinks, max_frames)
        played = [_episode(agent, env, derive(seed, "play", i) & 0x7FFF_FFFF, camera.look) for i in range(episodes)]
    returns, lengths = zip(*played, strict=True)
    return Played(np.array(returns), np.array(lengths), frames, camera.num_taken, camera.num_left_out)


class _Camera:
    """Takes frames of an environment until there are enough."""

    def __init__(self, env: Any, sinks: list[Callable[[Any], None]], most: int) -> None:
        self._env, self._sinks, self._most = env, sinks, most
        self.num_taken = self.num_left_out = 0

    def look(self) -> None:
        """Takes a frame, if anyone wants one."""
        if not self._sinks:
            return
        if self.num_taken == self._most:
            self.num_left_out += 1
            return
        try:
            frame = self._env.render()
        except Exception as error:
            raise missing_module("drawing", error) or raised("drawing a frame", error) from error
        for sink in self._sinks:
            sink(frame)
        self.num_taken += 1


def _episode(agent: LoadedAgent, env: Any, seed: int, look: Callable[[], None]) -> tuple[float, int]:
    """Plays one; its raw return and its length."""
    tracker = tracker_of(env)
    agent.reset(seed)
    try:
        obs, info = env.reset(seed=seed)
        tracker.discard()
        look()
        for _ in range(_MAX_STEPS):
            obs, _, terminated, truncated, info = env.step(agent.act(obs, info.get("action_mask")))
            look()
            if tracker.ended:
                break
            if terminated or truncated:  # a wrapper cuts the episode into smaller ones: a lost life
                obs, info = env.reset()
                agent.reset()
        if not tracker.ended:
            env.reset(seed=seed)
    except EnvError:
        raise
    except Exception as error:
        raise raised("play", error) from error
    ended: tuple[float, int] = tracker.pop()
    return ended
