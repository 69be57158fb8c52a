"""A wrapper that writes videos of episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym

from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.video import VideoFile


class RecordVideo(gym.Wrapper[Any, Any, Any, Any]):
    """Writes ``FOLDER/episode-000000.mp4`` and so on.

    Args:
        env: An environment with ``render_mode="rgb_array"``.
        folder: Where the videos go; made if it is not there.
        every: Of every so many episodes one is recorded, the first included.

    Raises:
        EnvError: If it does not draw frames, or a library is missing.
    """

    def __init__(self, env: gym.Env[Any, Any], folder: str = "videos", every: int = 1) -> None:
        super().__init__(env)
        if env.render_mode != "rgb_array":
            raise EnvError("Video needs an environment that renders frames", given=f"render_mode={env.render_mode!r}",
                           allowed="rgb_array", hint="make_envs(..., kwargs={'render_mode': 'rgb_array'})")
        if every < 1:
            raise EnvError("Videos can't be so frequent", given=str(every), allowed="1 or more")
        self._folder, self._every = Path(folder), every
        self._folder.mkdir(parents=True, exist_ok=True)
        self._num_episodes = 0
        self._video: VideoFile | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets, and begins a video if it is time for one."""
        self._end()
        result = self.env.reset(seed=seed, options=options)
        if self._num_episodes % self._every == 0:
            path = self._folder / f"episode-{self._num_episodes:06d}.mp4"
            self._video = VideoFile(path, self.env.metadata.get("render_fps") or 30)
            self._video.add(self.env.render())
        self._num_episodes += 1
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; the video ends with its episode."""
        result = self.env.step(action)
        if self._video is not None:
            self._video.add(self.env.render())
            if result[2] or result[3]:
                self._end()
        return result

    def close(self) -> None:
        """Ends the video that is being written."""
        self._end()
        super().close()

    def _end(self) -> None:
        if self._video is not None:
            self._video.close()
            self._video = None
