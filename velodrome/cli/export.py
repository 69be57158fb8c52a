"""``velo export STUDY [TRIAL]``: a trained agent in a file of its own, to take it elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from velodrome.cli.options import complete_words, json_option, split_target, store_option, study_and_trial
from velodrome.cli.output import note, out, out_json, prints_to_stderr


@click.command()
@study_and_trial
@click.option("--to", "path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="NAME.safetensors.  [default: STUDY.safetensors]")
@click.option("--weights", shell_complete=complete_words("best", "last"), default="best", show_default=True,
              metavar="W", help="best (the highest return on the way) or last.")
@store_option
@json_option
def export(study: str, trial: str | None, path: Path | None, weights: str, store: Path, as_json: bool) -> None:
    """Write a trained agent to a file, to take it elsewhere.

    TRIAL is the best one if it is not given. The file has the weights and all that acting takes; velo play FILE and
    velo.load_agent("FILE") take it, without store or environment. Nothing in it is code.
    """
    from velodrome import agents, api
    from velodrome.rl.algorithms import AGENT_SUFFIX

    name, wanted = split_target(study, trial)
    found = api.load_study(name, store=store)
    chosen = agents.trained_trial(found, wanted)
    path = path or Path(f"{name}{AGENT_SUFFIX}")
    with prints_to_stderr():
        agent = agents.load_agent(found, chosen.number, weights=weights)
        agent.save(path)
    size = path.stat().st_size
    if as_json:
        out_json({"file": str(path), "study": name, "trial": chosen.number, "env": agent.env, "weights": agent.weights,
                  "size_bytes": size})
    else:
        out(str(path))
    note(f"{name}/{chosen.number}, {agent.weights} weights, {size:,} bytes; watch it: velo play {path}")
