"""Videos: as many frames, as long, and whole or not at all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image, ImageSequence

from velodrome.envs import video
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.video import VideoFile
from velodrome.envs.wrappers import parse_wrappers


def frames(num: int, height: int = 40, width: int = 60) -> list[np.ndarray[Any, Any]]:
    """Each with another brightness."""
    return [np.full((height, width, 3), 5 * i, np.uint8) for i in range(num)]


def write(path: Path, fps: float, given: Iterable[np.ndarray[Any, Any]]) -> None:
    with VideoFile(path, fps) as file:
        for frame in given:
            file.add(frame)


@pytest.mark.parametrize(("height", "width", "size"), [(40, 60, (60, 40)), (39, 61, (62, 40))])
def test_mp4(height: int, width: int, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    write(path, 20, frames(30, height, width))
    assert imageio_ffmpeg.count_frames_and_secs(str(path)) == (30, pytest.approx(1.5, abs=0.01))
    decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(decode, capture_output=True, timeout=60, check=True).stdout
    means = np.frombuffer(raw, np.uint8).reshape(30, size[1], size[0], 3).mean((1, 2, 3))
    assert means == pytest.approx([5.0 * i for i in range(30)], abs=3)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("fps", "num_shown", "length_ms"), [
    (10, 31, 3100), (30, 31, 1030), (50, 31, 620), (60, 16, 530), (125, 11, 260),
])
def test_a_gif_takes_its_time(fps: float, num_shown: int, length_ms: int, tmp_path: Path) -> None:
    path = tmp_path / "x.gif"
    write(path, fps, frames(31))
    with Image.open(path) as image:
        shown = [(np.array(one.convert("RGB")).mean(), one.info["duration"]) for one in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    every = -(-31 // num_shown)
    assert [mean for mean, _ in shown] == [5.0 * i for i in range(0, 31, every)]
    assert sum(duration for _, duration in shown) == length_ms
    assert min(duration for _, duration in shown) >= 20


@pytest.mark.parametrize("suffix", ["gif", "mp4"])
def test_a_video_that_was_not_finished_leaves_the_old_one(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    path.write_text("old")

    def interrupted() -> Iterator[np.ndarray[Any, Any]]:
        yield from frames(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, 10, interrupted())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path, 10, frames(2))
    assert path.stat().st_size > 100
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("frame", "said"), [
    (None, "no frame"), (np.zeros((4, 4), np.uint8), "no frame"), (np.zeros((4, 4, 3)), "no frame"),
    (np.zeros((8, 4, 3), np.uint8), "one size"),
])
def test_frames_that_are_none(frame: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=said):
        write(tmp_path / "x.gif", 10, [np.zeros((4, 4, 3), np.uint8), frame])
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_said_before_anything_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_spec", lambda _name: None)
    for name in ("x.gif", "x.mp4"):
        with pytest.raises(EnvError, match=r"pip install 'velodrome\[video\]'"):
            VideoFile(tmp_path / name, 10)
    with pytest.raises(EnvError, match=r"FILE\.mp4, FILE\.gif"):
        VideoFile(tmp_path / "x.webm", 10)
    monkeypatch.undo()
    with pytest.raises(EnvError, match="mkdir -p"):
        VideoFile(tmp_path / "no" / "x.gif", 10)


def test_the_wrapper_records_every_second_episode(tmp_path: Path) -> None:
    (wrap,) = parse_wrappers(f"video:{tmp_path / 'seen'},2")
    env = wrap(gym.make("velodrome.envs:velodrome/MinAtar-Breakout-v1", render_mode="rgb_array"))
    lengths = []
    for seed in range(4):
        env.reset(seed=seed)
        is_over, length = False, 0
        while not is_over:
            is_over, length = env.step(0)[2], length + 1
        lengths.append(length)
    env.reset(seed=9)  # ends with close
    env.close()
    written = sorted((tmp_path / "seen").iterdir())
    assert [path.name for path in written] == [f"episode-{i:06d}.mp4" for i in (0, 2, 4)]
    counts = [imageio_ffmpeg.count_frames_and_secs(str(path))[0] for path in written]
    assert counts == [lengths[0] + 1, lengths[2] + 1, 1]


def test_the_wrapper_needs_numbers_that_make_sense(tmp_path: Path) -> None:
    env = gym.make("velodrome.envs:velodrome/CartPole-v1", render_mode="rgb_array")
    with pytest.raises(EnvError, match="1 or more"):
        parse_wrappers(f"video:{tmp_path},0")[0](env)
    env.close()
