"""``velo play STUDY [TRIAL]``: plays episodes with a trained agent, and writes a video of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from velodrome.cli.options import complete_words, json_option, split_target, store_option, study_and_trial
from velodrome.cli.output import note, number, out_json, out_table, prints_to_stderr


@click.command()
@study_and_trial
@click.option("--episodes", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="How many.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Of environment and drawn actions.")
@click.option("--stochastic", is_flag=True, help="Draw actions, instead of taking the most likely ones.")
@click.option("--weights", shell_complete=complete_words("best", "last"), default="best", show_default=True,
              metavar="W", help="best (the highest return on the way) or last.")
@click.option("--video", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write a video of all episodes: FILE.mp4 or FILE.gif.")
@click.option("--fps", type=click.FloatRange(0, 1000, min_open=True), metavar="F",
              help="Its frames a second.  [default: what the environment says]")
@click.option("--max-frames", type=click.IntRange(1), default=1000, show_default=True, metavar="N",
              help="Of the video; playing goes on without.")
@click.option("--env", metavar="ID", help="For an agent from a file: where it plays.  [default: where it was trained]")
@store_option
@json_option
def play(
    study: str, trial: str | None, episodes: int, seed: int, stochastic: bool, weights: str, video: Path | None,
    fps: float | None, max_frames: int, env: str | None, store: Path, as_json: bool,
) -> None:
    """Watch a trained agent: play episodes, write a video.

    TRIAL is the best one if it is not given. The agent comes from the trial's last checkpoint, also while it trains.
    STUDY may be an agent's file as well, NAME.safetensors (velo export).
    """
    from velodrome import agents, api
    from velodrome.rl import play as playing
    from velodrome.rl.algorithms import AGENT_SUFFIX

    if study.endswith(AGENT_SUFFIX):
        name, (_, wanted) = study, split_target(Path(study).name, trial)
        source: Any = study
    else:
        name, wanted = split_target(study, trial)
        source = api.load_study(name, store=store)
        wanted = agents.trained_trial(source, wanted).number
    with prints_to_stderr():
        agent = agents.load_agent(
            source, wanted, weights=weights, deterministic=not stochastic, seed=seed, env=env
        )
        played = playing.play(agent, episodes=episodes, seed=seed, video=video, fps=fps, max_frames=max_frames)
    rows = list(zip(played.returns.tolist(), played.lengths.tolist(), strict=True))
    if as_json:
        out_json({
            "study": name, "trial": wanted, "env": agent.env, "weights": agent.weights,
            "mean_return": float(played.returns.mean()), "std_return": float(played.returns.std()),
            "episodes": [{"return": score, "length": length} for score, length in rows],
            "video": None if video is None else str(video), "frames": played.num_frames,
        })
    else:
        out_table(("episode", "return", "length"), [(i, *row) for i, row in enumerate(rows)])
    who = name if wanted is None else f"{name}/{wanted}"
    note(f"{who}, {agent.weights} weights: mean return {number(float(played.returns.mean()))}")
    if video is not None:
        left_out = f"; {played.num_left_out} more were left out (--max-frames)" if played.num_left_out else ""
        note(f"{video}: {played.num_frames} frames{left_out}")
