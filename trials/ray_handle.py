"""What the controller knows of one actor: its place on the cluster, its jobs, and where its output goes."""

from __future__ import annotations

import contextlib
import secrets
import time
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from velodrome.resources.slots import Slot
from velodrome.trials.executor import Host, Job
from velodrome.trials.ray_worker import RayWorker
from velodrome.trials.wire import Message

_NEWS_PATIENCE_S = 30.0


class RayHandle:
    """One actor and its place, asked for at once.

    The place is a placement group of its own, given up with the actor.

    Attributes:
        depth: How many trials it may hold; 0 until it is ready.
        started: Whether it has ever answered.
        jobs: The trials that it was given and has not finished, in order.
        news: The call that returns what has happened.
        log_dir: Where its output is kept, or ``""``.
    """

    def __init__(self, slot: Slot, bundle: dict[str, float], arguments: tuple[Any, ...], log_dir: str) -> None:
        self.slot = slot
        self.name, self.device = f"worker-{slot.index}", slot.label
        self.depth = 0
        self.started = False
        self.asked_at = time.monotonic()
        self.jobs: dict[int, Job] = {}
        self._orders: list[Message] = []
        self._place = placement_group([bundle], strategy="STRICT_PACK")
        strategy = PlacementGroupSchedulingStrategy(placement_group=self._place, placement_group_bundle_index=0)
        rest = {name: amount for name, amount in bundle.items() if name not in ("CPU", "GPU", "memory")}
        self.actor: Any = RayWorker.options(  # type: ignore[attr-defined]  # ray.remote's own
            num_cpus=bundle["CPU"], num_gpus=bundle.get("GPU", 0), memory=bundle.get("memory"), resources=rest,
            scheduling_strategy=strategy, max_restarts=0, max_task_retries=0,
        ).remote(*arguments)
        self.ask_for_news()
        self.log_dir = log_dir
        self._log = _Log()

    def queue(self, order: Message) -> None:
        """Keeps an order for the next ``send``."""
        self._orders.append(order)

    def send(self) -> None:
        """Hands over what is kept."""
        if self._orders:
            orders, self._orders = self._orders, []
            self.actor.hear.remote(orders)

    def ask_for_news(self) -> None:
        """Has the next call under way."""
        self.news = self.actor.news.remote(_NEWS_PATIENCE_S)

    def has_place(self) -> bool:
        """Whether the cluster has made room for it."""
        return bool(self._place.wait(0))

    def release(self) -> None:
        """Ends the actor, and gives its place back."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self.actor)
            remove_placement_group(self._place)

    def output(self, host: Host, number: int, attempt: int, chunk: bytes, is_all: bool) -> None:
        """Keeps what a trial printed, and says where; ``is_all`` with the last of it."""
        if self.log_dir:
            self._log.add(host, Path(self.log_dir, f"{self.name}"), (number, attempt), chunk, is_all)

    def settle_output(self, host: Host | None) -> None:
        """Says where the output of a trial ends whose worker can't say it any more."""
        self._log.close(host)


class _Log:
    """The file that one actor's output goes to; made with the first of it."""

    def __init__(self) -> None:
        self._path = ""
        self._end = 0
        self._open: tuple[int, int, int] | None = None
        """Trial, attempt and first byte of the output that is coming in."""

    def add(self, host: Host, stem: Path, trial: tuple[int, int], chunk: bytes, is_all: bool) -> None:
        """Appends a chunk of a trial's output."""
        if not self._path:
            stem.parent.mkdir(parents=True, exist_ok=True)
            self._path = f"{stem}-{secrets.token_hex(4)}.log"
        if self._open is None:
            self._open = (*trial, self._end)
            host.output(*trial, self._path, self._end, -1)
        with open(self._path, "ab") as log:  # noqa: PTH123 - as plain as Path.open
            log.write(chunk)
        self._end += len(chunk)
        if is_all:
            self.close(host)

    def close(self, host: Host | None) -> None:
        """The trial's output ends here."""
        if self._open is not None and host is not None:
            number, attempt, start = self._open
            host.output(number, attempt, self._path, start, self._end)
        self._open = None
