"""``velo sweep FILE``: a new study, run to its end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import (
    complete_words,
    fuse_option,
    hung_option,
    json_option,
    priority_option,
    run_options,
    store_option,
)
from velodrome.cli.output import prints_to_stderr
from velodrome.cli.summary import conclude
from velodrome.cli.train import setting_option
from velodrome.search.registry import AUTO, SAMPLERS, SCHEDULERS


@click.command()
@click.argument("objective", metavar="FILE[:NAME]")
@click.option("--trials", type=int, default=100, show_default=True, metavar="N", help="Finished trials to reach.")
@click.option("--goal", metavar="GOAL", help="'maximize METRIC' or 'minimize METRIC'; several with commas between.  "
              "[default: the objective's own, else 'minimize value']")
@click.option("--sampler", shell_complete=complete_words(AUTO, *SAMPLERS), default=AUTO, show_default=True, metavar="S",
              help=f"{', '.join((AUTO, *SAMPLERS))}; with options: tpe:n_startup_trials=20.")
@click.option("--scheduler", shell_complete=complete_words(*SCHEDULERS), default="none", show_default=True, metavar="S",
              help=f"{', '.join(SCHEDULERS)}; with options: asha:min_steps=1,reduction=3.")
@click.option("--seed", type=int, metavar="N", help="Everything random derives from it.  [default: drawn, and kept]")
@click.option("--name", metavar="STUDY", help="The study's name.  [default: the file's]")
@click.option("--resources", default="", metavar="R",
              help="What one trial needs, such as 'cpus=2,gpu=0.5,memory=4GiB'.  [default: a core; a GPU for torch]")
@click.option("--threads", type=click.IntRange(min=1), metavar="N",
              help="Threads of each worker's libraries.  [default: an even part of the cores]")
@click.option("--retries", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
              help="How often a trial that failed is started again.")
@click.option("--breaker", type=click.IntRange(min=0), default=5, show_default=True, metavar="N",
              help="Stop when the first N trials all fail alike; 0 for never.")
@click.option("--keep-checkpoints", shell_complete=complete_words("best", "all", "none"), default="best",
              show_default=True, metavar="K",
              help="Of which finished trials the last checkpoint stays: best, all, none, or a number of trials.")
@click.option("--env", metavar="ID", help="Sweep an algorithm of reinforcement learning: the environment to train in.")
@click.option("--steps", type=int, default=100_000, show_default=True, metavar="N",
              help="With --env: environment steps of each trial.")
@fuse_option
@hung_option
@setting_option
@priority_option
@run_options
@store_option
@json_option
@click.pass_context
def sweep(
    ctx: click.Context, /, objective: str, store: Path, as_json: bool, executor: str | None, address: str | None,
    timeout: float | None, quiet: bool, env: str | None, steps: int, given: tuple[str, ...], fuse: str | None,
    **settings: Any,
) -> None:
    """Run a new study: search the hyperparameters of an objective.

    FILE is a Python file with the objective in it, `def train(trial)` or a training job; NAME says which where there
    are several. MODULE:NAME works as well. At the end the best trial is printed: its number, value and parameters.

    With --env, FILE is an algorithm (ppo): its settings are searched, but for those that -p fixes. Where a -p gives
    several values (lr=1e-4..1e-2:log, epochs=4..16, 'activation=tanh|relu'), those alone are searched.
    """
    from velodrome import api
    from velodrome.errors import UsageError
    from velodrome.new_study import known_env
    from velodrome.rl.algorithms import ALGORITHMS

    if env is not None:
        objective, settings = _of_algorithm(objective, known_env(env), steps, given, settings, executor)
    elif objective in ALGORITHMS:
        raise UsageError(f"A sweep of {objective} needs an environment", given=f"velo sweep {objective}",
                         allowed="--env ID", hint=f"for example: velo sweep {objective} --env CartPole-v1")
    elif given:
        raise UsageError("-p sets an algorithm's settings", given=f"-p {given[0]}", allowed="only with --env",
                         hint="fix a parameter in the objective's space: Choice(VALUE)")
    started_at = time.monotonic()
    with prints_to_stderr():
        study = api.sweep(
            objective, store=store, executor=executor or "process", address=address or "", timeout_s=timeout,
            fuse=fuse or "auto", progress=not quiet, **settings,
        )
    conclude(ctx, study, time.monotonic() - started_at, as_json=as_json)


def _of_algorithm(
    algo: str, env: str, steps: int, given: tuple[str, ...], settings: dict[str, Any], executor: str | None
) -> tuple[str, dict[str, Any]]:
    """The objective of a training run, and the sweep's settings with its space and goal."""
    from velodrome.rl.algorithms import GOAL, OBJECTIVE, resources_of, training_space

    space = training_space(algo, env, steps, given, search=True)
    trials = 1 if executor == "inline" else settings["trials"]
    resources = resources_of(space, settings["resources"], at_once=min(trials, settings["workers"] or trials))
    return OBJECTIVE, {**settings, "space": space, "goal": settings["goal"] or GOAL, "resources": resources}
