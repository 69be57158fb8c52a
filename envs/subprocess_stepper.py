"""Environments in worker processes: each worker steps some rows of every group, over shared memory.

A worker that dies or does not answer within the step's limit is killed and replaced. Its episodes are reported as
truncated, with ``valid`` False in each group's next step, and counted; nothing is retried, for their state is gone.
An exception of the environment's own code is no such loss: it is raised here, with its traceback.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cloudpickle

from velodrome.envs.adapter_buffers import BatchSpec, Buffers
from velodrome.envs.adapter_errors import EnvLostError
from velodrome.envs.adapter_local import batch_state, check_state, load_buffers
from velodrome.envs.env_batch import Group, env_seed, split_groups
from velodrome.envs.subprocess_link import WorkerLink, WorkerLostError
from velodrome.envs.subprocess_protocol import ATTACH, LOAD, RESET, SAVE, STEP, map_shared, shared_file
from velodrome.seeding import derive

MAX_FRUITLESS_RESTARTS = 3
"""So many replacements of one worker in a row without a step in between, and it is given up."""


class ProcessStepper:
    """A ``Stepper`` over worker processes.

    Args:
        make_env: Makes environment number i; pickled by value.
        num_envs: How many.
        num_workers: Processes; at most one for each environment of a group.
        num_groups: The batch's groups, of each of which every worker has a share.
        info_keys: Numbers in the infos to keep.
        step_timeout_s: A worker that does not answer a step for longer counts as hung.
        start_timeout_s: The same for making and resetting environments.

    Raises:
        EnvError: If the environment can't be made.
        EnvLostError: If a worker dies or hangs as it starts.
    """

    def __init__(
        self, make_env: Callable[[int], Any], num_envs: int, *, num_workers: int, num_groups: int = 1,
        info_keys: tuple[str, ...] = (), step_timeout_s: float = 60.0, start_timeout_s: float = 120.0,
    ) -> None:
        self.num_lost_episodes = self.num_restarts = 0
        self._step_timeout_s, self._start_timeout_s = step_timeout_s, start_timeout_s
        self._memory_fd = shared_file()
        self._seed_of_restarts = 0
        self._num_groups = num_groups
        groups = split_groups(num_envs, num_groups)
        num_workers = min(num_workers, *(group.num_envs for group in groups))
        shares = [split_groups(group.num_envs, num_workers) for group in groups]
        pickled = cloudpickle.dumps(make_env)
        self._workers = [
            WorkerLink(
                pickled, tuple(
                    tuple(range(group.rows.start + share[w].rows.start, group.rows.start + share[w].rows.stop))
                    for group, share in zip(groups, shares, strict=True)
                ), num_envs, info_keys, self._memory_fd,
            )
            for w in range(num_workers)
        ]
        self._fruitless = [0] * num_workers
        try:
            self.spec = self._start_all()
        except BaseException:
            self.close()
            raise
        self.source = f"{num_envs} in {num_workers} worker process{'es' if num_workers > 1 else ''}"

    def reset(self, seeds: Sequence[int | None]) -> None:
        """Begins a new episode in every environment; all workers at once."""
        self._seed_of_restarts = derive(seeds[0] or 0, "restarts")
        for worker in self._workers:
            worker.post(RESET + pickle.dumps({row: seeds[row] for row in worker.rows}))
        for w, worker in enumerate(self._workers):
            try:
                worker.take(self._start_timeout_s)
            except WorkerLostError as error:
                self._replace(w, error, lost=False)

    def send(self, group: Group) -> None:
        """Tells the workers to step their share of the group."""
        for worker in self._workers:
            worker.post_step(STEP + bytes([group.index]), group.index)

    def receive(self, group: Group) -> None:
        """Waits until each worker has stepped its share, replacing those that are lost."""
        for w, worker in enumerate(self._workers):
            while group.index in worker.pending:
                try:
                    worker.take_step(self._step_timeout_s)
                    if worker.num_steps > self._num_groups:  # the first step of each group only reports what was lost
                        self._fruitless[w] = 0
                except WorkerLostError as error:
                    self._replace(w, error, lost=True)

    def get_state(self) -> dict[str, Any]:
        """The environments' states, in the order of the rows, and the buffers.

        Raises:
            EnvLostError: If a worker is lost meanwhile.
        """
        states: list[Any] = [None] * self.spec.num_envs
        for worker in self._workers:
            worker.post(SAVE)
        for worker in self._workers:
            for row, state in zip(worker.rows, self._take(worker), strict=True):
                states[row] = state
        return batch_state(states, self.buffers)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, of this kind of stepper or of the one in process."""
        check_state(state, self.spec.num_envs)
        load_buffers(self.buffers, state["buffers"])
        for worker in self._workers:
            worker.post(LOAD + pickle.dumps([state["envs"][row] for row in worker.rows]))
        for worker in self._workers:
            self._take(worker)

    def close(self) -> None:
        """Ends every worker: asked first, killed where it does not go."""
        for worker in self._workers:
            worker.ask_to_close()
        for worker in self._workers:
            worker.end()
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.pid for worker in self._workers]

    def _start_all(self) -> BatchSpec:
        for worker in self._workers:
            worker.start(lost=False)
        specs: list[BatchSpec] = [self._take(worker) for worker in self._workers]
        os.ftruncate(self._memory_fd, max(specs[0].num_bytes, 1))
        self.buffers = Buffers.allocate(specs[0], map_shared(self._memory_fd, specs[0].num_bytes))
        for worker in self._workers:
            worker.post(ATTACH + pickle.dumps(specs[0]))
        for worker in self._workers:
            self._take(worker)
        return specs[0]

    def _take(self, worker: WorkerLink) -> Any:
        try:
            return worker.take(self._start_timeout_s)
        except WorkerLostError as error:
            raise EnvLostError(f"An environment process {error}", given=f"environments {list(worker.rows)}",
                               hint="run it in this process to see more: mode='sync'") from None

    def _replace(self, w: int, error: WorkerLostError, *, lost: bool) -> None:
        """Puts a new process in a worker's place; steps that it had not answered are asked for again."""
        worker = self._workers[w]
        worker.kill()
        self.num_restarts += 1
        self.num_lost_episodes += len(worker.rows) if lost else 0
        self._fruitless[w] += 1
        if self._fruitless[w] > MAX_FRUITLESS_RESTARTS:
            raise EnvLostError(
                f"An environment process {error}, and so did its {MAX_FRUITLESS_RESTARTS} replacements",
                given=f"environments {list(worker.rows)}", hint="run it in this process to see more: mode='sync'",
            )
        worker.start(lost=lost)
        self._take(worker)
        worker.post(ATTACH + pickle.dumps(self.spec))
        self._take(worker)
        seeds = {row: env_seed(self._seed_of_restarts, row, self.num_restarts) for row in worker.rows}
        worker.post(RESET + pickle.dumps(seeds))
        self._take(worker)
        for group in worker.pending:
            worker.post(STEP + bytes([group]))

    def __del__(self) -> None:
        if getattr(self, "_memory_fd", -1) >= 0:
            self.close()
