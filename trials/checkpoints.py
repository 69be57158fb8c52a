"""A trial's checkpoints as files: written whole or not at all, and never loaded unless every byte is as it was written.

A checkpoint is a folder, ``velodrome.files/STUDY/000012/step-00000300-a2`` (trial 12, step 300, made in its second
attempt), with these files::

    state.json              the state, but for its arrays and tensors (``trials/state_codec.py``)
    weights.safetensors     its torch tensors, where it has some
    arrays.safetensors      its NumPy arrays, where it has some
    manifest.json           what it is a checkpoint of, and SHA-256 and size of every file

It is made under another name beside, brought to the disk, and renamed. The manifest's own SHA-256 stands in the study's
log. Workers write these files; only the controller deletes them, once the log knows that they are not needed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from velodrome.trials.state_codec import decode, encode

FORMAT = 1
MANIFEST, _STATE, _WEIGHTS, _ARRAYS = "manifest.json", "state.json", "weights.safetensors", "arrays.safetensors"
UNFINISHED = ".unfinished-"
_TRIAL, _CHECKPOINT = re.compile(r"\d{6,}"), re.compile(r"step-(?P<step>\d{8,})-a\d+(-\d+)?")


class Written(NamedTuple):
    """A checkpoint that is on the disk."""

    path: str
    """Relative to the store's folder."""
    sha256: str
    """Of its manifest, which has those of the other files."""
    size_bytes: int


class Kept(NamedTuple):
    """A checkpoint that a trial can go on from, as its worker is told of it."""

    step: int
    path: str
    sha256: str


def save(store_dir: str, files_dir: str, number: int, attempt: int, step: int, state: Any) -> Written:
    """Writes a checkpoint; when this returns, not even a power cut can take it away.

    Args:
        store_dir: The store's folder.
        files_dir: The study's folder of files, relative to the store's.
        number: The trial.
        attempt: Which start of it.
        step: The step after which the state is so.
        state: What to keep.

    Raises:
        TypeError: If something in the state can't be kept.
        OSError: If it can't be written; nothing is left of it then.
    """
    encoded = encode(state)
    folder = Path(store_dir, files_dir, f"{number:06d}")
    made = folder / f"{UNFINISHED}{step:08d}-a{attempt}-{os.getpid()}"
    try:
        make_inside(folder, made, Path(store_dir))
        (made / _STATE).write_text(encoded.text, encoding="ascii")
        if encoded.tensors:
            import safetensors.torch

            _write(safetensors.torch.save_file, encoded.tensors, made / _WEIGHTS)
        if encoded.arrays:
            import safetensors.numpy

            _write(safetensors.numpy.save_file, encoded.arrays, made / _ARRAYS)
        files = _sync_and_hash(made)
        facts = {"format": FORMAT, "trial": number, "attempt": attempt, "step": step, "files": files}
        manifest = f"{json.dumps(facts, indent=1)}\n".encode()
        (made / MANIFEST).write_bytes(manifest)
        sync(made / MANIFEST)
        sync(made)
        sha256, size_bytes = hashlib.sha256(manifest).hexdigest(), len(manifest)
        made = rename(made, f"step-{step:08d}-a{attempt}")
        sync(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    size_bytes += sum(int(file["size_bytes"]) for file in files.values())
    return Written(f"{files_dir}/{folder.name}/{made.name}", sha256, size_bytes)


def problem_with(folder: Path, sha256: str) -> str:
    """What is wrong with a checkpoint, in a few words; empty for one that is as it was written."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
        if hashlib.sha256(manifest).hexdigest() != sha256:
            return f"{MANIFEST} is not as it was written"
        for name, facts in json.loads(manifest)["files"].items():
            size_bytes = (folder / name).stat().st_size
            if size_bytes != facts["size_bytes"]:
                return f"{name} has {size_bytes:,} bytes, not {facts['size_bytes']:,}"
            if _sha256(folder / name) != facts["sha256"]:
                return f"{name} is not as it was written (its SHA-256 differs)"
    except OSError as error:
        return f"{Path(error.filename or folder).name} can't be read: {error.strerror}"
    return ""


def load(folder: Path, map_to: str = "cpu") -> Any:
    """The state of a checkpoint that has no problem. ``map_to`` is where tensors go that were on a GPU.

    Raises:
        ValueError: If a newer velodrome wrote it.
    """
    version = json.loads((folder / MANIFEST).read_bytes())["format"]
    if version > FORMAT:
        raise ValueError(f"checkpoint of format {version}, written by a newer velodrome; this one reads {FORMAT}")
    tensors, arrays = {}, {}
    if (folder / _WEIGHTS).exists():
        import safetensors.torch

        tensors = safetensors.torch.load_file(folder / _WEIGHTS)
    if (folder / _ARRAYS).exists():
        import safetensors.numpy

        arrays = safetensors.numpy.load_file(folder / _ARRAYS)
    return decode((folder / _STATE).read_text(encoding="ascii"), arrays, tensors, map_to)


def newest_sound(store_dir: str | Path, kept: Iterable[Kept]) -> tuple[Kept | None, list[str]]:
    """The first that has no problem, and of each before it a sentence that says what is wrong with it."""
    skipped: list[str] = []
    for checkpoint in kept:
        problem = problem_with(Path(store_dir, checkpoint.path), checkpoint.sha256)
        if not problem:
            return checkpoint, skipped
        skipped.append(f"the checkpoint of step {checkpoint.step} is damaged: {problem}")
    return None, skipped


def remover(store_dir: Path, files_dir: str) -> Callable[[str], None]:
    """What deletes a checkpoint by its path, with its trial's folder where that is empty then.

    A path that is no checkpoint's in the study's own folder is left alone: a store that is a copy of another names the
    other's files, and one that somebody made up may name any.
    """

    def remove(path: str) -> None:
        above, _, rest = path.rpartition("/")
        parent, _, trial = above.rpartition("/")
        if parent == files_dir and _TRIAL.fullmatch(trial) and _CHECKPOINT.fullmatch(rest):
            folder = store_dir / path
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # not empty
                folder.parent.rmdir()

    return remove


def clean(store_dir: Path, files_dir: str, known: Iterable[str]) -> int:
    """Deletes what killed processes left in a study's folder, all but the ``known`` paths; returns how many it were.

    Only for the study's controller, while no worker of it runs. What has another name than a checkpoint's stays.
    """
    study, keep, count = store_dir / files_dir, set(known), 0
    if not study.is_dir():
        return 0
    for folder in [f for f in study.iterdir() if _TRIAL.fullmatch(f.name) and f.is_dir()]:
        for path in folder.iterdir():
            is_ours = path.name.startswith(UNFINISHED) or _CHECKPOINT.fullmatch(path.name)
            if is_ours and f"{files_dir}/{folder.name}/{path.name}" not in keep:
                shutil.rmtree(path, ignore_errors=True)
                count += 1
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
    return count


def remove_leftovers(store_dir: str, files_dir: str, number: int, kept: Iterable[Kept]) -> None:
    """Deletes what an earlier attempt of the trial left: half written, or whole and not told.

    What was not told is later than all that was; an earlier one that the trial needs no more may be lent to another.

    Args:
        store_dir: The store's folder.
        files_dir: The study's folder of files, relative to the store's.
        number: The trial.
        kept: What the study knows of.
    """
    told = max((checkpoint.step for checkpoint in kept), default=-1)
    folder = Path(store_dir, files_dir, f"{number:06d}")
    for path in folder.iterdir() if folder.is_dir() else ():
        named = _CHECKPOINT.fullmatch(path.name)
        if path.name.startswith(UNFINISHED) or (named is not None and int(named["step"]) > told):
            shutil.rmtree(path, ignore_errors=True)


def _write(save_file: Callable[[Any, Path], None], data: Any, path: Path) -> None:
    """Writes a safetensors file; its library's own word for a full disk is turned into the system's."""
    from safetensors import SafetensorError

    try:
        save_file(data, path)
    except SafetensorError as error:
        raise OSError(f"{path.name}: {error}") from error


def _sync_and_hash(folder: Path) -> dict[str, dict[str, str | int]]:
    """Brings the folder's files to the disk, and works out their SHA-256 meanwhile: one waits, the other computes."""
    from concurrent.futures import ThreadPoolExecutor

    paths = sorted(folder.iterdir())
    with ThreadPoolExecutor(1) as thread:
        syncs = thread.map(sync, paths)
        hashes = [_sha256(path) for path in paths]
        list(syncs)  # raises where one failed
    return {path.name: {"sha256": sha256, "size_bytes": path.stat().st_size}
            for path, sha256 in zip(paths, hashes, strict=True)}


def make_inside(folder: Path, new: Path, above: Path) -> None:
    """Makes both folders, also where the controller removes the outer one, empty, at this moment."""
    while True:
        _make_folder(folder, above)
        try:
            new.mkdir()
            return
        except FileNotFoundError:
            continue


def _make_folder(folder: Path, above: Path) -> None:
    """Makes the folder, durably; ``above`` is there."""
    if folder.is_dir():
        return
    _make_folder(folder.parent, above)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def rename(unfinished: Path, name: str) -> Path:
    """Gives the folder its name, with a number behind where that is taken; nothing is ever overwritten."""
    new, count = name, 1
    while True:
        try:
            return unfinished.rename(unfinished.parent / new)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        count += 1
        new = f"{name}-{count}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
