"""``velo sweep FILE``: a new study, run to its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import complete_words, json_option, run_options, store_option
from velodrome.cli.output import prints_to_stderr
from velodrome.cli.summary import conclude
from velodrome.search.registry import SAMPLERS, SCHEDULERS


@click.command()
@click.argument("objective", metavar="FILE[:NAME]")
@click.option("--trials", type=int, default=100, show_default=True, metavar="N", help="Finished trials to reach.")
@click.option("--goal", metavar="GOAL", help="'maximize METRIC' or 'minimize METRIC'; several with commas between.  "
              "[default: the objective's own, else 'minimize value']")
@click.option("--sampler", shell_complete=complete_words(*SAMPLERS), default="tpe", show_default=True, metavar="S",
              help=f"{', '.join(SAMPLERS)}; with options: tpe:n_startup_trials=20.")
@click.option("--scheduler", shell_complete=complete_words(*SCHEDULERS), default="none", show_default=True, metavar="S",
              help=f"{', '.join(SCHEDULERS)}; with options: asha:min_steps=1,reduction=3.")
@click.option("--seed", type=int, metavar="N", help="Everything random derives from it.  [default: drawn, and kept]")
@click.option("--name", metavar="STUDY", help="The study's name.  [default: the file's]")
@click.option("--resources", default="", metavar="R",
              help="What one trial needs, such as 'cpus=2,gpu=0.5,memory=4GiB'.")
@click.option("--retries", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="How often a trial that failed is started again.")
@click.option("--breaker", type=click.IntRange(min=0), default=5, show_default=True, metavar="N",
              help="Stop when the first N trials all fail alike; 0 for never.")
@click.option("--keep-checkpoints", shell_complete=complete_words("best", "all", "none"), default="best",
              show_default=True, metavar="K",
              help="Of which finished trials the last checkpoint stays: best, all, none, or a number of trials.")
@run_options
@store_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context, /, objective: str, store: Path, as_json: bool, executor: str | None, timeout: float | None,
    quiet: bool, **settings: Any,
) -> None:
    """Run a new study: search the hyperparameters of an objective.

    FILE is a Python file with the objective in it, `def train(trial)`; NAME says which where there are several.
    MODULE:NAME works as well. At the end the best trial is printed: its number, value and parameters.
    """
    from velodrome import api

    started_at = time.monotonic()
    with prints_to_stderr():
        study = api.sweep(
            objective, store=store, executor=executor or "process", timeout_s=timeout, progress=not quiet, **settings
        )
    conclude(ctx, study, time.monotonic() - started_at, as_json=as_json)
