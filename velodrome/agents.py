"""Trained agents: found in a store, to act in an environment of the user's or to play episodes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from velodrome.api import load_study
from velodrome.errors import NotFoundError, UsageError
from velodrome.new_study import known_env
from velodrome.results import TrialResult
from velodrome.rl.algorithms import AGENT_SUFFIX, OBJECTIVE
from velodrome.study import Study
from velodrome.types import TrialState

if TYPE_CHECKING:
    from velodrome.rl.loading import LoadedAgent
    from velodrome.rl.play import Played


def load_agent(
    study: Study | str | os.PathLike[str],
    trial: int | None = None,
    *,
    weights: str = "best",
    deterministic: bool = True,
    seed: int = 0,
    store: str | os.PathLike[str] | None = None,
    env: str | None = None,
) -> LoadedAgent:
    """The agent that a training run made, to act in an environment of yours: ``action = agent.act(obs)``.

    ``agent.save("NAME.safetensors")`` writes it to a file, from which it can be loaded anywhere.

    Args:
        study: The study, or its name; or an agent's file, ``NAME.safetensors``.
        trial: The trial's number; by default the best one.
        weights: ``best``, those with the highest return on the way (where there are none yet, the last), or ``last``.
        deterministic: Whether it takes the most likely actions; otherwise it draws them.
        seed: Of the drawn ones.
        store: The results store, where the study is given by its name.
        env: Of an agent from a file: where it plays, by default where it was trained. One whose name has code in it
            (``module:Name-v0``, ``FILE.py:Class``) is only made if it is given here.

    Raises:
        NotFoundError: If there is no such study, trial or file, or no checkpoint of it.
        UsageError: If the study trains no agents, the weights don't fit the environment as it is now, or the file holds
            no agent.
    """
    from velodrome.rl import agent_file, loading

    if isinstance(study, os.PathLike) or (isinstance(study, str) and study.endswith(AGENT_SUFFIX)):
        if trial is not None or weights != "best":
            raise UsageError("An agent's file holds one agent", given=f"trial={trial}, weights={weights!r}",
                             allowed="neither", hint="choose when you write it: velo export STUDY TRIAL --weights last")
        where = known_env(env) if env is not None else None
        return agent_file.load_agent_file(study, env=where, deterministic=deterministic, seed=seed)
    if env is not None:
        raise UsageError("A study's agent plays where it was trained", given=f"env={env!r}", allowed="with a file only")
    found = load_study(study, store=store) if isinstance(study, str) else study
    chosen = trained_trial(found, trial)
    try:
        state = found.checkpoint(chosen)
    except NotFoundError as error:
        if error.given:  # there are some, but damaged
            raise
        raise NotFoundError(error.what, given=f"a {chosen.state} trial", hint=_advice(found, chosen)) from None
    return loading.load_agent(chosen.params, state, weights=weights, deterministic=deterministic, seed=seed)


def play(
    study: Study | str | os.PathLike[str],
    trial: int | None = None,
    *,
    episodes: int = 1,
    seed: int = 0,
    deterministic: bool = True,
    weights: str = "best",
    video: str | os.PathLike[str] | None = None,
    fps: float | None = None,
    frames: bool = False,
    max_frames: int = 1000,
    store: str | os.PathLike[str] | None = None,
    env: str | None = None,
) -> Played:
    """Plays episodes with a trained agent; the result has their ``returns``, ``lengths`` and ``frames``.

    Args:
        study: The study, its name, or an agent's file.
        trial: The trial's number; by default the best one.
        episodes: How many.
        seed: Of the environment and of drawn actions; the same seed gives the same episodes.
        deterministic: Whether it takes the most likely actions; otherwise it draws them.
        weights: ``best`` or ``last``, as for ``load_agent``.
        video: Where to write a video of them: ``FILE.mp4`` or ``FILE.gif``.
        fps: Its frames a second; by default what the environment says.
        frames: Whether to return what was seen, ``[H, W, 3]`` uint8 each.
        max_frames: So many frames at most, in the video and returned.
        store: The results store, where the study is given by its name.
        env: As for ``load_agent``.

    Raises:
        NotFoundError, UsageError: As for ``load_agent``; for an environment that can't be drawn, and a video that can't
            be written.
    """
    from velodrome.rl import play as playing

    agent = load_agent(study, trial, weights=weights, deterministic=deterministic, seed=seed, store=store,
                       env=env)
    return playing.play(
        agent, episodes=episodes, seed=seed, video=video, fps=fps, keep_frames=frames, max_frames=max_frames,
    )


def trained_trial(study: Study, number: int | None) -> TrialResult:
    """The trial of a training study by its number, or the best; the only one there is, whatever became of it.

    Raises:
        UsageError: If the study trains no agents.
        NotFoundError: If there is no such trial, or none to choose.
    """
    if study.row.objective != OBJECTIVE:
        raise UsageError(f"Study {study.name!r} trains no agents", given=study.row.objective or "a function of Python",
                         allowed="a study of velo train, or of velo sweep ALGO --env ID")
    if number is not None:
        return study.trial(number)
    best, trials = study.top(1), study.trials
    if not best and len(trials) != 1:
        raise NotFoundError(f"Study {study.name!r} has no completed trial yet",
                            hint=f"one that runs plays from its last checkpoint: velo play {study.name} TRIAL")
    return (best or trials)[0]


def _advice(study: Study, trial: TrialResult) -> str:
    """What to do where a trial has no checkpoint."""
    kept = json.loads(study.row.config).get("keep_checkpoints", "best")
    match trial.state:
        case TrialState.COMPLETED if kept != "none":
            return f"a better trial has kept its own (--keep-checkpoints {kept}): velo play {study.name}"
        case TrialState.COMPLETED:
            return "the study keeps none (--keep-checkpoints none); run it anew with best"
        case TrialState.FAILED | TrialState.PRUNED:
            return (f"only --keep-checkpoints all keeps those of failed and pruned trials; "
                    f"velo why {study.name} {trial.number}")
    return f"its first one comes {trial.params['checkpoint_s']} seconds after its start: try again then"
