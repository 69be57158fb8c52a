"""Max pooling on a CPU, compiled: torch's own takes several times as long for planes as small as these."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numba
import numpy as np
import torch
from torch import Tensor


def max_pool2d_with_indices(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1), ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """What ``aten.max_pool2d_with_indices`` returns, bit for bit; NaN wins over all, as there."""
    if ceil_mode or x.dtype not in (torch.float32, torch.float64):
        theirs: tuple[Tensor, Tensor] = torch.ops.aten.max_pool2d_with_indices.default(
            x, kernel_size, stride, padding, dilation, ceil_mode
        )
        return theirs
    x = x.contiguous()
    height, width = (
        (size + 2 * pad - dilate * (kernel - 1) - 1) // step + 1
        for size, kernel, step, pad, dilate in zip(
            x.shape[-2:], _pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation), strict=True
        )
    )
    out = x.new_empty(*x.shape[:-2], height, width)
    where = torch.empty(out.shape, dtype=torch.int64)
    planes = [tensor.view(-1, *tensor.shape[-2:]).numpy() for tensor in (x, out, where)]
    shape = (*_pair(kernel_size), *_pair(stride or kernel_size), *_pair(padding), *_pair(dilation))
    if shape == (2, 2, 2, 2, 0, 0, 1, 1):
        _pool_by_two(*planes)
    else:
        _pool(*planes, *shape)
    return out, where


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return (value[0], value[-1])


def _pool_python(  # type: ignore[no-untyped-def]  # compiled below
    x, out, where, kernel_y, kernel_x, step_y, step_x, pad_y, pad_x, dilate_y, dilate_x
):
    height, width = x.shape[1], x.shape[2]
    for plane in range(x.shape[0]):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                top, left = row * step_y - pad_y, column * step_x - pad_x
                largest, at = -np.inf, -1
                for i in range(kernel_y):
                    y = top + i * dilate_y
                    if y < 0 or y >= height:
                        continue
                    for j in range(kernel_x):
                        z = left + j * dilate_x
                        if z < 0 or z >= width:
                            continue
                        value = x[plane, y, z]
                        if at < 0 or value > largest or value != value:
                            largest, at = value, y * width + z
                out[plane, row, column] = largest
                where[plane, row, column] = at


def _pool_by_two_python(x, out, where):  # type: ignore[no-untyped-def]  # compiled below
    """The usual case, without branches."""
    width = x.shape[2]
    for plane in range(x.shape[0]):
        for row in range(out.shape[1]):
            upper, lower = x[plane, 2 * row], x[plane, 2 * row + 1]
            found, places = out[plane, row], where[plane, row]
            first = 2 * row * width
            for column in range(out.shape[2]):
                a, b, c, d = upper[2 * column], upper[2 * column + 1], lower[2 * column], lower[2 * column + 1]
                is_b = (b > a) | (b != b)
                most, at = (b if is_b else a), (1 if is_b else 0)
                is_c = (c > most) | (c != c)
                most, at = (c if is_c else most), (width if is_c else at)
                is_d = (d > most) | (d != d)
                found[column] = d if is_d else most
                places[column] = first + 2 * column + (width + 1 if is_d else at)


_compiled = numba.njit(cache=True, nogil=True, error_model="numpy")
_pool_by_two: Callable[..., None] = _compiled(_pool_by_two_python)
_pool: Callable[..., None] = _compiled(_pool_python)
