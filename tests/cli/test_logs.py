"""``velo logs``: ranges of bytes in the workers' files, and following a trial that runs."""

from __future__ import annotations

import json

from velodrome.cli.logs import _following, _for_terminal
from velodrome.records import ArtifactRow, TrialRow, trial_id
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer


def test_a_trial(velo, store):
    assert velo("logs", "digits", "0").stdout == "epoch 1\nepoch 2\nepoch 3\n"
    assert velo("logs", "digits", "0", "--tail", "2").stdout == "epoch 2\nepoch 3\n"
    assert velo("logs", "digits", "0", "--tail", "0").stdout == ""


def test_a_log_that_is_still_written_comes_as_it_is(velo, store):
    assert velo("logs", "digits/1").stdout_bytes == b"\xffepoch 1\nno newline\n"


def test_a_study(velo, store):
    assert velo("logs", "digits", "--tail", "1").stdout == (
        "==> trial 0, attempt 1 <==\nepoch 3\n==> trial 1, attempt 1 <==\nno newline\n"
    )


def test_as_json(velo, store):
    first, second = json.loads(velo("logs", "digits", "--json").stdout)
    assert first == {
        "trial": 0, "attempt": 1, "path": "worker-0.log", "start": 0, "end": 24, "text": "epoch 1\nepoch 2\nepoch 3\n",
    }
    assert second["end"] == -1
    assert second["text"] == "\ufffdepoch 1\nno newline"


def test_a_trial_without_output_and_a_file_that_is_gone(velo, store):
    result = velo("logs", "digits", "2")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no output is kept of digits trial 2\n"
    (store.parent / "worker-0.log").unlink()
    result = velo("logs", "digits", "0")
    assert result.exit_code == 0
    assert "the log of trial 0 can't be read" in result.stderr


def test_following_a_finished_trial_prints_it_once(velo, store):
    assert velo("logs", "digits", "0", "-f").stdout == "epoch 1\nepoch 2\nepoch 3\n"


def test_only_one_trial_can_be_followed(velo, store):
    result = velo("logs", "digits", "-f")
    assert result.exit_code == 2
    assert "velo logs digits TRIAL -f" in result.stderr


def test_following_a_running_trial_until_it_ends(store):
    log = store.parent / "run.log"
    log.write_bytes(b"one\ntwo\n")
    with Reader(store) as reader, Writer(store) as writer:
        study = reader.study("digits")
        running = TrialRow(
            trial_id(study.id, 7), study.id, 7, "running", 1, None, None, "{}", 1, "worker-0", "cpu", 1.0, 1.0, None,
            None, None, None,
        )
        writer.trial(running)
        writer.artifact(ArtifactRow(running.id, "log", 1, "run.log", 0, -1))
        writer.commit(durable=True)

        def first() -> None:
            log.write_bytes(log.read_bytes() + b"three\nfo")

        def second() -> None:
            log.write_bytes(log.read_bytes() + b"ur\nthe next trial's\n")
            writer.trial(running._replace(state="completed"))
            writer.artifact(ArtifactRow(running.id, "log", 1, "run.log", 0, 19))
            writer.commit(durable=True)

        steps = iter((first, second))
        parts = list(_following(store, study, 7, tail=1, sleep=lambda _: next(steps)()))
    assert parts == [b"two\n", b"three\nfo", b"ur\n"]


def test_a_log_on_a_terminal_gives_it_no_commands_wherever_a_chunk_ends():
    log = "λ \x1b[31mred\x1b[0m \x1b]52;c;evil\x07 \x9b2J".encode() + b"\xff\n"
    safe = "λ \x1b[31mred\x1b[0m \\x1b]52;c;evil\\x07 \\x9b2J\\xff\n"
    assert b"".join(_for_terminal(iter([log]))).decode() == safe
    in_bytes = b"".join(_for_terminal(bytes([byte]) for byte in log)).decode()
    assert in_bytes == safe.replace("\x1b", "\\x1b"), "a command that comes in parts is none"
