"""The Ray cluster that a study runs on: one of our own on this machine, or one that is there and is joined.

Our own listens on the loopback address alone, asks for a token, has no dashboard, reports no usage, and is gone when
the study ends, or when its controller is killed.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from velodrome.errors import UsageError, VeloError
from velodrome.resources.inventory import Inventory
from velodrome.resources.ray_plan import RayPlan, plan_ray
from velodrome.resources.request import ResourceRequest
from velodrome.trials.ray_reaper import MARK, Reaper

_PREFIX = "velo-ray-"
_CONNECT_PATIENCE_S = 5.0
_OBJECTS_BYTES = 512 << 20
"""Shared memory for what is under way between processes (checkpoints, mostly); more of it goes to the disk."""
_MAX_FOLDER = 30
"""A socket's path has at most 107 bytes, and Ray adds 75 to the folder's."""
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0", "RAY_DEDUP_LOGS": "0"}
"""No figures to Ray's makers; and no killing by Ray for memory: the workers' own limits do that, trial by trial."""
_TERSE = {"RAY_NUM_REDIS_GET_RETRIES": "3"}
"""So many seconds for a cluster to let us in."""


class RayCluster:
    """A connection to Ray, made at once.

    Args:
        address: ``""`` for a Ray of our own, ``auto`` for the one that runs on this machine, or ``HOST:PORT``.
        cpus: Of a Ray of our own: how many cores it has at least; it pretends where the machine has fewer.

    Raises:
        UsageError: If the address is none.
        VeloError: If Ray does not start, nobody answers at the address, or the token is not the cluster's.
    """

    def __init__(self, address: str, cpus: int = 1) -> None:
        self.is_local = not address
        if address:
            check_address(address)
            if "RAY_AUTH_MODE" not in os.environ and has_token():
                _use_token()
        with _environment(_TERSE if address else {}):  # some of it is read as Ray is imported
            import ray

        self._reaper: Reaper | None = None
        self._is_ours = not ray.is_initialized()
        if not self._is_ours:  # the caller's own connection: it stays
            return
        logging.getLogger("ray").setLevel(logging.ERROR)
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
        try:
            if self.is_local:
                self._start(ray, cpus, quiet)
            else:
                with _environment(_TERSE):
                    ray.init(address=address, namespace="velodrome", **quiet)
        except VeloError:
            raise
        except BaseException as error:
            self.close()
            if not isinstance(error, Exception):
                raise
            raise _no_cluster(address, error) from error

    def nodes(self) -> list[Mapping[str, float]]:
        """What each living node has in all."""
        ray: Any = importlib.import_module("ray")  # parts of it have no types
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def free(self) -> Mapping[str, float]:
        """What is free now, over all nodes."""
        ray: Any = importlib.import_module("ray")
        free: Mapping[str, float] = ray.available_resources()
        return free

    def close(self) -> None:
        """Ends what we began. Can be called twice."""
        import ray

        if self._is_ours:
            ray.shutdown()
        if self._reaper is not None:
            self._reaper.close()
            self._reaper = None

    def _start(self, ray: Any, cpus: int, quiet: dict[str, Any]) -> None:
        make_token()
        folder, inventory = _new_folder(), Inventory.detect()
        self._reaper = Reaper(folder)
        with _environment({**_QUIET, MARK: str(folder)}):
            ray.init(
                address="local", num_cpus=max(cpus, inventory.cpus), num_gpus=len(inventory.gpus),
                include_dashboard=False, object_store_memory=_OBJECTS_BYTES, namespace="velodrome",
                _node_ip_address="127.0.0.1", _temp_dir=str(folder / "r"), **quiet,
            )


def plan_for(cluster: RayCluster, request: ResourceRequest, workers: int | None) -> RayPlan:
    """The workers of a study on the cluster; on a Ray of our own their threads are shared out as without Ray.

    Raises:
        UsageError: As ``plan_ray``.
    """
    nodes = cluster.nodes()
    planned = plan_ray(nodes, request, workers)
    if not cluster.is_local:
        return planned
    threads = max(1, Inventory.detect().cpus // len(planned.slots))
    return plan_ray(nodes, request, workers, threads)


def check_address(address: str) -> None:
    """Refuses what is no address, and one where nobody answers within seconds.

    Raises:
        UsageError: If it is neither ``auto`` nor ``HOST:PORT``.
        VeloError: If nobody answers.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16) or "/" in host:
        raise UsageError(
            "An address of a Ray cluster is not understood", given=repr(address), allowed="auto, or HOST:PORT",
            hint="the port is 6379 where ray start was not told another",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_PATIENCE_S).close()
    except OSError as error:
        raise VeloError(
            f"Nobody answers at the Ray cluster's address: {error.strerror or error}", given=address,
            hint="on its first machine: ray start --head --port=6379  (ray status says whether it runs)",
        ) from None


def token_path() -> Path:
    """Where Ray's token is, or will be."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def has_token() -> bool:
    """Whether there is a token that a cluster could ask for."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or token_path().exists()


def _use_token() -> None:
    """Has Ray show the token to the cluster at an address, too; to one of our own it does so unasked."""
    if "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"  # read as Ray is imported
        return
    setup = importlib.import_module("ray._private.authentication.authentication_token_setup")
    setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def make_token() -> None:
    """Sees to it that there is a token, which nobody but its owner can read.

    Raises:
        VeloError: If it can't be kept.
    """
    path = token_path()
    try:
        if has_token():
            if path.exists() and path.stat().st_mode & 0o077 and path.stat().st_uid == os.getuid():
                path.chmod(0o600)
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)  # of several that make one at once, the first one's counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise VeloError("There is no place to keep Ray's token", given=str(error),
                        allowed="a folder that can be written to", hint="set RAY_AUTH_TOKEN_PATH") from error


def _new_folder() -> Path:
    """A folder for Ray's own files, for this user alone; its name says whose process it belongs to."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) + len(_PREFIX) <= _MAX_FOLDER else "/tmp"
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))


@contextmanager
def _environment(extra: Mapping[str, str]) -> Iterator[None]:
    """The variables that are not set yet, while it lasts."""
    added = [name for name in extra if name not in os.environ]
    os.environ.update({name: extra[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _no_cluster(address: str, error: Exception) -> VeloError:
    """The error for a Ray that could not be reached or started."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    if _is_about_token(error):
        return VeloError(
            "The Ray cluster does not take the token", given=f"{address or 'a local Ray'}, with the token in "
            f"{token_path()}" if has_token() else f"{address}, without a token",
            hint=f"put the cluster's token into {token_path()}, or its path into RAY_AUTH_TOKEN_PATH",
        )
    if not address:
        return VeloError(f"Ray did not start: {text}", hint="--executor process needs no Ray")
    return VeloError(
        f"The Ray cluster could not be joined: {text}", given=address,
        hint="run velo on a machine of the cluster; ray status says whether it is up",
    )


def _is_about_token(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, says that a token is missing or wrong."""
    while error is not None:
        if "authentication token" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False
