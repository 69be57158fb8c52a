"""``velo train ALGO --env ID``: trains an agent, as a study of one trial."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import (
    EXECUTORS_HELP,
    address_option,
    complete_words,
    duration_option,
    json_option,
    priority_option,
    store_option,
)
from velodrome.cli.output import note, prints_to_stderr
from velodrome.cli.summary import conclude
from velodrome.options import EXECUTORS
from velodrome.rl import settings
from velodrome.rl.algorithms import ALGORITHMS, RunConfig


def complete_setting(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
    """For the shell: the settings whose names begin so, with what they do."""
    from click.shell_completion import CompletionItem

    config = ALGORITHMS.get(str(ctx.params.get("algo") or ctx.params.get("objective")))
    known = {**(settings.about(config) if config else {}), **settings.about(RunConfig)}
    return [CompletionItem(f"{name}=", help=about.doc) for name, about in known.items() if name.startswith(incomplete)]


setting_option = click.option(
    "-p", "--set", "given", multiple=True, metavar="NAME=VALUE", shell_complete=complete_setting,
    help="A setting of the algorithm; can be given several times.",
)


def settings_table() -> str:
    """Every setting of every algorithm, with its default, for the end of the help."""
    lines = []
    for algo, config in ALGORITHMS.items():
        lines += ["\b", f"Settings of {algo}, and their defaults where no preset of the environment says otherwise:"]
        for name, default, about in settings.rows(config) + settings.rows(RunConfig):
            lines.append(f"  {f'{name}={default}':<26}{about.doc}")
    return "\n".join(lines)


@click.command(epilog=settings_table())
@click.argument("algo", metavar="ALGO", shell_complete=complete_words(*ALGORITHMS))
@click.option("--env", required=True, metavar="ID", help="A Gymnasium id, module:Name-v0, or file.py:ClassName.")
@click.option("--steps", type=int, default=100_000, show_default=True, metavar="N", help="Environment steps.")
@click.option("--seed", type=int, metavar="N", help="Everything random derives from it.  [default: drawn, and kept]")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, metavar="N",
              help="Train so often, with seeds derived from --seed, and sum them up.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Seeds at once.  [default: as many as fit]")
@setting_option
@click.option("--name", metavar="STUDY", help="The study's name.  [default: ALGO-ENV]")
@click.option("--resources", default="", metavar="R", help="What the run needs, such as 'cpus=2,gpu=1,memory=4GiB'.")
@click.option("--executor", shell_complete=complete_words(*EXECUTORS), default="process", metavar="E",
              help=EXECUTORS_HELP)
@address_option
@priority_option
@duration_option("--timeout", help="Stop after 90, 90s, 10m or 2h; resume goes on.")
@click.option("-q", "--quiet", is_flag=True, help="No progress line.")
@store_option
@json_option
@click.pass_context
def train(
    ctx: click.Context, /, algo: str, env: str, steps: int, given: tuple[str, ...], store: Path, as_json: bool,
    address: str | None, timeout: float | None, quiet: bool, **options: Any,
) -> None:
    """Train an agent by reinforcement learning.

    ALGO is ppo, dqn, sac, crossq or td7. A run is a study of one trial a seed, with everything that studies have
    (resume, why, logs, query). At the end the mean return of the evaluation is printed, with every setting; of
    several seeds their interquartile mean and its 95 % interval, too.
    """
    from velodrome import api
    from velodrome.replicates import Replicates
    from velodrome.rl.algorithms import config_of, split_settings

    config_of(algo)
    of_algo: dict[str, Any] = dict(split_settings(given))
    started_at = time.monotonic()
    with prints_to_stderr():
        study = api.train(
            algo, env, steps=steps, store=store, address=address or "", timeout_s=timeout, progress=not quiet,
            **options, **of_algo,
        )
    returns = [trial.value for trial in study.trials if trial.value is not None]
    if len(returns) > 1:
        note(f"return: {Replicates.of(returns)}")
    conclude(ctx, study, time.monotonic() - started_at, as_json=as_json)
