"""Runs every command and every Python block of README.md and docs/*.md, a page at a time, each in its own folder.

In the quick tests a command's ``--steps`` and ``--trials`` are cut down to ``MOST``; the slow ones run pages as they
are. A page's blocks run in order, in one folder that has the repository's ``examples/`` in it; its Python blocks share
their names. A shell block of set-up commands only (``make``, ``git``, ``pip`` ...) is not run: those run the tests
themselves, or need a network; of ``make`` the target must exist.
"""

from __future__ import annotations

import linecache
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.markdown_blocks import SHELLS, Block, blocks_of, commands_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETUP = ("make", "git", "cd", "pip", "python3 -m venv", "python -m venv", "source")
LIMIT_S = 120
SLOW = ("cluster.md",)
"""Each of its blocks starts a Ray."""
MOST = {"steps": 4_000, "trials": 24}


def is_setup(command: str) -> bool:
    return any(command == word or command.startswith(word + " ") for word in SETUP)


def shortened(code: str) -> str:
    """The commands with fewer steps and trials."""
    return re.sub(r"--(steps|trials) (\d+)", lambda m: f"--{m[1]} {min(int(m[2]), MOST[m[1]])}", code)


def run_shell(block: Block, name: str, folder: Path) -> None:
    commands = commands_of(block.code)
    for target in (word for c in commands if c.startswith("make ") for word in c.split()[1:]):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"{name}: no make target {target!r}"
    if all(map(is_setup, commands)):
        return
    assert not any(map(is_setup, commands)), f"{name}: put the set-up commands into a block of their own"
    env = {key: value for key, value in os.environ.items() if not key.startswith("VELODROME_")}
    env["VELODROME_LEDGER"] = os.environ["VELODROME_LEDGER"]
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )
    assert done.returncode == block.status, (
        f"{name}: exit status {done.returncode}, expected {block.status}\n{block.code}{done.stdout}{done.stderr}"
    )


def run_python(block: Block, name: str, names: dict[str, Any]) -> None:
    code = "\n" * (block.line - 1) + block.code
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), names)


def run_page(text: str, page: str, folder: Path) -> int:
    """Runs the page's blocks in ``folder``; returns how many there were to run."""
    names: dict[str, Any] = {"__name__": "__main__"}
    num_run = 0
    for block in blocks_of(text):
        if block.norun or block.language not in (*SHELLS, "python"):
            continue
        num_run += 1
        if block.language == "python":
            run_python(block, f"{page}:{block.line}", names)
        else:
            run_shell(block, f"{page}:{block.line}", folder)
    return num_run


@pytest.mark.parametrize("change", [shortened, pytest.param(str, marks=pytest.mark.slow, id="whole")])
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW else ()) for page in PAGES],
    ids=lambda page: page.name,
)
def test_every_block_of_a_page_runs(
    page: Path, change: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (ROOT / "examples").is_dir():
        shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.db*", "__pycache__"))
    monkeypatch.chdir(tmp_path)
    num_run = run_page(change(page.read_text()), page.name, tmp_path)
    assert num_run or page.name != "README.md", "the README shows nothing that can be run"


SHARED = """\
```python
from pathlib import Path
x = 1
```
```bash
printf 2 > y.txt
```
```python
Path("sum.txt").write_text(str(x + int(Path("y.txt").read_text())))
```
<!-- norun: never -->
```bash
false
```
```text
false
```
"""


def test_blocks_of_a_page_share_a_folder_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(SHARED, "p.md", tmp_path) == 3
    assert (tmp_path / "sum.txt").read_text() == "3"


@pytest.mark.parametrize(("page", "said"), [
    ("```bash\nfalse\necho on\n```\n", r"p\.md:2: exit status 1, expected 0"),
    ("\n\n```bash\nexit 3\n```\n", r"p\.md:4: exit status 3"),
    ("<!-- fails: 2 -->\n```bash\ntrue\n```\n", "expected 2"),
    ("```bash\nmake dinner\n```\n", "no make target 'dinner'"),
    ("```bash\nmake test\nvelo ls\n```\n", "a block of their own"),
    ("```python\n\nassert 1 == 2, 'one'\n```\n", "one"),
])
def test_a_page_that_is_wrong_fails(page: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=said):
        run_page(page, "p.md", tmp_path)


def test_long_commands_are_shortened_and_no_others() -> None:
    assert shortened("velo train ppo --steps 100000 --seed 90000") == "velo train ppo --steps 4000 --seed 90000"
    assert shortened("velo sweep x.py --trials 9") == "velo sweep x.py --trials 9"


def test_pages_that_are_right_pass(tmp_path: Path) -> None:
    assert run_page("```bash\ngit clone somewhere\nmake demo\n```\n", "p.md", tmp_path) == 1
    assert run_page("<!-- fails: 3 -->\n```bash\necho x; exit 3\n```\n", "p.md", tmp_path) == 1
    assert run_page("```bash\npython -c 'import velodrome'\n```\n", "p.md", tmp_path) == 1


def test_a_traceback_shows_the_line_of_the_page(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as error:
        run_page("text\n\n```python\nx = 1\nx / 0\n```\n", "p.md", tmp_path)
    assert str(error.traceback[-1].path).endswith("p.md:4")
    assert error.traceback[-1].lineno + 1 == 5
