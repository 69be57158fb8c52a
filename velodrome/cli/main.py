"""``velo``: the group of all commands. A command's module is imported when it is called, so help stays quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from velodrome import __version__
from velodrome.cli import failures
from velodrome.cli.output import prepare_streams

COMMANDS = {
    "sweep": "Run a new study: search the hyperparameters of an objective.",
    "train": "Train an agent by reinforcement learning.",
    "play": "Watch a trained agent: play episodes, write a video.",
    "export": "Write a trained agent to a file, to take it elsewhere.",
    "resume": "Go on with a study that was stopped, killed or finished.",
    "stop": "Stop a running study in order; nothing is lost.",
    "ls": "List the studies in the store, the newest first.",
    "show": "Show a study, or one of its trials.",
    "best": "Show the best trial of a study.",
    "why": "Tell why a trial or a study ended as it did, and what to try.",
    "logs": "Print what a trial printed, or all trials of a study.",
    "query": "Ask the store a question in SQL; it can only read.",
    "env": "Check a Gymnasium environment and time it.",
    "resources": "Show this machine: what is free, who holds what, who waits and why.",
    "doctor": "Check this machine and the store.",
}
"""Every command with its short help: ``velo --help`` is made from this alone."""


class VeloGroup(click.Group):
    """A group whose commands live in ``velodrome.cli.<name>`` and whose errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, its module imported now; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"velodrome.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name.

        Raises:
            UsageError: If there is none, with the nearest name.
        """
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from velodrome.errors import UsageError, nearest

            raise UsageError(
                "No such command", given=repr(args[0]), allowed=", ".join(COMMANDS),
                hint=nearest(args[0], COMMANDS) or "velo --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so; again without importing them."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error that the user can mend, a signal or a closed pipe becomes an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except failures.EXPECTED as error:
            raise click.exceptions.Exit(failures.report(error, ctx)) from None
        return result

    def main(  # type: ignore[override]  # it always ends the process, as click's own does in standalone mode
        self, args: Sequence[str] | None = None, prog_name: str | None = None, *_rest: Any, **extra: Any
    ) -> None:
        """Runs the command line and exits with its code."""
        extra.pop("standalone_mode", None)
        words = list(sys.argv[1:] if args is None else args) or ["--help"]
        try:
            code = super().main(words, prog_name, standalone_mode=False, **extra)
        except click.ClickException as error:
            code = failures.report(error, None)
        except Exception as error:
            code = failures.report_bug(error)
        sys.exit(code if isinstance(code, int) else 0)


@click.command(cls=VeloGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="velo", message="%(prog)s %(version)s")
def cli() -> None:
    """AutoML and reinforcement-learning experiments: sweeps that survive, results you can query.

    Start with: velo sweep FILE. Then: velo best, show, why and query.
    """


def main() -> None:
    """The console script."""
    prepare_streams()
    cli.main(prog_name="velo")
