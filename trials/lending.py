"""Checkpoints that a trial takes over from another (population based training, weight sharing): whose, and until when.

Pure bookkeeping of the trial table's. The owner's own need for a checkpoint may end before that of the trials that go
on from it; its files go when the last one has let it go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from velodrome.trials.retention import Saved
from velodrome.types import Params, ParamValue


class Fork(NamedTuple):
    """A trial that is to begin from another's checkpoint, and has no number yet."""

    parent: int
    params: Params
    """The parent's."""
    saved: Saved
    """The parent's newest checkpoint at that moment."""

    def origin(self, params: Params) -> dict[str, Any]:
        """Where the new trial comes from, as JSON: parent, its checkpoint, and what differs, as ``[before, now]``."""
        names = [name for name in {**self.params, **params} if not _same(self.params, params, name)]
        changed: dict[str, list[ParamValue]] = {n: [self.params.get(n), params.get(n)] for n in names}
        return {"parent": self.parent, "step": self.saved.step, "path": self.saved.path, "changed": changed}


class Lending:
    """Who needs which checkpoint, where that is not its owner alone."""

    def __init__(self) -> None:
        self._owners: dict[str, int] = {}
        self._borrowers: dict[str, int] = {}
        """How many trials are to go on from it, or may have to again."""
        self._left: dict[str, None] = {}
        """Those that their owners need no more."""

    def lend(self, owner: int, path: str) -> None:
        """One more trial needs the owner's checkpoint."""
        self._owners[path] = owner
        self._borrowers[path] = self._borrowers.get(path, 0) + 1

    def is_borrowed(self, number: int, path: str) -> bool:
        """Whether trial ``number`` has this checkpoint from another."""
        return self._owners.get(path, number) != number

    def drop(self, number: int, checkpoints: Iterable[Saved]) -> list[tuple[int, str]]:
        """Trial ``number`` needs these no more: owner and path of those that nobody needs now."""
        gone: list[tuple[int, str]] = []
        for saved in checkpoints:
            path = saved.path
            if path not in self._owners:
                gone.append((number, path))
            elif self._owners[path] == number:
                self._left[path] = None
            else:
                self._borrowers[path] -= 1
                if not self._borrowers[path]:
                    owner = self._owners.pop(path)
                    del self._borrowers[path]
                    if path in self._left:
                        del self._left[path]
                        gone.append((owner, path))
        return gone


def _same(a: Params, b: Params, name: str) -> bool:
    return name in a and name in b and a[name] == b[name] and type(a[name]) is type(b[name])
