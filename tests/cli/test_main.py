"""The group: help and start-up, errors and their exit codes, shell completion."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from velodrome import __version__
from velodrome.cli.main import COMMANDS, cli

HELP = """\
Usage: velo [OPTIONS] COMMAND [ARGS]...

  AutoML and reinforcement-learning experiments: sweeps that survive, results
  you can query.

  Start with: velo sweep FILE. Then: velo best, show, why and query.

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
"""
HEAVY = {"torch", "ray", "optuna", "gymnasium", "numpy", "scipy", "rich", "sqlite_utils", "sqlite3", "psutil"}


def test_the_help_lists_every_command(velo):
    result = velo("--help")
    assert result.exit_code == 0
    assert result.stdout == HELP + "".join(f"  {name:9}  {text}\n" for name, text in COMMANDS.items())
    assert velo("-h").stdout == result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_s_help_begins_as_the_table_says(velo, name):
    result = velo(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: velo {name} ")
    assert "--store PATH" in result.stdout or name in ("env", "resources")  # which have nothing to do with a store
    assert cli.get_command(None, name).help.splitlines()[0] == COMMANDS[name]


def test_the_version(velo):
    assert velo("--version").stdout == f"velo {__version__}\n"


LOADED = """
import sys
from velodrome.cli.main import cli
try:
    cli.main(sys.argv[1:], "velo")
except SystemExit:
    print(*(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def loaded_by(*args: str, cwd: Path) -> set[str]:
    """The modules that a command loads."""
    result = subprocess.run([sys.executable, "-c", LOADED, *args], cwd=cwd, capture_output=True, text=True, check=True)
    assert result.stdout
    return set(result.stderr.split())


def test_help_loads_no_heavy_module(tmp_path):
    assert HEAVY.isdisjoint(loaded_by("--help", cwd=tmp_path))


def test_listing_studies_loads_no_numerical_library(store):
    assert {"torch", "optuna", "scipy", "numpy", "ray"}.isdisjoint(loaded_by("ls", cwd=store.parent))


def test_help_starts_quickly():
    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "velodrome", "--help"], stdout=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # The bar is 0.15 s on the wall; CPU time is what a busy machine spoils least, and there is nothing to wait for.
    assert min(once() for _ in range(5)) < 0.2


def test_an_unknown_command_names_the_nearest(velo):
    result = velo("swep", "x.py")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: No such command.\n  given: 'swep'\n  allowed: {', '.join(COMMANDS)}\n  try: Did you mean 'sweep'?\n"
    )


def test_an_unknown_command_of_a_group_lists_those_there_are(velo):
    result = velo("env", "CartPole-v1")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: No such command 'CartPole-v1'.\n  allowed: check\n  help: velo env --help\n"
    )


def test_an_unknown_option_names_the_nearest(velo):
    result = velo("ls", "--stroe", "x")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: No such option '--stroe'.\n  allowed: --store, --json, --help\n  try: Did you mean '--store'?\n"
        "  help: velo ls --help\n"
    )


def test_a_missing_argument_and_a_wrong_number(velo):
    assert velo("show").stderr == "error: Missing argument 'STUDY'.\n  help: velo show --help\n"
    result = velo("sweep", "x.py", "--trials", "many")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: Invalid value for '--trials': 'many' is not a valid integer")


def test_a_bug_of_ours_shows_its_traceback_and_asks_for_a_report(velo, monkeypatch):
    monkeypatch.setattr("velodrome.store.reader.Reader.__init__", lambda *_: 1 / 0)
    result = velo("ls")
    assert result.exit_code == 1
    assert "ZeroDivisionError" in result.stderr
    assert result.stderr.endswith("a bug in velodrome, not in your code. Please report it with the lines above.\n")


def test_no_store_at_the_path(velo, tmp_path):
    result = velo("ls")
    assert result.exit_code == 4
    assert str(tmp_path / "velodrome.db") in result.stderr
    assert result.stdout == ""


def test_a_file_that_is_no_store(velo, tmp_path):
    Path(tmp_path / "velodrome.db").write_text("not a database at all")
    for args in (["ls"], ["show", "x"], ["query", "select 1"]):
        result = velo(*args)
        assert result.exit_code == 3
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr


def test_the_store_is_named_by_option_or_environment(velo, store, tmp_path, monkeypatch):
    store.rename(tmp_path / "other.db")
    assert velo("ls", "--store", "other.db").stdout.startswith("study")
    monkeypatch.setenv("VELODROME_STORE", str(tmp_path / "other.db"))
    assert velo("ls").stdout.startswith("study")


def test_a_hint_says_that_the_store_must_be_named_again(velo, store):
    assert velo("show", "digit", "--store", str(store)).stderr == (
        "error: There is no study of that name.\n  given: 'digit'\n  try: Did you mean 'digits'?\n"
    )
    result = velo("show", "zzz", "--store", str(store))
    assert result.stderr.endswith(f"  note: with --store {store}, as here\n")


def test_nobody_reads_the_output_any_more(store):
    sql = "with recursive c(x) as (select 1 union all select x + 1 from c limit 300000) select x from c"
    run = subprocess.Popen(
        [sys.executable, "-m", "velodrome", "query", sql, "--csv"], cwd=store.parent,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stdout.readline() == b"x\n"
    run.stdout.close()
    assert run.stderr is not None
    assert run.stderr.read() == b""
    run.stderr.close()
    assert run.wait() == 141


def test_velo_alone_shows_the_help(velo):
    assert velo().stdout == velo("--help").stdout


def in_a_shell(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    script = command.replace("velo ", f"{sys.executable} -m velodrome ")
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, check=False)


def test_a_full_disk_below_stdout(store):
    result = in_a_shell("velo ls > /dev/full", store.parent)
    assert result.returncode == 1
    assert result.stderr == b"error: The system refused something: No space left on device.\n"


def test_closed_streams(store):
    for command in ("velo ls >&-", "velo ls 2>&-", "velo query 'select 1' <&-"):
        assert in_a_shell(command, store.parent).returncode == 0
    assert in_a_shell("velo query - <&-", store.parent).returncode == 2


def test_an_encoding_without_the_character(store):
    result = in_a_shell("PYTHONIOENCODING=latin-1 velo query \"select 'é', '学'\" --csv", store.parent)
    assert result.returncode == 0
    assert result.stdout.splitlines()[1] == "é,".encode("latin-1") + b"\\u5b66"


def completed(words: str, folder: Path) -> list[str]:
    """What the shell is offered after these words."""
    env = {**os.environ, "_VELO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "from velodrome.cli.main import main; main()"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=True)
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


def test_the_shell_completes_commands_studies_and_samplers(store):
    folder = store.parent
    assert completed("velo s", folder) == ["sweep", "stop", "show"]
    assert completed("velo show d", folder) == ["digits"]
    assert completed("velo sweep x.py --sampler t", folder) == ["tpe"]
    assert completed("velo sweep x.py --executor ", folder) == ["process", "inline", "ray"]
    assert completed("velo show --store nowhere.db ", folder) == []
