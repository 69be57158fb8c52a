"""A member of a group, and all that changes while it trains: what a checkpoint keeps, alone or fused alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Member:
    """One trial, as the engine knows it.

    Attributes:
        number: The trial's number in its study.
        params: Its configuration.
        seed: Its own seed, of which its weights, its order of samples and its dropout are drawn.
    """

    number: int
    params: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, slots=True)
class MemberState:
    """A member after ``step`` optimiser steps; tensors are on the CPU and its own.

    Attributes:
        step: Steps done; epoch and place in it follow.
        parameters: By name, in the member's own shapes.
        buffers: Likewise.
        slots: The optimiser's memory: by slot (``"exp_avg"``), then by the parameter's name.
        dropout: The state of the generator of dropout, ``[bytes]``.
        loss_sum: Of the losses of the steps since the last report.
        loss_steps: How many those are.
    """

    step: int
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    slots: dict[str, dict[str, Tensor]]
    dropout: Tensor
    loss_sum: float
    loss_steps: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values and tensors, as a checkpoint takes them."""
        return {
            "step": self.step, "parameters": self.parameters, "buffers": self.buffers, "slots": self.slots,
            "dropout": self.dropout, "loss_sum": self.loss_sum, "loss_steps": self.loss_steps,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> MemberState:
        """The state that ``to_dict`` took apart."""
        return cls(**{name: state[name] for name in cls.__slots__})
