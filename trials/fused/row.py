"""One member's place in a group, and what members of a group differ in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from velodrome.trials.fused.alone import generator_of, new_model, order_of
from velodrome.trials.fused.member import Member, MemberState
from velodrome.trials.fused.order import Order
from velodrome.trials.fused.programs import CantFuse
from velodrome.trials.fused.rows import Layout, Shapes, corner
from velodrome.trials.fused.structure import shapes_of
from velodrome.trials.optimizers import OptimizerSpec
from velodrome.trials.training_job import Length, TrainingJob, length_of, spec_of


@dataclass(slots=True)
class Row:
    """One member in a group; its model has no numbers, they stand in the group's buffers."""

    member: Member
    model: nn.Module
    shapes: Shapes
    spec: OptimizerSpec
    length: Length
    order: Order
    generator: Generator
    is_out: bool = False


def new_row(
    job: TrainingJob, member: Member, num_train: int, device: str, dtype: torch.dtype | None
) -> tuple[Row, MemberState]:
    """The row of a member that has not begun, and its first state.

    Args:
        job: What it trains.
        member: Whose row.
        num_train: Samples to train with.
        device: Where the group is.
        dtype: As for ``Alone``.
    """
    model = new_model(job, member, "cpu", dtype)
    generator = generator_of(member, device)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    state = MemberState(0, parameters, dict(model.named_buffers()), {}, generator.get_state(), 0.0, 0)
    length = length_of(job, member.params, num_train)
    order = order_of(job, member, num_train, length.batch_size)
    return Row(member, model, shapes_of(model), spec_of(job, member.params), length, order, generator), state


def differing(rows: Sequence[Row], names: Iterable[str], like: Tensor) -> dict[str, Tensor]:
    """Parameters of the job that are not the same for all members, ``[K]``, by name.

    Args:
        rows: The members.
        names: Of the parameters that the loss reads.
        like: Of the type and on the device that they are to be.

    Raises:
        CantFuse: If one of them is no number.
    """
    found = {}
    for name in names:
        values = [row.member.params.get(name) for row in rows]
        if any(value != values[0] for value in values):
            if not all(isinstance(value, int | float) for value in values):
                raise CantFuse(f"the loss reads {name!r}, which is not a number for all members")
            found[name] = torch.tensor(values, dtype=like.dtype, device=like.device)
    return found


def own_numbers(rows: Sequence[Row], layout: Layout, weights: Tensor) -> Tensor:
    """1 where a row of ``weights`` has a member's own numbers, 0 where it is only filled."""
    mask = torch.zeros_like(weights)
    views = layout.views(mask)
    for k, row in enumerate(rows):
        for name, view in views.items():
            corner(view[k], row.shapes[name]).fill_(1.0)
    return mask


def width_masks(model: nn.Module, layout: Layout, own: Tensor) -> dict[str, Tensor]:
    """Of ``own_numbers``, those of layers that are normalised over their own width, by the names of their weights."""
    views = layout.views(own)
    names = [f"{name}.weight" if name else "weight" for name, module in model.named_modules()
             if isinstance(module, nn.LayerNorm)]
    return {name: views[name].clone() for name in names if name in views}
