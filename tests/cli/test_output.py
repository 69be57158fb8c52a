"""Tables, figures and JSON as they are printed."""

from __future__ import annotations

import json
import math

import pytest

from velodrome.cli import output


@pytest.mark.parametrize(("value", "text"), [
    (None, ""), (0, "0"), (12345678901, "12345678901"), (0.5, "0.5"), (1.0, "1.0"), (0.9731481481481481, "0.973148"),
    (1e-5, "1e-05"), (1795461305.4370773, "1795461305.4370773"), (-0.123456789, "-0.123457"), (float("inf"), "inf"),
])
def test_figures_for_people(value, text):
    assert output.number(value) == text


@pytest.mark.parametrize(("value", "text"), [
    (True, "true"), (False, "false"), (b"\x01\xff", "x'01ff'"), ("two\nlines\there", "two lines here"), ("", ""),
    ("\x1b[31mred", "\\x1b[31mred"), ("a\x00b", "a\\x00b"), ("λ \u200d学", "λ \u200d学"),
])
def test_cells(value, text):
    assert output.cell(value) == text


def test_a_table_off_a_terminal_is_plain_and_whole(capsys):
    output.out_table(("name", "value"), [("a" * 100, 0.25), ("学习", None), ("b", 12)])
    assert capsys.readouterr().out == (
        f"name{' ' * 98}value\n{'a' * 100}   0.25\n学习\nb{' ' * 104}12\n".replace(f"{'a' * 100}   ", f"{'a' * 100}   ")
    )


def test_data_goes_to_a_pipe_as_it_is(capsys):
    output.out("\x1b[31mred")
    assert capsys.readouterr().out == "\x1b[31mred\n"


def test_a_table_without_rows(capsys):
    output.out_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_on_a_terminal_the_widest_columns_are_cut(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    output.out_table(("key", "short", "long"), [(1, "abc", "x" * 10_000), (22, "defg", "宽" * 50)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "key  short  long",
        f"  1  abc    {'x' * 27}…",
        f" 22  defg   {'宽' * 13}…",
    ]


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch):
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert output.style("x", Terminal(), fg="red") == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.style("x", Terminal(), fg="red") == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert output.style("x", Terminal(), fg="red") == "x"


def test_json_has_no_nan_and_keeps_infinity():
    text = output.to_json({"a": math.nan, "b": [math.inf, -math.inf], "c": b"\x00", "d": "Infinity"}, indent=None)
    assert text == '{"a": null, "b": [1e999, -1e999], "c": "x\'00\'", "d": "Infinity"}'
    assert json.loads(text)["b"] == [math.inf, -math.inf]


@pytest.mark.parametrize(("text", "shown", "in_a_log"), [
    ("\x1b[1;31mred\x1b[0m\tend\n", "\x1b[1;31mred\x1b[0m\tend\n", "\x1b[1;31mred\x1b[0m\tend\n"),
    ("10%\r20%\x1b[A\x1b[K", "10%\\r20%\\x1b[A\\x1b[K", "10%\r20%\x1b[A\x1b[K"),
    ("\x1b]0;title\x07", "\\x1b]0;title\\x07", "\\x1b]0;title\\x07"),
    ("\x1b[2J\x9b2J\x7f", "\\x1b[2J\\x9b2J\\x7f", "\\x1b[2J\\x9b2J\\x7f"), ("λ 学", "λ 学", "λ 学"),
])
def test_a_terminal_takes_no_commands_from_what_trials_left(text, shown, in_a_log):
    assert output.harmless(text) == shown
    assert output.harmless(text, moves=True) == in_a_log
