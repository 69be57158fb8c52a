"""The convolutional network of policies and value functions, and what layers begin with.

From observations to features, initialised orthogonally with zero biases (Saxe et al. 2014). Every
module takes the generator that draws its weights, and none touches torch's global one. Any leading shape ``[...]``
is a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from velodrome.errors import UsageError, nearest

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU}
"""The activations by name."""

NATURE = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Convolutions as (filters, kernel size, stride): those of Mnih et al. 2015, for 84x84 images."""

MINATAR = ((16, 3, 1),)
"""Those of Young and Tian 2019, for 10x10 grids."""

Layer = TypeVar("Layer", bound=nn.Module)


def linear(num_in: int, num_out: int, *, gain: float, generator: Generator | None = None) -> nn.Linear:
    """A linear layer with orthogonal weights times ``gain``, and zero biases.

    Usual gains: sqrt(2) inside a network, 0.01 for a policy's last layer (it starts near uniform), 1 for a value's.
    """
    return orthogonal(uninitialised(nn.Linear, num_in, num_out), gain, generator)


class CNN(nn.Module):
    """Convolutions and one linear layer, each with a ReLU (Mnih et al. 2015, "Nature CNN", by default).

    Weights and activations are channels-last, which is what the processor's kernels like, and images that lie so in
    memory are not moved. uint8 images are divided by 255; those of other types are taken as they are.

    Args:
        shape: ``(C, H, W)`` of an image. Channels come first; a stack of frames is channels.
        convolutions: (filters, kernel size, stride) of each.
        num_features: Units of the linear layer.
        generator: Draws the weights.

    Attributes:
        precision: What it computes in: ``float32`` (that of the weights) or ``bfloat16``. The features are float32.

    Raises:
        UsageError: If the image is too small for the convolutions.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, convolutions: Sequence[tuple[int, int, int]] = NATURE,
        num_features: int = 512, generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.precision = "float32"
        self._rested: list[tuple[Tensor, Tensor]] | None = None
        self._rested_255th = torch.empty(0)
        channels, height, width = shape
        layers: list[nn.Module] = []
        for filters, size, stride in convolutions:
            convolution = uninitialised(nn.Conv2d, channels, filters, size, stride)
            layers += [orthogonal(convolution, math.sqrt(2.0), generator), nn.ReLU(inplace=True)]
            channels, height, width = filters, (height - size) // stride + 1, (width - size) // stride + 1
            if height < 1 or width < 1:
                raise UsageError("An image is too small for its network", given=f"(C, H, W) = {shape}",
                                 allowed=f"what these convolutions leave something of: {tuple(convolutions)}",
                                 hint="resize the images, or use an MLP")
        self.convolutions = nn.Sequential(*layers)
        self.linear = linear(channels * height * width, num_features, gain=math.sqrt(2.0), generator=generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's annotations

    def forward(self, obs: Tensor) -> Tensor:
        """Features ``[..., num_features]`` of images ``[..., C, H, W]``, uint8, bool or float."""
        if self._rested is not None and not torch.is_grad_enabled():
            return self._quickly(obs, self._rested)
        is_half = self.precision == "bfloat16"
        dtype = torch.bfloat16 if is_half else self.linear.weight.dtype
        images = obs.reshape(-1, *obs.shape[-3:]).to(dtype, memory_format=torch.channels_last)
        first: Any = self.convolutions[0]
        # The weights are scaled rather than the images: they are a thousandth of the numbers.
        weight = first.weight / 255.0 if obs.dtype == torch.uint8 else first.weight
        with torch.autocast(obs.device.type, torch.bfloat16, enabled=is_half):
            maps = self.convolutions[1:](functional.conv2d(images, weight, first.bias, first.stride))
            features: Tensor = self.linear(maps.flatten(1)).relu_()
        features = features.float() if is_half else features
        return features.view(*obs.shape[:-3], self.num_features)

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """A block in which no weight changes: without gradients, each becomes bfloat16 once, not in every call."""
        if self.precision == "bfloat16":
            layers: list[Any] = [*list(self.convolutions)[::2], self.linear]
            self._rested = [(layer.weight.detach().bfloat16(), layer.bias.detach().bfloat16()) for layer in layers]
            self._rested_255th = (layers[0].weight.detach() / 255.0).bfloat16()
        try:
            yield
        finally:
            self._rested = None

    def _quickly(self, obs: Tensor, rested: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """``forward`` with weights in bfloat16: the same numbers."""
        maps = obs.reshape(-1, *obs.shape[-3:]).to(torch.bfloat16, memory_format=torch.channels_last)
        layers: list[Any] = list(self.convolutions)[::2]
        weights, biases = zip(*rested[:-1], strict=True)
        if obs.dtype == torch.uint8:
            weights = self._rested_255th, *weights[1:]
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            maps = functional.conv2d(maps, weight, bias, layer.stride).relu_()
        features = functional.linear(maps.flatten(1), *rested[-1]).relu_().float()
        return features.view(*obs.shape[:-3], self.num_features)


def activation_named(name: str) -> type[nn.Module]:
    """The activation of that name; raises UsageError if there is none."""
    if name not in ACTIVATIONS:
        raise UsageError("There is no such activation", given=name, allowed=", ".join(ACTIVATIONS),
                         hint=nearest(name, ACTIVATIONS))
    return ACTIVATIONS[name]


def uninitialised(make: type[Layer], *sizes: int) -> Layer:
    """A layer whose weights are not drawn yet, so that torch's global generator is left alone."""
    return make(*sizes, device="meta").to_empty(device="cpu")


def orthogonal(layer: Layer, gain: float, generator: Generator | None) -> Layer:
    """The layer, with orthogonal weights times ``gain``, and zero biases."""
    for name, parameter in layer.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        else:
            nn.init.orthogonal_(parameter, gain, generator)
    return layer
