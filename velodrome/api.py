"""The public functions that run studies: ``new_study`` checks and creates one, ``wiring`` puts the parts together.

What is done with a trained agent is in ``agents``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from velodrome.clock import SystemClock
from velodrome.crew import executor_for
from velodrome.errors import ObjectiveError
from velodrome.location import store_path
from velodrome.new_study import (
    check_kinds,
    check_search,
    check_space,
    check_trials,
    config_of,
    create,
    default_name,
    known_env,
    pick_seed,
    space_json,
)
from velodrome.options import Options
from velodrome.progress import say
from velodrome.records import StudyRow
from velodrome.rl.algorithms import GOAL, OBJECTIVE, resources_of, training_space
from velodrome.search.default_sampler import choose_sampler
from velodrome.search.space import Space
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer
from velodrome.study import Study
from velodrome.trials import fusing
from velodrome.trials.manager import Progress
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.retention import Retention
from velodrome.types import Goal
from velodrome.wiring import run, take_control

DEFAULT_GOAL = "minimize value"


def sweep(
    objective: Callable[..., Any] | str,
    space: Space | None = None,
    *,
    trials: int = 100,
    goal: str | None = None,
    sampler: str = "auto",
    scheduler: str = "none",
    seed: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str = "process",
    address: str = "",
    workers: int | None = None,
    resources: str = "",
    threads: int | None = None,
    retries: int = 0,
    breaker: int = 5,
    timeout_s: float | None = None,
    keep_checkpoints: str | int = "best",
    hung_after_s: float | None = None,
    fuse: str | int = "auto",
    priority: str = "normal",
    progress: bool | Callable[[Progress], None] = True,
) -> Study:
    """Runs a new study to its end and returns it.

    Args:
        objective: ``def train(trial)``, a ``TrainingJob`` or its class, or where it is: ``"path.py:train"``,
            ``"package.module:train"``.
        space: What to search; None where the objective carries its space, or asks for parameters as it runs.
        trials: How many finished trials (completed, pruned or failed).
        goal: Such as ``"maximize accuracy"``; by default the objective's own, else ``"minimize value"``.
        sampler: ``auto`` for what was measured best for such a space (``search/default_sampler.py``), ``random``,
            ``grid``, ``sobol``, ``tpe``, ``gp``, ``cmaes``, ``nsga2``, ``evolution``, ``local``, ``predictor``,
            ``sharing`` or ``scalar``, with options where wanted: ``"tpe:n_startup_trials=20"``.
        scheduler: ``none``, ``median``, ``asha``, ``hyperband`` or ``pbt``, with options:
            ``"asha:min_steps=1,reduction=3"``.
        seed: Everything random derives from it; drawn and kept with the study where none is given.
        name: The study's name; by default the objective's, with a number where that is taken.
        store: The results store; by default ``$VELODROME_STORE``, else ``velodrome.db``.
        executor: ``process``, ``inline`` or ``ray``.
        address: Of the Ray cluster to join, ``"auto"`` or ``"HOST:PORT"``; by default ``ray`` is one of our own, here.
        workers: How many trials run at once.
        resources: What one trial needs.
        threads: How many threads each worker's libraries may start; by default an even part of the cores.
        retries: How often a trial whose objective failed is started again.
        breaker: Stop when the first so many trials all fail alike.
        timeout_s: Stop after so many seconds.
        keep_checkpoints: Of which finished trials the last checkpoint stays: ``best`` (with several goals the Pareto
            front), a number (the best so many), ``all`` or ``none``.
        hung_after_s: After how long without a sign of life a trial is started again; by default learnt from the trials.
        fuse: Of a ``TrainingJob``: how many trials each worker trains as one model, ``"off"``, or ``"auto"`` for what
            a short measurement finds best.
        priority: How the study stands to others on this machine: ``guaranteed``, ``normal`` or ``opportunistic``.
        progress: Show a progress line on stderr, or call this with each ``Progress``.

    Raises:
        UsageError: For a wrong argument; its kinds are in ``velodrome.errors``.
        StudyFailedError: If the first trials all failed alike.
        Interrupted: After Ctrl-C or SIGTERM (a KeyboardInterrupt); everything is saved and ``resume`` goes on.
    """
    check_kinds(space, goal=goal, sampler=sampler, scheduler=scheduler, name=name)
    check_trials(trials)
    options = Options(
        executor, workers, resources, retries, breaker, timeout_s, keep_checkpoints=str(keep_checkpoints),
        threads=threads, hung_after_s=hung_after_s, address=address, priority=priority, fuse=str(fuse),
    )
    fusing.parse(options.fuse)
    source = ObjectiveSource.of(objective)
    with executor_for(source, options, sampler, name or _label(objective), progress, space) as crew:
        info = crew.runner.describe()
        fusing.check(options.fuse, executor, info.name, fuses=info.fuses)
        options = replace(options, on_oom=info.on_oom)
        space = space if space is not None else None if info.space is None else Space.from_json(info.space)
        wanted = Goal.parse(goal or info.goal or DEFAULT_GOAL)
        seed = pick_seed(seed)
        chosen = choose_sampler(sampler, space)
        check_search(chosen.sampler, scheduler, wanted, seed, space)
        Retention(options.keep_checkpoints, wanted)
        with Writer(store_path(store)) as writer:
            row = create(writer, StudyRow(
                0, name or "", "stopped", str(wanted), seed, trials, chosen.sampler, scheduler,
                space_json(space), info.ref, config_of(options, define_by_run=space is None), SystemClock.now(),
            ), default_name(info, space), chosen)
            if chosen.surprising and progress is True:
                say(f"the sampler is {chosen.sampler}: {chosen.reason}")
            return run(crew, info, writer, row.name, trials, options, progress)


def train(
    algo: str,
    env: str,
    *,
    steps: int = 100_000,
    seed: int | None = None,
    seeds: int = 1,
    workers: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str = "process",
    address: str = "",
    resources: str = "",
    timeout_s: float | None = None,
    priority: str = "normal",
    progress: bool | Callable[[Progress], None] = True,
    **settings: Any,
) -> Study:
    """Trains an agent, as a study of one trial a seed, and returns the study; ``study.best.value`` is the mean return.

    ``velo.Replicates.of([trial.value for trial in study.trials])`` sums up several seeds.

    Args:
        algo: The algorithm: ``ppo``, ``dqn``, ``sac``, ``crossq`` or ``td7``.
        env: The environment: a Gymnasium id, ``"module:Name-v0"`` or ``"file.py:ClassName"``.
        steps: Environment steps to train for.
        seed: Everything random derives from it; drawn and kept with the study where none is given.
        seeds: How often to train, each time with another seed, derived from that.
        workers: How many of these run at once; by default as many as fit.
        name: The study's name; by default the algorithm's and the environment's, with a number where that is taken.
        store: The results store.
        executor: ``process``, ``inline`` or ``ray``.
        address: Of the Ray cluster to join, ``"auto"`` or ``"HOST:PORT"``; by default ``ray`` is one of our own, here.
        resources: What the run needs; by default a core, and a GPU, where there are some, for what is quicker there.
        timeout_s: Stop after so many seconds; ``resume`` goes on from the last checkpoint.
        priority: As for ``sweep``.
        progress: Show a progress line on stderr, or call this with each ``Progress``.
        settings: The algorithm's settings (``velodrome.rl.ppo_config``); others come from the environment's preset, or
            are at their defaults.

    Raises:
        UsageError: For an algorithm, environment, setting or value that there is not; its kinds as for ``sweep``.
        StudyFailedError: If the run failed; it carries the traceback.
        Interrupted: As for ``sweep``.
    """
    space = training_space(algo, known_env(env), steps, settings)
    wanted = resources_of(space, resources, at_once=1 if executor == "inline" else min(seeds, workers or seeds))
    return sweep(
        OBJECTIVE, space, trials=seeds, goal=GOAL, sampler="random", seed=seed,
        name=name, store=store, executor=executor, address=address, workers=workers,
        resources=wanted, breaker=1, timeout_s=timeout_s, priority=priority, progress=progress,
    )


def _label(objective: Callable[..., Any] | str) -> str:
    """What a study is called while it has no name."""
    return objective if isinstance(objective, str) else getattr(objective, "__name__", "study")


def resume(
    name: str,
    objective: Callable[..., Any] | str | None = None,
    *,
    trials: int | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str | None = None,
    address: str | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
    hung_after_s: float | None = None,
    fuse: str | int | None = None,
    take_over: bool = False,
    progress: bool | Callable[[Progress], None] = True,
) -> Study:
    """Goes on with a study that was stopped, killed or finished, from exactly where its log ends.

    Args:
        name: The study's name.
        objective: The objective, where the store can't know how to load it (a closure, a notebook's function).
        trials: A new number of finished trials; by default what was asked for.
        store: The results store.
        executor: Another executor than before.
        address: Another Ray cluster than before.
        workers: Another number of workers than before.
        timeout_s: Stop after so many seconds; no limit by default.
        hung_after_s: Another such limit than before.
        fuse: Another choice than before.
        take_over: Take the study from a controller on another host, which can't be asked whether it still runs (a
            container that is gone). Only when you know that it does not.
        progress: As for ``sweep``.

    Raises:
        NotFoundError: If there is no such study.
        StudyBusyError: If another process is running it.
        SpaceError: If the objective's space is no longer the study's.
    """
    if trials is not None:
        check_trials(trials)
    path = store_path(store)
    with Reader(path) as reader:
        row = reader.study(name)
    config = json.loads(row.config)
    given = {"executor": executor, "workers": workers, "hung_after_s": hung_after_s,
             "fuse": None if fuse is None else str(fuse)}
    config |= {key: value for key, value in given.items() if value is not None}
    if config["executor"] == "ray" or address:
        config["address"] = config.get("address", "") if address is None else address
    else:
        config["address"] = ""
    options = Options(**{**config, "timeout_s": timeout_s})
    if objective is None and not row.objective:
        raise ObjectiveError(
            f"Study {name!r} was started from Python with a function that can't be found again",
            hint=f"in Python: velodrome.resume({name!r}, objective=your_function)",
        )
    source = ObjectiveSource.of(row.objective if objective is None else objective)
    space = Space.from_json(json.loads(row.space)) if row.objective == OBJECTIVE else None
    with executor_for(source, options, row.sampler, row.name, progress, space) as crew:
        info = crew.runner.describe()
        fusing.check(options.fuse, options.executor, info.name, fuses=info.fuses)
        check_space(row, info, options)
        with Writer(path) as writer:
            target = row.trials if trials is None else trials
            return run(crew, info, writer, name, target, options, progress, take_over=take_over)


def create_study(
    space: Space,
    *,
    goal: str = DEFAULT_GOAL,
    sampler: str = "auto",
    scheduler: str = "none",
    seed: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Study:
    """A new study to be run by hand with ``study.ask()`` and ``study.tell(trial, value)``."""
    check_kinds(space, goal=goal, sampler=sampler, scheduler=scheduler, name=name)
    wanted = Goal.parse(goal)
    seed = pick_seed(seed)
    chosen = choose_sampler(sampler, space)
    check_search(chosen.sampler, scheduler, wanted, seed, space)
    with Writer(store_path(store)) as writer:
        row = create(writer, StudyRow(
            0, name or "", "stopped", str(wanted), seed, 0, chosen.sampler, scheduler, space_json(space),
            "", config_of(Options(), define_by_run=False), SystemClock.now(),
        ), "study", chosen)
    return load_study(row.name, store=store)


def load_study(name: str, *, store: str | os.PathLike[str] | None = None) -> Study:
    """A study that is in the store.

    Raises:
        NotFoundError: If there is no such store, or no such study in it.
    """
    return Study(store_path(store), name, take_control)


def open_store(store: str | os.PathLike[str] | None = None) -> Reader:
    """The store, to read: ``open_store().query("select * from leaderboard")``. Close it, or use it in a ``with``."""
    return Reader(store_path(store))
