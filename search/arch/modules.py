"""The built-in operators as modules. ``MODULES[name](*input_shapes, **settings)``; ``shapes`` explains the settings.

Everything here depends on torch alone, and on nothing else of velodrome: an exported net takes along the classes that
it needs, as they stand here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

Shape = tuple[int, ...]


class Conv(nn.Sequential):
    """Convolution, norm and activation, or activation, convolution and norm."""

    def __init__(
        self, shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, dilation: int = 1,
        groups: int = 1, norm: str = "batch", act: str = "relu", pre: bool = False, grow: int = 1,
    ) -> None:
        c_out, padding = width or shape[0] * grow, dilation * (kernel // 2)
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], c_out, kernel, stride, padding, dilation, groups, bias=norm == "none"),
            norm_of(norm, c_out),
        ]
        layers.insert(0 if pre else 2, activation_of(act))
        super().__init__(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


class Separable(nn.Sequential):
    """ReLU, depthwise and pointwise convolution, batch norm, several times."""

    def __init__(
        self, shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, dilation: int = 1,
        times: int = 1,
    ) -> None:
        c, padding = shape[0], dilation * (kernel // 2)
        layers: list[nn.Module] = []
        for i in range(times):
            c_out = (width or c) if i == times - 1 else c
            layers += [
                nn.ReLU(), nn.Conv2d(c, c, kernel, stride if i == 0 else 1, padding, dilation, groups=c, bias=False),
                nn.Conv2d(c, c_out, 1, bias=False), nn.BatchNorm2d(c_out),
            ]
        super().__init__(*layers)


class Pool(nn.Sequential):
    """The maximum or the mean of each window."""

    def __init__(
        self, shape: Shape, *, kind: str = "max", kernel: int = 3, stride: int = 1, width: int | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        if width not in (None, shape[0]):
            layers.append(Conv(shape, width=width, kernel=1, pre=True))
        if kind == "max":
            layers.append(nn.MaxPool2d(kernel, stride, kernel // 2))
        else:
            layers.append(nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False))
        super().__init__(*layers)


class Skip(nn.Module):
    """The input itself, or two shifted 1x1 convolutions of it side by side."""

    def __init__(self, shape: Shape, *, width: int | None = None, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        c_out = width or shape[0]
        self.is_plain = stride == 1 and c_out == shape[0]
        if not self.is_plain:
            self.relu = nn.ReLU()
            self.first = nn.Conv2d(shape[0], c_out // 2, 1, stride, bias=False)
            self.second = nn.Conv2d(shape[0], c_out - c_out // 2, 1, stride, bias=False)
            self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input, or what the convolutions make of it."""
        if self.is_plain:
            return x
        x = self.relu(x)
        shift = self.stride - 1
        shifted = functional.pad(x, (0, shift, 0, shift))[:, :, shift:, shift:]
        return self.norm(torch.cat([self.first(x), self.second(shifted)], 1))


class Zero(nn.Module):
    """Zeros."""

    def __init__(self, shape: Shape, *, width: int | None = None, stride: int = 1) -> None:
        super().__init__()
        if len(shape) == 3:
            self.shape: Shape = (width or shape[0], -(-shape[1] // stride), -(-shape[2] // stride))
        else:
            self.shape = (*shape[:-1], width or shape[-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros of the output's shape."""
        return x.new_zeros((x.shape[0], *self.shape))


class Zeros(nn.Module):
    """Zeros of one shape, whatever comes in."""

    def __init__(self, shape: Shape, *, size: str) -> None:
        super().__init__()
        self.shape = tuple(map(int, size.split("x")))
        self.zero: torch.Tensor
        self.register_buffer("zero", torch.zeros(()), persistent=False)  # of the net's dtype and device

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zeros [batch, *shape]."""
        return self.zero.expand(x.shape[0], *self.shape)


class ResidualBlock(nn.Module):
    """Two convolutions with the input added."""

    def __init__(
        self, shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, norm: str = "batch",
        act: str = "relu", grow: int = 1,
    ) -> None:
        super().__init__()
        out = (width or shape[0] * grow, -(-shape[1] // stride), -(-shape[2] // stride))
        self.first = Conv(shape, width=out[0], kernel=kernel, stride=stride, norm=norm, act=act)
        self.second = Conv(out, kernel=kernel, norm=norm, act="none")
        self.join = Residual(shape, out)
        self.act = activation_of(act)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block's output."""
        return self.act(self.join(x, self.second(self.first(x))))


class Patches(nn.Module):
    """An image as a sequence of squares, with learnt positions."""

    def __init__(self, shape: Shape, *, size: int = 4, width: int = 64) -> None:
        super().__init__()
        self.project = nn.Conv2d(shape[0], width, size, size)
        self.positions = nn.Parameter(0.02 * torch.randn((shape[1] // size) * (shape[2] // size), width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [batch, tokens, width]."""
        return self.project(x).flatten(2).transpose(1, 2) + self.positions


class Embed(nn.Module):
    """Token numbers to vectors, with learnt positions."""

    def __init__(self, shape: Shape, *, vocabulary: int, width: int = 64) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(0.02 * torch.randn(shape[0], width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors [batch, tokens, width]."""
        return self.table(x.long()) + self.positions


class Attention(nn.Module):
    """Layer norm and multi-head self-attention, added to the input."""

    def __init__(self, shape: Shape, *, heads: int = 4, dropout: float = 0.0, causal: bool = False) -> None:
        super().__init__()
        width = shape[-1]
        self.heads, self.causal = heads, causal
        self.norm = nn.LayerNorm(width)
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input plus what its tokens see in each other, [batch, tokens, width]."""
        batch, tokens, width = x.shape
        parts = self.mix(self.norm(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return x + self.dropout(self.out(seen.transpose(1, 2).reshape(batch, tokens, width)))


class Feedforward(nn.Module):
    """Layer norm and two linear layers, added to the input."""

    def __init__(self, shape: Shape, *, ratio: float = 4, act: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        width = shape[-1]
        inner = max(1, round(width * ratio))
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner), activation_of(act), nn.Linear(inner, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input plus what the layers make of it."""
        return x + self.layers(x)


class Dense(nn.Sequential):
    """A linear layer over the last axis, norm, activation, dropout."""

    def __init__(
        self, shape: Shape, *, width: int | None = None, norm: str = "none", act: str = "relu", dropout: float = 0.0,
    ) -> None:
        c_out = width or shape[-1]
        norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        layers = [nn.Linear(shape[-1], c_out), norms[norm](c_out) if norm in norms else nn.Identity(),
                  activation_of(act), nn.Dropout(dropout) if dropout else nn.Identity()]
        super().__init__(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


class Mean(nn.Module):
    """The mean over an image or a sequence."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.axes = {3: (2, 3), 2: (1,)}.get(len(shape), ())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [batch, features]."""
        return x.mean(self.axes) if self.axes else x


class Classifier(nn.Sequential):
    """The mean, dropout, and a linear layer."""

    def __init__(self, shape: Shape, *, classes: int, dropout: float = 0.0) -> None:
        features = shape[1] if len(shape) == 2 else shape[0]
        drop = [nn.Dropout(dropout)] if dropout else []
        super().__init__(Mean(shape), *drop, nn.Linear(features, classes))


class Flatten(nn.Flatten):
    """Everything in one vector."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()


class Add(nn.Module):
    """The sum of all inputs."""

    def __init__(self, *shapes: Shape) -> None:
        super().__init__()

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        """The sum."""
        total = xs[0]
        for x in xs[1:]:
            total = total + x
        return total


class Concat(nn.Module):
    """All inputs, channel after channel."""

    def __init__(self, *shapes: Shape) -> None:
        super().__init__()
        self.axis = 1 if len(shapes[0]) == 3 else -1

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        """The inputs in one."""
        return torch.cat(xs, self.axis)


class Residual(nn.Module):
    """The second input plus the first, projected where their shapes differ."""

    def __init__(self, shape: Shape, inner: Shape) -> None:
        super().__init__()
        self.project: nn.Module
        if shape == inner:
            self.project = nn.Identity()
        elif len(shape) == 3:
            self.project = Align(shape, inner, width=inner[0], relu=False)
        else:
            self.project = nn.Linear(shape[-1], inner[-1])

    def forward(self, x: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
        """The sum."""
        return self.project(x) + inner


class Align(nn.Module):
    """The first input at the second one's resolution, with ``width`` channels."""

    def __init__(self, shape: Shape, like: Shape, *, width: int, relu: bool = True) -> None:
        super().__init__()
        stride = max(1, round(shape[1] / like[1]))
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.project = nn.Sequential(nn.Conv2d(shape[0], width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor, like: torch.Tensor | None = None) -> torch.Tensor:
        """The resized input."""
        return self.project(self.relu(x))


def norm_of(norm: str, width: int) -> nn.Module:
    """The norm of an image of ``width`` channels."""
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "none":
        return nn.Identity()
    return nn.GroupNorm(1 if norm == "layer" else math.gcd(width, 8), width)


def activation_of(act: str) -> nn.Module:
    """The activation of this name."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh, "elu": nn.ELU,
        "leaky_relu": nn.LeakyReLU, "none": nn.Identity,
    }
    return makers[act]()


MODULES: dict[str, Callable[..., nn.Module]] = {
    "conv": Conv, "separable": Separable, "pool": Pool, "skip": Skip, "zero": Zero, "zeros": Zeros,
    "residual_block": ResidualBlock,
    "patches": Patches, "embed": Embed, "attention": Attention, "feedforward": Feedforward, "dense": Dense,
    "classifier": Classifier, "mean": Mean, "flatten": Flatten, "add": Add, "concat": Concat, "residual": Residual,
    "align": Align,
}
"""Every built-in operator's module."""
