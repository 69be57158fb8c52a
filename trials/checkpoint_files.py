"""Checkpoints on their way between machines: the folder as names and bytes, and back.

What arrives at the store is written as a worker beside it would have written it: whole or not at all, brought to the
disk, renamed. A copy that a worker on another machine goes on from needs none of that: its hashes are looked at before
it is used, and where it is damaged the one before it counts.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from velodrome.trials.checkpoints import MANIFEST, UNFINISHED, Kept, Written, make_inside, rename, sync

Files = dict[str, bytes]


def read(folder: Path) -> Files:
    """Every file of a checkpoint; none where it can't be read."""
    try:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    except OSError:
        return {}


def read_kept(store_dir: str, kept: Iterable[Kept]) -> dict[str, Files]:
    """The files of each checkpoint that a trial can go on from, by its path."""
    return {checkpoint.path: read(Path(store_dir, checkpoint.path)) for checkpoint in kept}


def receive(store_dir: str, path: str, files: Files) -> Written:
    """Writes a checkpoint that was made elsewhere; when this returns, it is on the disk.

    Args:
        store_dir: The store's folder.
        path: The checkpoint's, relative to it; taken already, it gets a number behind.
        files: Names and bytes.

    Raises:
        OSError: If it can't be written; nothing is left of it then.
    """
    named = Path(store_dir, path)
    made = named.with_name(f"{UNFINISHED}{named.name.removeprefix('step-')}-{os.getpid()}")
    try:
        make_inside(made.parent, made, Path(store_dir))
        for name, data in files.items():
            (made / Path(name).name).write_bytes(data)
            sync(made / Path(name).name)
        sync(made)
        made = rename(made, named.name)
        sync(made.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    sha256 = hashlib.sha256(files.get(MANIFEST, b"")).hexdigest()
    return Written(f"{path.rpartition('/')[0]}/{made.name}", sha256, sum(map(len, files.values())))


def write_copies(store_dir: Path, folders: dict[str, Files]) -> None:
    """Writes copies of checkpoints at their paths, over what is there."""
    for path, files in folders.items():
        folder = store_dir / path
        shutil.rmtree(folder, ignore_errors=True)
        if files:
            folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / Path(name).name).write_bytes(data)
