"""The benchmark of fusing: its table, by figures that are given, and once for real."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[3] / "benchmarks" / "fusion.py"
NAME = "MLP 64-32-32-10, batch 32"


@pytest.fixture(scope="module")
def fusion() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fusion_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Given:
    """A pool of 8 processes on a GPU, by figures."""

    num, device = 8, "cuda"

    def __init__(self, group: float) -> None:
        self._group = group

    def run(self, processes: int, command: tuple[Any, ...], *, warm_up: bool = False) -> float:
        kind, _, size = command
        match kind:
            case "bytes":
                return 4096.0 * size + 1_000_000.0
            case "probe":
                return self._group
            case "fused":
                return 100.0 * size * (1 if processes == 1 else 4)
        return (310.0 if kind == "alone" else 300.0 + 100.0 * bool(size)) * (1 if processes == 1 else 3)

    def forget(self) -> None:
        pass


def test_the_bars_of_a_gpu(fusion: ModuleType) -> None:
    [few, many] = fusion.measured(NAME, Given(8.0), [8, 64], 3)
    assert many.line() == f"| {NAME} | 64 | 400 | 900 | 1,200 | 6,400 | 3,200 | 5.33 | by 8 0.67 | 4 KiB |"
    assert fusion.bars([few, many]) == (
        f"{NAME}, 64: 16.0 times one process (reached: 15), 5.3 times the best without (reached: 4)"
    )


def test_where_auto_does_not_fuse_trials_alone_are_compared(fusion: ModuleType) -> None:
    [result] = fusion.measured(NAME, Given(0.0), [8], 3)
    assert result.auto == "alone 0.78"


@pytest.mark.slow
def test_measures() -> None:
    command = [sys.executable, str(FILE), "--sizes", "1,4", "--models", NAME, "--rounds", "1", "--seconds", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"| {NAME}")]
    assert [line.split("|")[2].strip() for line in lines] == ["1", "4"]
    assert all(line.endswith(" KiB |") for line in lines)
