"""A trial that prints without end is cut while it runs, before it fills the disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from velodrome.trials import worker_log
worker_log.MAX_BYTES, worker_log.MAX_BYTES_MEANWHILE, worker_log.KEPT_BYTES = 3_000, 10_000, 1_000
log = worker_log.WorkerLog()
log.open(sys.argv[1])
log.begin()
print("first", flush=True)
print("x" * 5_000, flush=True)
assert log.grown()
whole = len(open(sys.argv[1]).read())
print("y" * 20_000, flush=True)
assert log.grown()
cut = len(open(sys.argv[1]).read())
print("last", flush=True)
end = log.end()
assert (whole, cut < 2_200, end) == (5_007, True, len(open(sys.argv[1]).read())), (whole, cut, end)
"""


def test_it_is_whole_until_it_would_fill_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "log"
    result = subprocess.run([sys.executable, "-c", CODE, str(path)], check=False)
    text = path.read_text()
    assert result.returncode == 0, text
    assert text.startswith("first\n")
    assert text.endswith("last\n")
    assert text.count("bytes of this trial's output were cut here") == 1
