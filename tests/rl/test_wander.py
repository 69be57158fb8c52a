from __future__ import annotations

import pytest
import torch
from torch import Generator

from velodrome.rl.wander import Wander


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.95])
def test_noise_is_standard_normal_and_lasts_as_long_as_asked(memory: float) -> None:
    wander, generator = Wander(memory), Generator().manual_seed(1)
    drawn = torch.stack([wander.draw(torch.empty(500, 2), generator) for _ in range(200)])
    assert float(drawn[-1].std()) == pytest.approx(1.0, abs=0.1)
    assert float((drawn[1:] * drawn[:-1]).mean()) == pytest.approx(memory, abs=0.03)


def test_a_state_goes_on_alike() -> None:
    one, two = Wander(0.9), Wander(0.9)
    generator = Generator().manual_seed(1)
    for _ in range(3):
        one.draw(torch.empty(2, 1), generator)
    two.load(one.state())
    ours, theirs = (w.draw(torch.empty(2, 1), Generator().manual_seed(5)) for w in (one, two))
    assert torch.equal(ours, theirs)
