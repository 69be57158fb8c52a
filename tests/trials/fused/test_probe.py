"""Whether to fuse is measured."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.trials.fused.jobs import MLP, members
from velodrome.clock import FakeClock
from velodrome.trials.fused import probe as module
from velodrome.trials.fused.probe import Choice, Timing, choose, is_clear, probe


def test_the_quickest_is_chosen() -> None:
    choice = choose({1: Timing(100.0), 8: Timing(300.0), 32: Timing(500.0), 128: Timing(450.0)}, 1000)
    assert (choice.is_fused, choice.group_size) == (True, 32)
    assert choice.reason == "fused by 32: 500 model-steps/s, 5.0 times as many as alone (100 model-steps/s)"


def test_alone_where_fusing_does_not_pay() -> None:
    choice = choose({1: Timing(100.0), 8: Timing(104.0)}, 1000)
    assert (choice.is_fused, choice.group_size) == (False, 1)
    assert choice.reason == "each alone: 100 model-steps/s, fused by 8 only 104 (1.04 times)"


def test_what_a_group_costs_before_it_trains_counts() -> None:
    timings = {1: Timing(1000.0), 8: Timing(4000.0, start_s=1.0)}
    assert not choose(timings, 100).is_fused
    assert choose(timings, 10_000).is_fused


def test_on_a_shared_device_a_group_competes_with_all_processes() -> None:
    timings = {1: Timing(100.0), 8: Timing(300.0)}
    assert choose(timings, 1000, competing=2).is_fused
    assert not choose(timings, 1000, competing=3).is_fused
    assert "by 3 processes" in choose(timings, 1000, competing=3).reason


def test_nobody_to_be_fused_with() -> None:
    assert choose({1: Timing(100.0)}, 10).reason == "each alone: there is nobody to be fused with"


def test_what_is_clear_is_not_measured_again() -> None:
    assert is_clear({1: [100.0, 110.0], 8: [500.0, 160.0], 32: [90.0, 300.0]})
    assert is_clear({1: [100.0, 110.0], 8: [50.0, 60.0]})
    assert not is_clear({1: [100.0, 110.0], 8: [160.0, 160.0]})
    assert not is_clear({1: [100.0], 8: [900.0]})
    assert not is_clear({1: [100.0, 100.0], 8: [900.0, 900.0]}, competing=8)
    assert not is_clear({1: [100.0, 100.0]})


def test_small_networks_are_fused() -> None:
    choice = probe(MLP(), members(16), num_processes=2, budget_s=0.3)
    assert choice.is_fused
    assert choice.group_size == 8
    assert list(choice.figures) == [1, 8]


def test_what_bfloat16_would_bring_is_said_where_steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_features", lambda: ["avx512_bf16"])
    monkeypatch.setattr(module, "_rate", lambda *_: 90.0)
    choice, job, clock = Choice(True, 4, {}, ""), MLP(), FakeClock()

    def word(rate: float) -> str:
        return module._in_bfloat16(job, members(4), "cpu", choice, {4: Timing(rate)}, clock)

    assert word(200.0) == '; 1.8 times as many with precision = "bfloat16"'
    assert job.precision == "float32"
    assert word(320.0) == word(4000.0) == ""
    monkeypatch.setattr(job, "precision", "bfloat16", raising=False)
    assert word(200.0) == ""


@pytest.mark.slow
def test_measuring_does_not_wait_for_a_compiler_to_load() -> None:
    code = (
        "import sys\nfrom tests.trials.fused.jobs import MLP, members\nfrom velodrome.trials import fusing\n"
        "found = fusing.measure(MLP(), 'cpu', [m.params for m in members(8)])\n"
        "print(found.action, [name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fuse []\n"
