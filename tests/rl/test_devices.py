from __future__ import annotations

import torch

from velodrome.rl.devices import resume_draws


def test_a_stream_goes_on_and_that_of_another_kind_of_device_begins_anew() -> None:
    there = torch.Generator().manual_seed(7)
    torch.rand(3, generator=there)
    state, here = there.get_state(), torch.Generator()
    resume_draws(here, state)
    assert torch.equal(torch.rand(5, generator=here), torch.rand(5, generator=there))
    of_a_gpu = [torch.tensor([7, *[0] * 14, offset], dtype=torch.uint8) for offset in (3, 3, 4)]
    firsts = []
    for foreign in of_a_gpu:
        resume_draws(here, foreign)
        firsts.append(float(torch.rand(1, generator=here)))
    assert firsts[0] == firsts[1] != firsts[2]
