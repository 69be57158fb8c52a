"""What is in the wheel, what an import loads, and that the import layers are really checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import velodrome

ROOT = Path(__file__).parents[1]
PARTS = ("search", "trials", "rl", "envs", "resources")
HEAVY = ("torch", "ray", "optuna", "gymnasium", "numba", "sklearn")
TORCH_NETS = ("build.py", "modules.py", "proxies.py", "supernet.py")
NOT_FOR_HELP = (*HEAVY, "numpy", "scipy", "sqlite_utils", "sqlite3", "rich", "psutil", "cloudpickle")


def copy_of_the_tree(to: Path) -> Path:
    """The repository without what git ignores, so that nothing is built inside it."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "*.db*", "*.logs")
    return shutil.copytree(ROOT, to, symlinks=True, ignore=ignored)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from it."""
    tree = copy_of_the_tree(tmp_path_factory.mktemp("build") / "tree")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tree / "dist"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tree / "dist"


def test_the_wheel_has_all_of_the_package_and_nothing_beside_it(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        entry_points = next(wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "velodrome").rglob("*.py")}
    sources |= {f"velodrome/{part}/{path.relative_to(ROOT / part).as_posix()}"
                for part in PARTS for path in (ROOT / part).rglob("*.py")}
    assert {"velodrome/search/sampler.py", "velodrome/resources/slots.py", "velodrome/errors.py"} <= sources
    assert sources | {"velodrome/py.typed"} == {name for name in names if name.startswith("velodrome/")}
    assert {name.split("/")[0] for name in names} == {"velodrome", f"velodrome-{velodrome.__version__}.dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "velo = velodrome.cli.main:main" in entry_points


def test_the_source_distribution_has_files_where_the_repository_has_links(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        members = {member.name.split("/", 1)[-1]: member for member in archive.getmembers()}
    assert members["velodrome/search/sampler.py"].isreg()
    assert "search" not in members


def test_the_parts_are_links() -> None:
    for part in PARTS:
        assert (ROOT / "velodrome" / part).readlink() == Path("..") / part


def loaded_after(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport sys; print('\\n'.join(['@', *sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("@\n")[2].split())


def test_import_velodrome_loads_nothing_heavy() -> None:
    loaded = loaded_after("import velodrome")
    assert "velodrome" in loaded
    assert not loaded & {*NOT_FOR_HELP, "click"}


HELP = """
import sys
import velodrome.cli.main as velo
sys.argv = ["velo", "--help"]
try:
    velo.main()
except SystemExit:
    pass
"""


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_after(HELP)
    assert "velodrome.cli.main" in loaded
    assert not loaded & set(NOT_FOR_HELP)


def test_no_module_loads_a_training_library_when_it_is_imported() -> None:
    """A worker that trains nothing should not pay for torch. (Optuna's bridge needs Optuna; learners, groups torch.)"""
    names = [
        ".".join(Path(folder, file).relative_to(ROOT).with_suffix("").parts)
        for folder, _, files in os.walk(ROOT / "velodrome", followlinks=True)
        for file in files if file.endswith(".py") and file != "__init__.py" and not file.startswith("optuna_")
        and Path(folder).name not in ("rl", "fused")
        and file not in ("ray_executor.py", "ray_handle.py", "ray_worker.py")
        and (Path(folder).name != "arch" or file not in TORCH_NETS)
    ]
    assert len(names) > 20
    environments = [name for name in names if name.startswith("velodrome.envs.")]  # Gymnasium's, and numba kernels
    others = [name for name in names if name not in environments]
    assert not loaded_after("import " + ", ".join(others)) & set(HEAVY)
    assert not loaded_after("import " + ", ".join(environments)) & {*HEAVY} - {"gymnasium", "numba"}


def test_the_environments_are_registered_without_loading_numba() -> None:
    loaded = loaded_after("import velodrome.envs")
    assert "gymnasium" in loaded
    assert "numba" not in loaded


@pytest.mark.parametrize(("module", "code", "contract"), [
    ("search/bad.py", "import velodrome.trials", "Each layer imports only what is below it"),
    ("trials/bad.py", "import velodrome.rl", "Each layer imports only what is below it"),
    ("trials/bad.py", "def f():\n    from optuna import trial", "Optuna only in the sampler bridge"),
    ("resources/bad.py", "import ray", "Ray only in the Ray executor"),
    ("velodrome/bad.py", "", "Each layer imports only what is below it"),
    ("search/bad.py", "import sqlite3", "SQLite only in the results store and the resource ledger"),
    ("trials/bad.py", "import click.testing", "click only in the command line"),
])
def test_the_linter_sees_what_breaks_a_fence(tmp_path: Path, module: str, code: str, contract: str) -> None:
    tree = copy_of_the_tree(tmp_path / "tree")
    (tree / module).write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])"],
        cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
