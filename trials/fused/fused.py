"""Members of one structure trained as one batched model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from velodrome.trials.fused.alone import generator_of, new_model
from velodrome.trials.fused.batches import Batches, Minibatch
from velodrome.trials.fused.draws import Draws
from velodrome.trials.fused.dropout import Site
from velodrome.trials.fused.glance import glance, sites_of
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.fused.programs import Inputs, Programs
from velodrome.trials.fused.row import Row, differing, new_row, own_numbers, width_masks
from velodrome.trials.fused.row_optimizers import RowOptimizer
from velodrome.trials.fused.rows import Layout, read, stacked, write
from velodrome.trials.fused.structure import empty
from velodrome.trials.fused.tape import Program
from velodrome.trials.training_job import EVALUATION_BATCH, Batch, TrainingJob


@dataclass(slots=True)
class _Recorded:
    """The program for one shape of batch, with what it takes before and after the batch, and the numbers of dropout."""

    program: Program
    before: list[Tensor]
    after: list[Tensor]
    uniforms: list[Tensor]


class Fused:
    """The training of K members, each with its own hyperparameters; what ``Alone`` does, for all of them at once.

    Members with different batch sizes come to the ends of their epochs at different times, and none waits for another::

        group = Fused(job, members)
        while group.members:
            for number, reported_as in group.advance():      # whose report is due
                ...
            figures, bad = group.evaluate(), group.diverged()
            for number in ...:                               # finished, diverged, pruned, paused
                state = group.drop(number)
            group.compact()

    Args:
        job: What to train.
        members: Of one group of ``partition``.
        device: ``"cpu"`` or ``"cuda"``.
        dtype: As for ``Alone``.

    Raises:
        CantFuse: If ``partition`` would not have it so.
    """

    def __init__(
        self, job: TrainingJob, members: Sequence[Member], device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        self.job, self._device, self._dtype = job, device, dtype
        self.data = job.dataset(device, dtype)
        self._recorders: dict[str, Programs] = {}
        self._trained: tuple[str, ...] = ()
        self._build([self._new(member) for member in members])

    @property
    def members(self) -> list[Member]:
        """Those that still train, in the order of their rows."""
        return [row.member for row in self._rows if not row.is_out]

    def advance(self) -> list[tuple[int, int]]:
        """Trains until some member's next report is due: the numbers of those, and what to report it as."""
        rows = [k for k, row in enumerate(self._rows) if not row.is_out]
        self.step(int(min(self._every[k] - self._steps[k] % self._every[k] for k in rows)))
        due = [k for k in rows if self._steps[k] % self._every[k] == 0]
        return [(self._rows[k].member.number, self._rows[k].length.reported(int(self._steps[k]))) for k in due]

    def step(self, num: int = 1) -> None:
        """Trains every member for ``num`` optimiser steps."""
        with torch.no_grad():
            for _ in range(num):
                self._step()

    def evaluate(self) -> dict[int, dict[str, float]]:
        """By member, what ``Alone.evaluate`` returns."""
        sums: dict[str, Tensor] = {}
        with torch.no_grad():
            for start in range(0, self.data.num_validation, EVALUATION_BATCH):
                batch = tuple(part[start : start + EVALUATION_BATCH] for part in self.data.validation)
                for name, total in self._metrics(batch).items():
                    sums[name] = sums[name] + total if name in sums else total
        figures = {name: (total / self.data.num_validation).tolist() for name, total in sums.items()}
        losses = self._loss_sum.tolist()
        found: dict[int, dict[str, float]] = {}
        for k, row in enumerate(self._rows):
            if not row.is_out:
                own = found[row.member.number] = {name: values[k] for name, values in figures.items()}
                if self._loss_steps[k]:
                    own["train_loss"] = losses[k] / int(self._loss_steps[k])
        return found

    def diverged(self) -> dict[int, str]:
        """Members whose training has left the finite numbers, and what ``Alone.diverged`` says."""
        losses = self._loss_sum.tolist()
        is_finite = torch.isfinite(self._weights).all(1).tolist()
        found = {}
        for k, row in enumerate(self._rows):
            if row.is_out or (np.isfinite(losses[k]) and is_finite[k]):
                continue
            step = int(self._steps[k])
            if not np.isfinite(losses[k]):
                found[row.member.number] = f"the training loss is {losses[k]} by step {step}"
                continue
            own = read(self._views, k, row.shapes)
            bad = next(name for name, value in own.items() if not bool(torch.isfinite(value).all()))
            found[row.member.number] = f"the weights {bad} are not finite by step {step}"
        return found

    def gradients(self, number: int) -> dict[str, Tensor]:
        """Those of a member's last step, by name."""
        k = self._index(number)
        views = dict(zip(self._views, self._gradient_views, strict=True))
        return read(views, k, self._rows[k].shapes)

    def is_done(self, number: int) -> bool:
        """Whether a member's training is at its end."""
        k = self._index(number)
        return int(self._steps[k]) >= self._rows[k].length.num_steps

    def state(self, number: int) -> MemberState:
        """A member's state."""
        return self._state(self._index(number))

    def drop(self, number: int) -> MemberState:
        """Takes a member out; the others don't notice. Its row goes on unseen until ``compact``."""
        k = self._index(number)
        state = self._state(k)
        self._rows[k].is_out = True
        return state

    def compact(self) -> None:
        """Frees the rows of members that left."""
        if any(row.is_out for row in self._rows):
            self._build([(row, self._state(k)) for k, row in enumerate(self._rows) if not row.is_out])

    def add(self, member: Member, state: MemberState | None = None) -> None:
        """Takes a member in, fresh or with the state that it left somewhere else with."""
        self.extend([(member, state)])

    def extend(self, members: Sequence[tuple[Member, MemberState | None]]) -> None:
        """Takes members in, and frees the rows of those that left."""
        rows = [(row, self._state(k)) for k, row in enumerate(self._rows) if not row.is_out]
        for member, state in members:
            row, start = self._new(member)
            rows.append((row, state or start))
        self._build(rows)

    def _new(self, member: Member) -> tuple[Row, MemberState]:
        """A member that has not begun."""
        return new_row(self.job, member, self.data.num_train, self._device, self._dtype)

    def _build(self, members: Sequence[tuple[Row, MemberState]]) -> None:
        """Lays the members out in rows."""
        rows, states = [row for row, _ in members], [state for _, state in members]
        self._rows = rows
        self._programs: dict[tuple[int, bool], _Recorded] = {}
        self._metric_programs: dict[int, Callable[..., dict[str, Tensor]]] = {}
        if not rows:
            return
        if not self._trained:
            self._look_at(rows[0])
        # The parameters that are trained in one buffer, all else beside it.
        trained = [_only(state.parameters, self._trained) for state in states]
        layout = Layout([{name: tuple(t.shape) for name, t in own.items()} for own in trained])
        dtype = next(iter(trained[0].values())).dtype
        self._weights = torch.zeros(len(rows), layout.size, dtype=dtype, device=self._device)
        self._gradient = torch.zeros_like(self._weights)
        self._views, self._gradient_views = layout.views(self._weights), list(layout.views(self._gradient).values())
        fixed = [_without(state.parameters, self._trained) for state in states]
        self._fixed = stacked([row.shapes for row in rows], fixed[0], self._device)
        self._buffers = stacked([row.shapes for row in rows], states[0].buffers, self._device)
        # How each of them descends, and where it is.
        specs = [row.spec for row in rows]
        self._optimizer = RowOptimizer(
            specs, [row.length.num_steps for row in rows], self._weights, self._gradient
        )
        self._slots = {name: layout.views(slot) for name, slot in self._optimizer.slots.items()}
        self._steps = np.array([state.step for state in states])
        self._every = np.array([row.length.steps_per_report for row in rows])
        self._until_report = 0
        self._loss_sum = torch.tensor([s.loss_sum for s in states], dtype=torch.float64, device=self._device)
        self._loss_steps = np.array([state.loss_steps for state in states])
        self._batches = Batches(self.data.train, [row.order for row in rows], self._steps)
        self._draws = Draws([row.generator for row in rows], self._find_sites)
        for k, (row, state) in enumerate(members):
            write(self._views, k, trained[k])
            write(self._fixed, k, fixed[k])
            write(self._buffers, k, state.buffers)
            for name, slot in state.slots.items():
                write(_only(self._slots[name], slot), k, slot)
            row.generator.set_state(state.dropout)
            empty(row.model)
        # What differs among them otherwise.
        self._own = own_numbers(rows, layout, self._weights) if layout.is_padded else None
        self._values = differing(rows, self._params_read, self._weights)
        self._masks = {} if self._own is None else width_masks(rows[0].model, layout, self._own)
        self._recorder = self._recorder_for(rows[0])

    def _recorder_for(self, row: Row) -> Programs:
        """The recorder of programs: the one that is there, unless it was for other parameters that members share."""
        common = {name: value for name, value in row.member.params.items() if name not in self._values}
        read = repr([common.get(name) for name in self._params_read])
        if read not in self._recorders:
            self._recorders = {read: Programs(self.job, row.model, common)}
        return self._recorders[read]

    def _look_at(self, row: Row) -> None:
        """Finds out what the loss uses, from one member that stands for all."""
        start, stop = row.order.span(0)
        samples = row.order.epoch(0)[start:stop].to(self._device)
        batch = tuple(part.index_select(0, samples) for part in self.data.train)
        model = new_model(self.job, row.member, self._device, self._dtype)
        seen = glance(self.job, row.member, model, batch, generator_of(row.member, self._device))
        self._trained, self._params_read = tuple(seen.gradients), seen.params_read
        self._has_dropout = bool(seen.sites)

    def _step(self) -> None:
        """One optimiser step of every row."""
        if not self._until_report:
            self._begin_reports()
        self._until_report -= 1
        # The next samples of each member, and their losses and gradients.
        batch = self._batches.next(self._steps)
        recorded = self._programs.get((batch.width, batch.is_padded))
        losses, *gradients = self._record(batch) if recorded is None else self._run(recorded, batch)
        self._loss_sum += losses
        torch._foreach_copy_(self._gradient_views, gradients)
        if self._own is not None:
            self._gradient.mul_(self._own)
        # A step down them.
        self._optimizer.update(self._steps)
        self._steps += 1
        self._loss_steps += 1

    def _begin_reports(self) -> None:
        """Begins the mean loss anew for those who have just reported, and sees when somebody will."""
        places = self._steps % self._every
        begins = places == 0
        self._loss_sum[torch.from_numpy(begins).to(self._device)] = 0.0
        self._loss_steps[begins] = 0
        self._until_report = int((self._every - places).min())

    def _run(self, recorded: _Recorded, batch: Minibatch) -> tuple[Tensor, ...]:
        """The losses of a batch, ``[K]``, and the gradients."""
        if recorded.uniforms:
            self._draws.fill(recorded.uniforms, batch.sizes)
        valid = [batch.valid(self._weights.dtype)] if batch.is_padded else []
        return recorded.program(*recorded.before, *batch.parts, *valid, *recorded.after)

    def _record(self, batch: Minibatch) -> tuple[Tensor, ...]:
        """The same by a new program, for batches of that shape."""
        inputs = self._inputs(batch.parts)
        dtype = self._weights.dtype
        if batch.is_padded:
            inputs.valid = {"valid": batch.valid(dtype)}
        uniforms: list[Tensor] = []
        if self._has_dropout:
            uniforms = self._draws.room(batch.sizes)
            self._draws.fill(uniforms, batch.sizes)
            rates, scales = self._draws.rates(batch.sizes, dtype)
            inputs.uniforms, inputs.rates, inputs.scales = _numbered(uniforms), _numbered(rates), _numbered(scales)
        results, program = self._recorder.gradient(inputs)
        num_before = len(self._views) + len(self._fixed) + len(self._buffers)
        tensors, num_batch = inputs.tensors(), len(batch.parts) + len(inputs.valid)
        before, after = tensors[:num_before], tensors[num_before + num_batch :]
        self._programs[batch.width, batch.is_padded] = _Recorded(program, before, after, uniforms)
        return results

    def _inputs(self, batch: Sequence[Tensor]) -> Inputs:
        return Inputs(self._views, self._fixed, self._buffers, _numbered(batch), values=self._values, masks=self._masks)

    def _metrics(self, batch: Batch) -> dict[str, Tensor]:
        """The sums of the metrics over a batch, ``[K]``, by name."""
        inputs = self._inputs(batch)
        program = self._metric_programs.get(len(batch[0]))
        if program is None:
            found, self._metric_programs[len(batch[0])] = self._recorder.metrics(inputs)
            return found
        return program(*inputs.tensors())

    def _find_sites(self, k: int, size: int) -> list[Site]:
        """The calls of dropout of a row, for a batch of that size."""
        row = self._rows[k]
        own = read({**self._views, **self._fixed, **self._buffers}, k, row.shapes)
        batch = tuple(part[:size] for part in self.data.train)
        return sites_of(self.job, row.member, row.model, _copies(own), batch)

    def _state(self, k: int) -> MemberState:
        """The state in a row."""
        row = self._rows[k]
        slots = {name: _moved(read(views, k, row.shapes)) for name, views in self._slots.items()}
        parameters = _moved(read({**self._views, **self._fixed}, k, row.shapes))
        buffers = _moved(read(self._buffers, k, row.shapes))
        return MemberState(
            int(self._steps[k]), parameters, buffers, slots, row.generator.get_state(),
            float(self._loss_sum[k]), int(self._loss_steps[k]),
        )

    def _index(self, number: int) -> int:
        return next(k for k, row in enumerate(self._rows) if row.member.number == number and not row.is_out)


def _only(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    return {name: tensors[name] for name in names}


def _without(tensors: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def _numbered(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {str(number): tensor for number, tensor in enumerate(tensors)}


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
