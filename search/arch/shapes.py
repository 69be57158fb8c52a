"""The arithmetic of the built-in operators: from the shapes of the inputs to that of the output, parameters and FLOPs.

One function for each operator; its keyword arguments are the operator's settings, with their defaults. It agrees with
the module of the same name in ``modules``, which a test compares on torch's meta device. ``width`` is the number of
output channels or features, None for as many as came in; images keep their size, divided by ``stride`` and rounded up.
"""

from __future__ import annotations

import math

from velodrome.search.arch.operators import Measure, Shape, ShapeError, built_in, preset, shape_text

NORMS = ("batch", "layer", "group", "none")
ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "elu", "leaky_relu", "none")


# ---- images: (channels, height, width)


@built_in
def conv(
    shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, dilation: int = 1, groups: int = 1,
    norm: str = "batch", act: str = "relu", pre: bool = False, grow: int = 1,
) -> Measure:
    """Convolution, norm, activation; ``pre`` puts the activation first (ReLU, convolution, norm).

    ``grow`` times as many channels come out as went in, where there is no ``width``.
    """
    c_in, height, wide = _image(shape)
    _known("norm", norm, NORMS)
    _known("act", act, ACTIVATIONS)
    _odd("kernel", kernel)
    c_out = width or c_in * grow
    if c_in % groups or c_out % groups:
        raise ShapeError(f"{groups} groups do not divide {c_in} channels in and {c_out} out")
    out = c_out, _strided(height, stride), _strided(wide, stride)
    weights = c_out * (c_in // groups) * kernel * kernel
    bias = c_out if norm == "none" else 0
    return Measure(out, weights + bias + _norm_params(norm, c_out), 2 * weights * out[1] * out[2])


@built_in
def separable(
    shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, dilation: int = 1, times: int = 1,
) -> Measure:
    """ReLU, depthwise and pointwise convolution, batch norm; ``times`` over (DARTS: separable twice, dilated once)."""
    c, height, wide = _image(shape)
    _odd("kernel", kernel)
    params = flops = 0
    for i in range(times):
        c_out = (width or c) if i == times - 1 else c
        if i == 0:
            height, wide = _strided(height, stride), _strided(wide, stride)
        weights = c * kernel * kernel + c * c_out
        params += weights + 2 * c_out
        flops += 2 * weights * height * wide
    return Measure((width or c, height, wide), params, flops)


@built_in
def pool(
    shape: Shape, *, kind: str = "max", kernel: int = 3, stride: int = 1, width: int | None = None,
) -> Measure:
    """The maximum or the mean of each window; a 1x1 convolution before it where ``width`` is another."""
    c, height, wide = _image(shape)
    _known("kind", kind, ("max", "avg"))
    _odd("kernel", kernel)
    before = _project(c, width, height * wide)
    return Measure((width or c, _strided(height, stride), _strided(wide, stride)), before.params, before.flops)


@built_in
def skip(shape: Shape, *, width: int | None = None, stride: int = 1) -> Measure:
    """The input itself; where stride or width change it, two shifted 1x1 convolutions side by side (DARTS)."""
    if stride == 1 and width in (None, shape[0]):
        return Measure(shape, 0, 0)
    c, height, wide = _image(shape)
    out = width or c, _strided(height, stride), _strided(wide, stride)
    return Measure(out, c * out[0] + 2 * out[0], 2 * c * out[0] * out[1] * out[2])


@built_in
def zero(shape: Shape, *, width: int | None = None, stride: int = 1) -> Measure:
    """Zeros: an edge that is not there."""
    if len(shape) != 3:
        return Measure((*shape[:-1], width or shape[-1]), 0, 0)
    return Measure((width or shape[0], _strided(shape[1], stride), _strided(shape[2], stride)), 0, 0)


@built_in
def zeros(shape: Shape, *, size: str) -> Measure:
    """Zeros of a shape such as ``16x8x8``: what is left of nodes that only zeros feed."""
    return Measure(tuple(map(int, size.split("x"))), 0, 0)


@built_in
def residual_block(
    shape: Shape, *, width: int | None = None, kernel: int = 3, stride: int = 1, norm: str = "batch", act: str = "relu",
    grow: int = 1,
) -> Measure:
    """Two convolutions with the input added (He et al. 2016, https://arxiv.org/abs/1512.03385, the basic block)."""
    first = conv(shape, width=width, grow=grow, kernel=kernel, stride=stride, norm=norm, act=act)
    second = conv(first.shape, kernel=kernel, norm=norm, act="none")
    joined = residual(shape, second.shape)
    return Measure(second.shape, first.params + second.params + joined.params,
                   first.flops + second.flops + joined.flops)


@built_in
def patches(shape: Shape, *, size: int = 4, width: int = 64) -> Measure:
    """An image as a sequence: one token for each square, with learnt positions (ViT)."""
    c, height, wide = _image(shape)
    if height % size or wide % size:
        raise ShapeError(f"squares of {size} do not divide {shape_text(shape)}")
    tokens, weights = (height // size) * (wide // size), c * size * size * width
    return Measure((tokens, width), weights + width + tokens * width, 2 * weights * tokens)


# ---- sequences: (tokens, features)


@built_in
def embed(shape: Shape, *, vocabulary: int, width: int = 64) -> Measure:
    """Token numbers ``(tokens,)`` to vectors, with learnt positions."""
    if len(shape) != 1:
        raise ShapeError(f"it takes token numbers (tokens,), not {shape_text(shape)}")
    return Measure((shape[0], width), (vocabulary + shape[0]) * width, 0)


@built_in
def attention(shape: Shape, *, heads: int = 4, dropout: float = 0.0, causal: bool = False) -> Measure:
    """Layer norm and multi-head self-attention, added to the input (Vaswani et al. 2017)."""
    tokens, width = _sequence(shape)
    if width % heads:
        raise ShapeError(f"{heads} heads do not divide {width} features")
    return Measure(shape, 4 * width * width + 4 * width + 2 * width,
                   8 * tokens * width * width + 4 * tokens * tokens * width)


@built_in
def feedforward(shape: Shape, *, ratio: float = 4, act: str = "gelu", dropout: float = 0.0) -> Measure:
    """Layer norm and two linear layers with ``ratio`` times the features between, added to the input."""
    tokens, width = _sequence(shape)
    _known("act", act, ACTIVATIONS)
    inner = max(1, round(width * ratio))
    return Measure(shape, 2 * width * inner + inner + 3 * width, 4 * tokens * width * inner)


# ---- any


@built_in
def dense(
    shape: Shape, *, width: int | None = None, norm: str = "none", act: str = "relu", dropout: float = 0.0,
) -> Measure:
    """A linear layer over the last axis, norm, activation, dropout."""
    _known("norm", norm, ("batch", "layer", "none"))
    _known("act", act, ACTIVATIONS)
    if norm == "batch" and len(shape) != 1:
        raise ShapeError(f"batch norm takes (features,), not {shape_text(shape)}; norm='layer' takes any")
    c_in, c_out = shape[-1], width or shape[-1]
    rows = math.prod(shape[:-1])
    return Measure((*shape[:-1], c_out), (c_in + 1) * c_out + _norm_params(norm, c_out), 2 * rows * c_in * c_out)


@built_in
def classifier(shape: Shape, *, classes: int, dropout: float = 0.0) -> Measure:
    """The mean over an image or a sequence, dropout, and a linear layer to the classes' logits."""
    features = _features(shape)
    return Measure((classes,), (features + 1) * classes, 2 * features * classes)


@built_in
def mean(shape: Shape) -> Measure:
    """The mean over an image or a sequence: (features,)."""
    return Measure((_features(shape),), 0, 0)


@built_in
def flatten(shape: Shape) -> Measure:
    """Everything in one vector."""
    return Measure((math.prod(shape),), 0, 0)


# ---- several inputs


@built_in
def add(*shapes: Shape) -> Measure:
    """The sum; all shapes are the same."""
    for shape in shapes[1:]:
        if shape != shapes[0]:
            raise ShapeError(f"{shape_text(shapes[0])} and {shape_text(shape)} can't be added")
    return Measure(shapes[0], 0, 0)


@built_in
def concat(*shapes: Shape) -> Measure:
    """Channel after channel, or feature after feature; the other axes are the same."""
    axis = 0 if len(shapes[0]) == 3 else -1
    rest = [shape[1:] if axis == 0 else shape[:-1] for shape in shapes]
    for shape, others in zip(shapes, rest, strict=True):
        if others != rest[0]:
            raise ShapeError(f"{shape_text(shapes[0])} and {shape_text(shape)} can't be joined")
    total = sum(shape[axis] for shape in shapes)
    return Measure((total, *rest[0]) if axis == 0 else (*rest[0], total), 0, 0)


@built_in
def residual(shape: Shape, inner: Shape) -> Measure:
    """The second input plus the first, which is projected where their shapes differ."""
    if shape == inner:
        return Measure(inner, 0, 0)
    if len(shape) != len(inner) or (len(shape) == 2 and shape[0] != inner[0]):
        raise ShapeError(f"{shape_text(shape)} can't be added to {shape_text(inner)}, not even through a projection")
    if len(shape) != 3:
        return Measure(inner, (shape[-1] + 1) * inner[-1], 2 * math.prod(inner) * shape[-1])
    return _resized(shape, inner, inner[0])


@built_in
def align(shape: Shape, like: Shape, *, width: int) -> Measure:
    """The first input at the second one's resolution, with ``width`` channels (DARTS' preprocessing)."""
    _image(shape)
    return _resized(shape, _image(like), width)


preset("conv1x1", "conv", kernel=1, pre=True)
preset("conv3x3", "conv", kernel=3, pre=True)
preset("conv5x5", "conv", kernel=5, pre=True)
preset("sep3x3", "separable", kernel=3, times=2)
preset("sep5x5", "separable", kernel=5, times=2)
preset("dil3x3", "separable", kernel=3, dilation=2)
preset("dil5x5", "separable", kernel=5, dilation=2)
preset("max3x3", "pool", kind="max", kernel=3)
preset("avg3x3", "pool", kind="avg", kernel=3)


def _image(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ShapeError(f"it takes an image (channels, height, width), not {shape_text(shape)}")
    return shape[0], shape[1], shape[2]


def _sequence(shape: Shape) -> tuple[int, int]:
    if len(shape) != 2:
        raise ShapeError(f"it takes a sequence (tokens, features), not {shape_text(shape)}")
    return shape[0], shape[1]


def _features(shape: Shape) -> int:
    return shape[0] if len(shape) != 2 else shape[1]


def _strided(size: int, stride: int) -> int:
    if stride > 1 and size < stride:
        return 0
    return -(-size // stride)


def _norm_params(norm: str, width: int) -> int:
    return 0 if norm == "none" else 2 * width


def _project(c_in: int, width: int | None, pixels: int) -> Measure:
    if width in (None, c_in):
        return Measure((c_in,), 0, 0)
    assert width is not None
    return Measure((width,), c_in * width + 2 * width, 2 * c_in * width * pixels)


def _resized(shape: Shape, like: Shape, width: int) -> Measure:
    """A 1x1 convolution with batch norm, its stride the whole ratio of the sizes."""
    stride = max(1, round(shape[1] / like[1]))
    out = _strided(shape[1], stride), _strided(shape[2], stride)
    if out != tuple(like[1:]):
        raise ShapeError(f"{shape_text(shape)} can't be brought to the size of {shape_text(like)}")
    return Measure((width, *out), shape[0] * width + 2 * width, 2 * shape[0] * width * out[0] * out[1])


def _known(setting: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ShapeError(f"{setting}={value!r} is none of {', '.join(allowed)}")


def _odd(setting: str, value: int) -> None:
    if value % 2 == 0:
        raise ShapeError(f"{setting}={value} is even; an odd one keeps the image's size")
