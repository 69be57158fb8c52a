"""How the command line ends badly: each error as a message on stderr and an exit code, never a traceback of ours.

The codes are in ``docs/cli.md``: an error's own (``VeloError.exit_code``), 128 + the signal's number after a signal,
141 (as for SIGPIPE) where nobody reads stdout any more.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

import click

from velodrome.cli.output import note, style
from velodrome.errors import Interrupted, VeloError, nearest

EXPECTED = (VeloError, click.ClickException, KeyboardInterrupt, OSError)
"""What a command may end with through no fault of ours."""

STORE_GIVEN = "velodrome.store_given"
"""Key in ``ctx.meta``: the ``--store`` as typed, where one was."""


def report(error: BaseException, ctx: click.Context | None) -> int:
    """Tells the user about one of ``EXPECTED``; returns the exit code."""
    match error:
        case VeloError():
            _show(error, ctx)
            return error.exit_code
        case click.ClickException():
            _show_usage(error)
            return error.exit_code
        case Interrupted():
            note(f"interrupted; everything is saved. Go on with: velo resume {error.study}{store_hint(ctx)}")
            return 128 + error.signum
        case BrokenPipeError():
            _silence_stdout()
            return 141
        case OSError():
            note(f"{_label()} The system refused something: {error.strerror or error}.")
            if error.filename is not None:
                note(f"  given: {error.filename}")
            _silence_stdout()
            return 1
        case _:
            return 130


def report_bug(error: Exception) -> int:
    """Shows an error that should not be, with our traceback; returns the exit code."""
    note("".join(traceback.format_exception(error)).rstrip())
    note(f"{_label()} this is a bug in velodrome, not in your code. Please report it with the lines above.")
    return 1


def store_hint(ctx: click.Context | None) -> str:
    """`` --store PATH`` where the user gave one, to be added to a command that is proposed to them."""
    given = ctx.meta.get(STORE_GIVEN) if ctx is not None else None
    return f" --store {given}" if given else ""


def _show(error: VeloError, ctx: click.Context | None) -> None:
    theirs = getattr(error, "traceback", "")
    if theirs:
        note(theirs.rstrip())
    note(f"{_label()} {error}")
    if store_hint(ctx) and "velo " in error.hint and "--store" not in error.hint:
        note(f"  note: with{store_hint(ctx)}, as here")


def _show_usage(error: click.ClickException) -> None:
    """Click's own errors in the same form as ours."""
    note(f"{_label()} {error.message if isinstance(error, click.NoSuchOption) else error.format_message()}")
    ctx = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and ctx is not None:
        options = [name for param in ctx.command.params for name in param.opts if name.startswith("--")]
        options.append("--help")
        near = nearest(error.option_name, options)
        note(f"  allowed: {', '.join(options)}" + (f"\n  try: {near}" if near else ""))
    elif ctx is not None and isinstance(ctx.command, click.Group):
        note(f"  allowed: {', '.join(ctx.command.list_commands(ctx))}")
    if ctx is not None:
        note(f"  help: {ctx.command_path} --help")


def _label() -> str:
    return style("error:", sys.stderr, fg="red", bold=True)


def _silence_stdout() -> None:
    """Sends what is still in stdout's buffer nowhere, so that Python does not complain about the pipe as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
