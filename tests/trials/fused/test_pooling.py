"""Max pooling, against torch's."""

from __future__ import annotations

import pytest
import torch

from velodrome.trials.fused.pooling import max_pool2d_with_indices


@pytest.mark.parametrize("args", [
    ([2, 2], [2, 2]), ([2, 2],), ([3, 3], [1, 1], [1, 1]), ([3, 2], [2, 1], [1, 0], [1, 2]),
    ([2, 2], [2, 2], [0, 0], [1, 1], True),
])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_as_torchs(args: tuple[list[int], ...], dtype: torch.dtype) -> None:
    x = torch.randint(-2, 3, (2, 3, 7, 9), generator=torch.Generator().manual_seed(0)).to(dtype)
    x[0, 0, 0, 1] = x[1, 2, 3, 3] = torch.nan
    x[1, 1] = -torch.inf
    found, expected = max_pool2d_with_indices(x, *args), torch.ops.aten.max_pool2d_with_indices(x, *args)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(torch.nan_to_num(ours.double(), nan=9.0), torch.nan_to_num(theirs.double(), nan=9.0))
