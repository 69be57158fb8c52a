"""The trial, as an objective sees it: what to train with, where to report, and whether to stop.

Optuna's define-by-run calls are there too, so that an unmodified Optuna objective runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, overload

from velodrome.errors import Preempted, Pruned
from velodrome.trials import checkpoints
from velodrome.trials.executor import Job, StudyContext
from velodrome.trials.inheriting import apply_changes, check_changes
from velodrome.trials.link import Leave, Link
from velodrome.trials.micro_batches import micro_batches
from velodrome.trials.optuna_compat import Categorical, categorical_domain, float_domain, int_domain
from velodrome.trials.preemption import Preemption
from velodrome.trials.reading import plain_json, read_report, read_step
from velodrome.types import Params


class Trial:
    """One run of the objective.

    Attributes:
        params: The configuration.
        number: The trial's number in its study, from 0.
        seed: The trial's own seed, in [0, 2**31). ``random``, NumPy and torch are seeded with it already.
        attempt: How often the trial was started, from 1.
        device: ``"cpu"`` or ``"cuda"``: what ``torch.device`` takes.
        study: The study's name.
        user_attrs: What ``set_user_attr`` kept.
        restored_step: The step of the checkpoint that ``restore`` returned; None where there was none, and -1 where the
            trial begins from what another one lends, before steps of its own.
        batch_divisor: Into how many parts ``micro_batches`` cuts a batch: 1, and twice as many each time that the trial
            ran out of memory, where its objective is declared with ``on_oom="halve"``.
        parent: The number of the trial from whose checkpoint this one began; None for most.
    """

    def __init__(self, job: Job, context: StudyContext, device: str, link: Link) -> None:
        self.number, self.attempt, self.seed = job.number, job.attempt, job.seed
        self.params: dict[str, Any] = dict(job.params)
        self.study = context.study
        self.device = device
        self.user_attrs: dict[str, Any] = {}
        self.restored_step: int | None = None
        self.batch_divisor = job.batch_divisor
        self.parent: int | None = job.origin["parent"] if job.origin is not None else None
        self._must_differ: dict[str, Any] = {}
        self._given: Params = job.params
        self._metric = context.metrics[0]
        self._asks = context.asks_verdicts
        self._link = link
        self._reported = self._stopped = self._looked = self._begun = self._has_saved = False
        self._gives_way: Preemption | None = None
        self._job, self._context = job, context
        self._pid = os.getpid()
        self._saved_step = self._last_step = -1

    @overload
    def report(self, step: int, /, **metrics: Any) -> None: ...
    @overload
    def report(self, step: int, metrics: Mapping[str, Any], /) -> None: ...
    @overload
    def report(self, value: float, step: int) -> None: ...
    def report(self, *args: Any, **named: Any) -> None:  # type: ignore[misc]  # names differ by form
        """Reports figures at a step: ``report(step, loss=0.3, accuracy=0.9)`` or ``report(step, {"loss": 0.3})``.

        Two numbers are Optuna's form, ``report(value, step)``: the value is the goal's metric. A value may be anything
        that ``float`` takes, such as a 0-d tensor; NaN and infinity are values. The step may be any integer from 0.

        Raises:
            Pruned: If the trial was told to stop and has never looked at ``should_stop``.
            Preempted: If the trial is to give its place to another, and its time to do so runs out.
            TypeError: If a value is no number, or the step no integer.
        """
        step, metrics = read_report(args, named, self._metric)
        if not self._looked and (reason := self._link.stop_reason(self.number)) is not None:
            raise Pruned(reason)
        if not self._begun:
            self._begin()
        self._reported = True
        self._link.report(self.number, step, metrics)
        self._last_step = step
        given = self._link.preemption(self.number)
        if given is not None and time.monotonic() >= given.last_call_at and not self._stopped:
            self._give_way(given)
        if self._context.pauses and self._saved_step == step:
            self._leave_if_paused()

    def checkpoint(self, step: int, state: Any) -> None:
        """Keeps the state after a step, so that the trial can go on from there; returns when it is safe on the disk.

        Report the step first. Where the trial is started again, what it had reported up to this step stays.

        Args:
            step: As in ``report``; not below that of an earlier checkpoint.
            state: Dicts, lists and tuples of JSON values, bytes, NumPy arrays and torch tensors (CPU or GPU), nested in
                any way: the ``state_dict()`` of a model or an optimizer, ``random.getstate()``. Each returns with its
                type. Tensors lose their strides: a view or a transposed one returns by itself and contiguous.

        Raises:
            Preempted: If the trial is to give its place to another: the checkpoint is safe, and it goes on from there.
            TypeError: If something in the state can't be kept; it names the place.
            ValueError: If the step is below that of an earlier checkpoint.
            OSError: If it can't be written; the checkpoint before it is as good as ever.
        """
        step = read_step(step, "checkpoint")
        if step < self._saved_step:
            raise ValueError(f"checkpoint: step {step} is before that of the last checkpoint, {self._saved_step}")
        context, job = self._context, self._job
        if not context.store_dir:
            raise RuntimeError("checkpoint: this study has no folder for checkpoints")
        if os.getpid() != self._pid:  # in a child that the objective forked
            return
        if not self._begun:
            self._begin()
        if self._must_differ:
            check_changes(state, self._must_differ)
            self._must_differ = {}
        if not self._has_saved:
            checkpoints.remove_leftovers(context.store_dir, context.files_dir, job.number, job.checkpoints)
        written = checkpoints.save(context.store_dir, context.files_dir, job.number, job.attempt, step, state)
        self._saved_step, self._has_saved = step, True
        self._link.checkpointed(job.number, step, written)
        if (given := self._link.preemption(job.number)) is not None and not self._stopped:
            self._give_way(given)
        if context.pauses and step == self._last_step:
            self._leave_if_paused()

    def restore(self, map_to: Any = "cpu") -> Any:
        """The state of the trial's last checkpoint; None in a trial that starts from its beginning.

        ``restored_step`` then is its step. A checkpoint that is not as it was written is passed over for the one before
        it, and that is said. What you draw at random goes on where it was only if the state has the generators' states.

        Args:
            map_to: Where tensors go that were on a GPU, such as ``trial.device``. Others stay on the CPU, as the states
                of random generators must.

        Raises:
            RuntimeError: After the first report or checkpoint: restore first, then train.
        """
        if self._begun:
            raise RuntimeError("restore: the trial has restored, reported or made a checkpoint already; call it once, "
                               "before them")
        self._begun = True
        job = self._job
        if not job.checkpoints:
            return None
        found, skipped = checkpoints.newest_sound(self._context.store_dir, job.checkpoints)
        for problem in skipped:
            print(f"velodrome: {problem}", file=sys.stderr)
        state = None
        if found is not None:
            state = checkpoints.load(Path(self._context.store_dir, found.path), str(map_to))
            self.restored_step = self._saved_step = found.step
            if job.origin is not None and found.path == job.origin["path"]:
                apply_changes(state, job.origin["changed"])
                self._must_differ = job.origin["changed"]
        self._link.restored(job.number, self.restored_step, skipped)
        return state

    @property
    def should_stop(self) -> bool:
        """Whether the trial is to end here: it is not worth going on with, or is ``preempted``.

        Where a scheduler watches, this waits for its verdict on what was reported; otherwise it costs nothing.
        """
        self._looked = True
        if not self._stopped:
            if self._link.stop_reason(self.number) is not None:
                self._stopped = True
            elif self.preempted:
                return True
            elif self._asks and self._reported:
                self._reported = False
                self._stopped = self._link.ask_stop(self.number)
        return self._stopped

    @property
    def preempted(self) -> bool:
        """Whether the trial is to give its place to another: make a checkpoint, which ends it, or return.

        A trial that was told so here, or by ``should_stop``, is not finished, however it ends: it waits, and goes on
        from its last checkpoint. Costs nothing.
        """
        if self._gives_way is None:
            self._gives_way = self._link.preemption(self.number)
        return self._gives_way is not None

    def wants_checkpoint(self, *, at_end: bool = False) -> bool:
        """Whether a checkpoint of what was just reported is of use, for an objective to which they are dear.

        It is where the trial is to give its place to another, or to pause, and where others might go on from it
        (``pbt``). With ``at_end``, where the trial would come to its end so, also if its checkpoint would stay in the
        store, by what it reported last.
        """
        if self.preempted:
            return True
        return (self._context.pauses or at_end) and self._link.ask_save(self.number, at_end=at_end)

    def micro_batches(self, *batches: Any) -> Iterator[tuple[Any, ...]]:
        """A batch in ``batch_divisor`` parts, each with its share of the whole: ``(share, part, ...)``.

        Whoever sums up the gradients of ``share * mean_loss(part)`` has the gradient of the batch's mean loss, with a
        part of the memory::

            for share, x, y in trial.micro_batches(batch_x, batch_y):
                (share * loss(model(x), y)).backward()
            optimizer.step()

        Args:
            batches: Tensors, arrays or lists of one length; each is cut along its first axis.

        Raises:
            ValueError: If there is none, or their lengths differ.
        """
        return micro_batches(self.batch_divisor, batches)

    def note(self, action: str, reason: str, by: str = "objective") -> None:
        """Keeps a choice made inside the trial, such as its precision, with the reason, among the study's decisions."""
        self._link.note(self.number, str(by), str(action), str(reason))

    def should_prune(self) -> bool:
        """The same as ``should_stop``, by Optuna's name."""
        return self.should_stop

    def set_user_attr(self, key: str, value: Any) -> None:
        """Keeps a fact about the trial, any JSON value, in the store.

        Raises:
            TypeError: If the value can't be written as JSON.
        """
        try:
            plain = json.loads(json.dumps(value, default=plain_json))
        except (TypeError, ValueError) as error:
            given = type(value).__name__
            raise TypeError(f"set_user_attr({key!r}, ...) takes a JSON value, not {given}: {error}") from None
        self.user_attrs[key] = value
        self._link.set_attr(self.number, str(key), plain)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A float in [low, high], by Optuna's rules; a name asked for before gives the first value again."""
        if name not in self.params:
            self._ask(name, float_domain(name, low, high, step, log))
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """An integer in [low, high]; a name asked for before gives the first value again."""
        if name not in self.params:
            self._ask(name, int_domain(name, low, high, step, log))
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """One of the choices. Those that are no JSON scalars travel, and are stored, as their ``repr``."""
        options = Categorical(choices)
        if name in self._given:
            self.params[name] = options.decode(self._given[name])
        elif name not in self.params:
            self._ask(name, categorical_domain(name, options.codes))
            self.params[name] = options.decode(self.params[name])
        return self.params[name]

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        """Optuna's old name for ``suggest_float(name, low, high)``."""
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        """Optuna's old name for ``suggest_float(name, low, high, log=True)``."""
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        """Optuna's old name for ``suggest_float(name, low, high, step=q)``."""
        return self.suggest_float(name, low, high, step=q)

    def __repr__(self) -> str:
        return f"Trial(number={self.number}, params={self.params})"

    def _begin(self) -> None:
        """From here on the trial can't restore; one that could have, and did not, has started from nothing."""
        self._begun = True
        if self._job.checkpoints:
            self._link.restored(self.number, None, [])

    def _give_way(self, given: Preemption) -> None:
        self._gives_way = given
        raise Preempted(given.reason)

    def _leave_if_paused(self) -> None:
        """Raises where the trial is to be paused: it can go on from here without reporting anything twice."""
        if os.getpid() == self._pid and self._link.ask_pause(self.number):
            raise Leave

    def _ask(self, name: str, domain: dict[str, Any]) -> None:
        self.params[name] = self._link.suggest(self.number, name, domain)


def settle(trial: Trial) -> None:
    """Says what the trial went on from, where it came to its end without a word."""
    if not trial._begun:
        trial._begin()


def gave_way(trial: Trial) -> str | None:
    """Why a trial that has ended gave its place away; None where it came to an end of its own.

    A trial that was told of both its preemption and a verdict of the scheduler is over.
    """
    return None if trial._gives_way is None or trial._stopped else trial._gives_way.reason
