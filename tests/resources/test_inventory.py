"""The inventory over made-up machines: files below a temporary root, and a stand-in for NVML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from velodrome.resources.cgroup import CgroupLimits, read_limits
from velodrome.resources.gpus import Gpu, detect_gpus, visible_gpus
from velodrome.resources.inventory import Inventory

GIB = 1024**3
MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in ({"proc/meminfo": MEMINFO} | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@dataclass
class FakeNvml:
    """What ``detect_gpus`` uses of pynvml."""

    uuids: list[str | bytes] = field(default_factory=list)
    init_error: str = ""
    query_error: str = ""
    is_open: bool = False

    class NVMLError(Exception):
        pass

    @dataclass
    class _Memory:
        total: int
        free: int

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        if self.init_error:
            raise self.NVMLError(self.init_error)
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        assert self.is_open
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if self.query_error:
            raise self.NVMLError(self.query_error)
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:  # noqa: N802
        return self.uuids[handle]

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return f"Card {handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> _Memory:  # noqa: N802
        return self._Memory(24 * GIB, (20 - handle) * GIB)


NO_GPU = FakeNvml(init_error="Driver Not Loaded")


def test_without_control_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    found = Inventory.detect(machine(tmp_path, {}), {}, affinity=6, nvml=NO_GPU)
    assert found == Inventory(6, 16 * GIB, 8 * GIB, (), ("no GPUs: Driver Not Loaded",))


def test_a_version_2_group_limits_cores_and_memory(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "0::/user/job\n",
        "sys/fs/cgroup/user/job/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/user/job/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/user/job/memory.stat": f"anon 1\ninactive_file {GIB}\n",
    })
    found = Inventory.detect(root, {}, affinity=8, nvml=NO_GPU)
    assert (found.cpus, found.memory_bytes, found.available_bytes) == (2, 4 * GIB, 2 * GIB)
    assert "cores: 8 are here, and the control group allows 2.5" in found.notes


def test_the_lowest_limit_of_all_levels_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
        "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/memory.max": "1000\n",
        "sys/fs/cgroup/a/memory.max": "5000\n",
    })
    assert read_limits(root) == CgroupLimits(1.0, 1000, 1000)


def test_a_version_1_group_in_a_container_that_sees_it_as_the_root(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n0::/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "3500\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
    })
    assert read_limits(root) == CgroupLimits(3.0, 4000, 1000)


def test_version_1_groups_without_limits(tmp_path: Path) -> None:
    root = machine(tmp_path, {
        "proc/self/cgroup": "5:memory:/\n4:cpu:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    })
    assert read_limits(root) == CgroupLimits()


def test_a_quota_below_one_core_is_one_core(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"})
    assert Inventory.detect(root, {}, affinity=4, nvml=NO_GPU).cpus == 1


def test_this_machine() -> None:
    found = Inventory.detect()
    assert found.cpus >= 1
    assert 0 < found.available_bytes <= found.memory_bytes


def test_gpus_with_their_memory() -> None:
    nvml = FakeNvml(["GPU-aa", b"GPU-bb"])
    gpus, note = detect_gpus({}, nvml)
    assert gpus == (Gpu(0, "GPU-aa", "Card 0", 24 * GIB, 20 * GIB), Gpu(1, "GPU-bb", "Card 1", 24 * GIB, 19 * GIB))
    assert note == ""
    assert not nvml.is_open


@pytest.mark.parametrize(("nvml", "note"), [
    (NO_GPU, "no GPUs: Driver Not Loaded"),
    (FakeNvml(["GPU-aa"], query_error="Insufficient Permissions"), "no GPUs: NVML failed: Insufficient Permissions"),
    (FakeNvml(), "no GPUs: the driver shows none"),
])
def test_gpus_that_cannot_be_asked_are_none(nvml: FakeNvml, note: str) -> None:
    assert detect_gpus({}, nvml) == ((), note)
    assert not nvml.is_open


def test_no_nvml_library_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert detect_gpus({}) == ((), "no GPUs: the Python package nvidia-ml-py is not installed")


@pytest.mark.parametrize(("visible", "indexes"), [
    ("0,1,2", [0, 1, 2]),
    ("2,0", [2, 0]),
    (" 1 ", [1]),
    ("GPU-bb", [1]),
    ("GPU-b,0", [1, 0]),
    ("GPU", []),
    ("", []),
    ("-1", []),
    ("0,-1,1", [0]),
    ("0,7,1", [0]),
    ("0,0", []),
    ("MIG-x", []),
])
def test_cuda_visible_devices_by_cudas_rules(visible: str, indexes: list[int]) -> None:
    gpus = tuple(Gpu(i, f"GPU-{letter}{letter}", "Card", GIB, GIB) for i, letter in enumerate("abc"))
    assert [gpu.index for gpu in visible_gpus(gpus, visible)] == indexes


def test_hidden_gpus_are_said_to_be_hidden() -> None:
    assert detect_gpus({"CUDA_VISIBLE_DEVICES": ""}, FakeNvml(["GPU-aa"])) == (
        (), "no GPUs: CUDA_VISIBLE_DEVICES= hides all 1",
    )
