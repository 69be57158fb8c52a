"""A Ray cluster of three nodes on this machine, for tests of what happens when one of them is lost."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ray._private.authentication_test_utils import reset_auth_token_state
from ray.cluster_utils import Cluster

from velodrome.trials.ray_cluster import make_token

_OBJECTS_BYTES = 100 << 20


class RayNodes:
    """The cluster: a head, which stays, and two more nodes, of one core each; asks for a token."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cluster = Cluster(initialize_head=True, head_node_args={
            "num_cpus": 1, "include_dashboard": False, "object_store_memory": _OBJECTS_BYTES,
        })
        self._folder = self._cluster.head_node.get_session_dir_path()
        for _ in range(2):
            self.add()

    @property
    def address(self) -> str:
        """What ``--address`` takes."""
        return str(self._cluster.address)

    def add(self, **resources: float) -> None:
        """One more node, with these custom resources."""
        with self._lock:
            self._cluster.add_node(num_cpus=1, object_store_memory=_OBJECTS_BYTES, resources=resources)

    def lose(self, chance: random.Random) -> None:
        """A node is gone at once, as if somebody had pulled its plug."""
        with self._lock:
            victim = chance.choice(list(self._cluster.worker_nodes))
            self._cluster.remove_node(victim, allow_graceful=False)

    def close(self) -> None:
        """Ends every node."""
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def three_nodes(folder: Path) -> Iterator[RayNodes]:
    """The cluster while it lasts; its token is kept in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "secret" / "token"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setattr("ray._private.utils.set_sigterm_handler", _nothing)  # which only the main thread can do
        make_token()
        reset_auth_token_state()  # Ray has read its settings already, where another test began one
        nodes = RayNodes()
        try:
            yield nodes
        finally:
            nodes.close()
    reset_auth_token_state()


def _nothing(_handler: object) -> None:
    return None
