"""Frames to a video: MP4 by imageio-ffmpeg, GIF by Pillow (``pip install 'velodrome[video]'``).

The loop::

    with VideoFile("episode.mp4", fps=30) as video:
        video.add(env.render())
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from velodrome.envs.adapter_errors import EnvError

_NEEDED = {".mp4": "imageio_ffmpeg", ".gif": "PIL"}
_MAX_GIF_FPS = 50
"""Viewers slow down what is quicker."""


def check_video(path: str | os.PathLike[str]) -> None:
    """Looks whether such a video can be written, before anything is played for it.

    Raises:
        EnvError: If its name ends otherwise, its folder is not there, or a library is missing.
    """
    file = Path(path)
    module = _NEEDED.get(file.suffix.lower())
    if module is None:
        raise EnvError("A video of this kind can't be written", given=str(path), allowed="FILE.mp4, FILE.gif")
    if not file.parent.is_dir():
        raise EnvError("The video's folder is not there", given=str(file.parent), hint=f"mkdir -p {file.parent}")
    if find_spec(module) is None:
        raise EnvError(f"Writing {file.suffix.lower()} needs a library that is not installed", given=str(path),
                       allowed=f"with {module}", hint="pip install 'velodrome[video]'")


class VideoFile:
    """A video that is being written; it appears under its name when it is whole.

    Args:
        path: ``FILE.mp4`` or ``FILE.gif``; one that is there is replaced.
        fps: Frames a second. A GIF of more than 50 has only every 2nd (3rd, ...) frame, so that it plays as quickly.

    Raises:
        EnvError: As ``check_video`` does.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        check_video(path)
        self.path, self.fps = Path(path), fps
        self.num_frames = 0
        self._unfinished = self.path.with_name(f".unfinished-{os.getpid()}-{self.path.name}")
        self._writer: _Gif | _Mp4 | None = None
        self._shape: tuple[int, ...] = ()
        self._make: Callable[[Path, float], _Gif | _Mp4] = _Gif if self.path.suffix.lower() == ".gif" else _Mp4

    def add(self, frame: Any) -> None:
        """The next frame: ``[H, W, 3]`` uint8, as large as the others.

        Raises:
            EnvError: If it is something else.
        """
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            given = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else repr(frame)[:200]
            raise EnvError("The environment drew something that is no frame", given=given,
                           allowed="a uint8 array of shape (height, width, 3)")
        if self._writer is None:
            self._writer, self._shape = self._make(self._unfinished, self.fps), frame.shape
        if frame.shape != self._shape:
            raise EnvError("The frames of a video must be of one size", given=str(frame.shape),
                           allowed=str(self._shape))
        self._writer.add(frame)
        self.num_frames += 1

    def close(self) -> None:
        """Ends the video and gives it its name. Without a frame there is none."""
        if self._writer is not None:
            self._writer.close()
            self._unfinished.replace(self.path)
            self._writer = None

    def discard(self) -> None:
        """Ends the video and leaves nothing of it."""
        if self._writer is not None:
            self._writer.stop()
            self._unfinished.unlink(missing_ok=True)
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _value: object, _traceback: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class _Mp4:
    """Frames go to ffmpeg as they come."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._ffmpeg: Generator[None, Any, None] | None = None

    def add(self, frame: NDArray[Any]) -> None:
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")  # what the codec wants
        if self._ffmpeg is None:
            from imageio_ffmpeg import write_frames

            self._ffmpeg = write_frames(
                str(self._path), even.shape[1::-1], fps=self._fps, codec="libx264", quality=7, macro_block_size=2,
                ffmpeg_log_level="error",
            )
            self._ffmpeg.send(None)
        self._ffmpeg.send(np.ascontiguousarray(even))

    def close(self) -> None:
        if self._ffmpeg is not None:
            self._ffmpeg.close()

    stop = close


class _Gif:
    """Frames are kept, in 256 colours each, until the end."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._every = max(1, math.ceil(fps / _MAX_GIF_FPS))
        self._fps = fps / self._every
        self._images: list[Any] = []
        self._num_given = 0

    def add(self, frame: NDArray[Any]) -> None:
        from PIL import Image

        if self._num_given % self._every == 0:
            self._images.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE))
        self._num_given += 1

    def close(self) -> None:
        # A GIF counts in hundredths of a second: some frames are shown a little longer, so that the whole is right.
        ends = np.rint(np.arange(len(self._images) + 1) * 100 / self._fps).astype(int)
        first, *others = self._images
        first.save(self._path, format="GIF", save_all=True, append_images=others, loop=0,
                   duration=(10 * np.diff(ends)).tolist())

    def stop(self) -> None:
        self._images.clear()
