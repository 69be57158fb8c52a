"""The public functions: the only place that wires spaces, samplers, executors, resources and the store together."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from velodrome.clock import SystemClock
from velodrome.errors import (
    Interrupted,
    ObjectiveError,
    SpaceError,
    StudyExistsError,
    StudyFailedError,
    UsageError,
    nearest,
)
from velodrome.location import files_dir, log_dir, store_path
from velodrome.owner import Owner
from velodrome.progress import ProgressLine
from velodrome.records import DecisionRow, StudyRow
from velodrome.resources.allocator import Plan, plan
from velodrome.resources.inventory import Inventory
from velodrome.resources.request import AUTO_GPU, ResourceRequest
from velodrome.rl.algorithms import GOAL, OBJECTIVE, run_name, training_space
from velodrome.search.history import History
from velodrome.search.registry import learns, make_sampler, make_scheduler
from velodrome.search.sampler import Exhausted
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer
from velodrome.study import Study
from velodrome.trials import checkpoints
from velodrome.trials.controller import Controller
from velodrome.trials.executor import Executor, ObjectiveInfo, StudyContext
from velodrome.trials.manager import Manager, Outcome, Progress
from velodrome.trials.objective import ObjectiveSource
from velodrome.trials.retention import Retention
from velodrome.trials.table import Policy, TrialTable
from velodrome.types import Goal

EXECUTORS = ("process", "inline")
DEFAULT_GOAL = "minimize value"
_NO_LIMIT = 1_000_000_000
_MAX_SEED = 1 << 63


@dataclass(frozen=True, slots=True)
class Options:
    """How a study's trials are run: kept with the study, so that a resume runs them alike.

    Attributes:
        executor: ``process`` (warm worker processes) or ``inline`` (this process: for the debugger).
        workers: How many trials run at once; None for as many as fit.
        resources: What one trial needs, such as ``"cpus=2,gpu=0.5,memory=4GiB"``.
        retries: How often a trial whose objective failed is started again.
        breaker: The study stops when its first so many trials all fail alike; 0 for never.
        timeout_s: Stop after so many seconds.
        define_by_run: Whether the objective asks for its parameters while it runs.
        keep_checkpoints: Of which finished trials the last checkpoint stays: ``best`` (with several goals the Pareto
            front), a number (the best so many), ``all`` or ``none``.
    """

    executor: str = "process"
    workers: int | None = None
    resources: str = ""
    retries: int = 0
    breaker: int = 5
    timeout_s: float | None = None
    define_by_run: bool = False
    keep_checkpoints: str = "best"


def sweep(
    objective: Callable[..., Any] | str,
    space: Space | None = None,
    *,
    trials: int = 100,
    goal: str | None = None,
    sampler: str = "tpe",
    scheduler: str = "none",
    seed: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str = "process",
    workers: int | None = None,
    resources: str = "",
    retries: int = 0,
    breaker: int = 5,
    timeout_s: float | None = None,
    keep_checkpoints: str | int = "best",
    progress: bool | Callable[[Progress], None] = True,
) -> Study:
    """Runs a new study to its end and returns it.

    Args:
        objective: ``def train(trial)``, or where it is: ``"path.py:train"``, ``"package.module:train"``.
        space: What to search; None where the objective carries its space, or asks for parameters as it runs.
        trials: How many finished trials (completed, pruned or failed).
        goal: Such as ``"maximize accuracy"``; by default the objective's own, else ``"minimize value"``.
        sampler: ``random``, ``grid``, ``sobol``, ``tpe``, ``gp``, ``cmaes`` or ``nsga2``, with options where wanted:
            ``"tpe:n_startup_trials=20"``.
        scheduler: ``none``, ``median``, ``asha``, with options: ``"asha:min_steps=1,reduction=3"``.
        seed: Everything random derives from it; drawn and kept with the study where none is given.
        name: The study's name; by default the objective's, with a number where that is taken.
        store: The results store; by default ``$VELODROME_STORE``, else ``velodrome.db``.
        executor: ``process`` or ``inline``.
        workers: How many trials run at once.
        resources: What one trial needs.
        retries: How often a trial whose objective failed is started again.
        breaker: Stop when the first so many trials all fail alike.
        timeout_s: Stop after so many seconds.
        keep_checkpoints: Of which finished trials the last checkpoint stays: ``best`` (with several goals the Pareto
            front), a number (the best so many), ``all`` or ``none``.
        progress: Show a progress line on stderr, or call this with each ``Progress``.

    Raises:
        UsageError: For a wrong argument; its kinds are in ``velodrome.errors``.
        StudyFailedError: If the first trials all failed alike.
        Interrupted: After Ctrl-C or SIGTERM (a KeyboardInterrupt); everything is saved and ``resume`` goes on.
    """
    _check_trials(trials)
    options = Options(
        executor, workers, resources, retries, breaker, timeout_s, keep_checkpoints=str(keep_checkpoints)
    )
    source = ObjectiveSource.of(objective)
    with _executor(source, options, sampler) as (runner, reasons):
        info = runner.describe()
        space = space if space is not None else None if info.space is None else Space.from_json(info.space)
        wanted = Goal.parse(goal or info.goal or DEFAULT_GOAL)
        seed = _seed(seed)
        _check_search(sampler, scheduler, wanted, seed, space)
        Retention(options.keep_checkpoints, wanted)
        with Writer(store_path(store)) as writer:
            row = _create(writer, StudyRow(
                0, name or "", "stopped", str(wanted), seed, trials, sampler, scheduler,
                _space(space), info.ref, _config(options, define_by_run=space is None), _now(),
            ), default_name=_default_name(info, space))
            return _run(runner, writer, row.name, trials, options, progress, reasons=reasons)


def train(
    algo: str,
    env: str,
    *,
    steps: int = 100_000,
    seed: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str = "process",
    resources: str = "",
    timeout_s: float | None = None,
    progress: bool | Callable[[Progress], None] = True,
    **settings: Any,
) -> Study:
    """Trains an agent, as a study of one trial, and returns the study; ``study.best.value`` is the mean return.

    Args:
        algo: The algorithm: ``ppo``.
        env: The environment: a Gymnasium id, ``"module:Name-v0"`` or ``"file.py:ClassName"``.
        steps: Environment steps to train for.
        seed: Everything random derives from it; drawn and kept with the study where none is given.
        name: The study's name; by default the algorithm's and the environment's, with a number where that is taken.
        store: The results store.
        executor: ``process`` or ``inline``.
        resources: What the run needs.
        timeout_s: Stop after so many seconds; ``resume`` goes on from the last checkpoint.
        progress: Show a progress line on stderr, or call this with each ``Progress``.
        settings: The algorithm's settings (``velodrome.rl.ppo_config``); others come from the environment's preset, or
            are at their defaults.

    Raises:
        UsageError: For an algorithm, environment, setting or value that there is not; its kinds as for ``sweep``.
        StudyFailedError: If the run failed; it carries the traceback.
        Interrupted: As for ``sweep``.
    """
    env = known_env(env)
    return sweep(
        OBJECTIVE, training_space(algo, env, steps, settings), trials=1, goal=GOAL, sampler="random", seed=seed,
        name=name, store=store, executor=executor, resources=resources, breaker=1, timeout_s=timeout_s,
        progress=progress,
    )


def known_env(env: str) -> str:
    """The environment's name as it is found from any folder.

    Raises:
        EnvError: If there is none of that name, with the nearest ones.
    """
    if ".py" in env:
        path, colon, cls = env.rpartition(":") if ".py:" in env else (env, "", "")
        return f"{Path(path).resolve()}{colon}{cls}"
    from velodrome.envs.adapter_factory import find_spec

    find_spec(env)
    return env


def resume(
    name: str,
    objective: Callable[..., Any] | str | None = None,
    *,
    trials: int | None = None,
    store: str | os.PathLike[str] | None = None,
    executor: str | None = None,
    workers: int | None = None,
    timeout_s: float | None = None,
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
        workers: Another number of workers than before.
        timeout_s: Stop after so many seconds; no limit by default.
        take_over: Take the study from a controller on another host, which can't be asked whether it still runs (a
            container that is gone). Only when you know that it does not.
        progress: As for ``sweep``.

    Raises:
        NotFoundError: If there is no such study.
        StudyBusyError: If another process is running it.
        SpaceError: If the objective's space is no longer the study's.
    """
    if trials is not None:
        _check_trials(trials)
    path = store_path(store)
    with Reader(path) as reader:
        row = reader.study(name)
    config = json.loads(row.config)
    config |= {key: value for key, value in (("executor", executor), ("workers", workers)) if value is not None}
    options = Options(**{**config, "timeout_s": timeout_s})
    if objective is None and not row.objective:
        raise ObjectiveError(
            f"Study {name!r} was started from Python with a function that can't be found again",
            hint=f"in Python: velodrome.resume({name!r}, objective=your_function)",
        )
    source = ObjectiveSource.of(row.objective if objective is None else objective)
    with _executor(source, options, row.sampler) as (runner, reasons):
        _check_space(row, runner.describe(), options)
        with Writer(path) as writer:
            return _run(
                runner, writer, name, row.trials if trials is None else trials, options, progress, reasons=reasons,
                take_over=take_over,
            )


def create_study(
    space: Space,
    *,
    goal: str = DEFAULT_GOAL,
    sampler: str = "tpe",
    scheduler: str = "none",
    seed: int | None = None,
    name: str | None = None,
    store: str | os.PathLike[str] | None = None,
) -> Study:
    """A new study to be run by hand with ``study.ask()`` and ``study.tell(trial, value)``."""
    wanted = Goal.parse(goal)
    seed = _seed(seed)
    _check_search(sampler, scheduler, wanted, seed, space)
    with Writer(store_path(store)) as writer:
        row = _create(writer, StudyRow(
            0, name or "", "stopped", str(wanted), seed, 0, sampler, scheduler, _space(space),
            "", _config(Options(), define_by_run=False), _now(),
        ), default_name="study")
    return load_study(row.name, store=store)


def load_study(name: str, *, store: str | os.PathLike[str] | None = None) -> Study:
    """A study that is in the store.

    Raises:
        NotFoundError: If there is no such store, or no such study in it.
    """
    return Study(store_path(store), name, _take_control)


def open_store(store: str | os.PathLike[str] | None = None) -> Reader:
    """The store, to read: ``open_store().query("select * from leaderboard")``. Close it, or use it in a ``with``."""
    return Reader(store_path(store))


# --- wiring


@contextmanager
def _executor(
    source: ObjectiveSource, options: Options, sampler: str
) -> Iterator[tuple[Executor, tuple[str, ...]]]:
    """The executor that the options name, over what of the machine they ask for, and why that; gone at the end.

    A sampler that learns from results gets no trials queued ahead of them.
    """
    prefetch = 1 if learns(sampler) else 8
    planned = _plan(source, options)
    runner: Executor
    match options.executor:
        case "process":
            from velodrome.trials.process_executor import ProcessExecutor

            runner = ProcessExecutor(source, list(planned.slots), prefetch=prefetch)
        case "inline":
            from velodrome.trials.inline_executor import InlineExecutor

            runner = InlineExecutor(source, planned.slots[0])
        case other:
            raise UsageError(
                "No such executor", given=repr(other), allowed=", ".join(EXECUTORS), hint=nearest(other, EXECUTORS)
            )
    try:
        yield runner, planned.reasons
    finally:
        runner.close()


def _plan(source: ObjectiveSource, options: Options) -> Plan:
    """What each worker may use. An objective that imports torch gets GPUs where there are some and nothing is said."""
    inventory, request = Inventory.detect(), ResourceRequest.parse(options.resources)
    if inventory.gpus and "gpu" not in options.resources and "torch" in source.pack().preloads:
        request = replace(request, gpu_millis=AUTO_GPU)
    if options.executor != "inline":
        return plan(inventory, request, options.workers)
    planned = plan(inventory, request, 1 if options.workers is None else min(options.workers, 1))
    return replace(planned, reasons=("one trial at a time, in the study's own process: the executor is inline",))


def _run(
    runner: Executor, writer: Writer, name: str, target: int, options: Options,
    progress: bool | Callable[[Progress], None], *, reasons: Sequence[str], take_over: bool = False,
) -> Study:
    """Takes control of the study, runs it, and returns it. ``reasons`` is why the workers are so many and where."""
    line = ProgressLine() if progress is True else None
    controller = _control(writer, name, options, take_over)
    writer.update_study(controller.study.id, trials=target)
    for reason in reasons:
        writer.decision(DecisionRow(
            controller.study.id, controller.seq + 1, None, controller.clock.now(), "resources", "plan", reason
        ))
    context = StudyContext(
        name, controller.table.goal.metrics, controller.table.scheduler.needs_reports, str(log_dir(writer.path, name)),
        str(writer.path.parent), files_dir(writer.path, controller.study.name),
    )
    try:
        manager = Manager(
            controller, runner, context, target=target, timeout_s=options.timeout_s,
            on_progress=line or (progress if callable(progress) else None), record_output=writer.artifact,
        )
        outcome = manager.run()
    finally:
        if line is not None:
            line.close()
    return _conclude(controller, outcome, load_study(name, store=writer.path))


def _control(writer: Writer, name: str, options: Options, take_over: bool = False) -> Controller:
    """Claims a study and brings a controller up to date with its log."""
    row = writer.claim_study(name, Owner.current(), force=take_over)
    goal = Goal.parse(row.goal)
    space = Space() if options.define_by_run else Space.from_json(json.loads(row.space))
    policy = Policy(options.retries, breaker=options.breaker, keep_checkpoints=options.keep_checkpoints)
    table = TrialTable(History(space, goal), make_scheduler(row.scheduler, goal), policy)
    controller = Controller(row, table, make_sampler(row.sampler, seed=row.seed), writer, SystemClock())
    with Reader(writer.path) as reader:
        controller.replay(reader.events(row.id, metric=goal.metric if table.scheduler.needs_reports else None))
        controller.seq = reader.last_seq(row.id)
        known = [checkpoint.path for checkpoint in reader.all_checkpoints(row.id)]
    store_dir, files = writer.path.parent, files_dir(writer.path, row.name)
    checkpoints.clean(store_dir, files, known)
    controller.on_discard = checkpoints.remover(store_dir, files)
    return controller


def _conclude(controller: Controller, outcome: Outcome, study: Study) -> Study:
    if outcome.signum:
        raise Interrupted(outcome.signum, study.name)
    if outcome.state == "failed":
        failed = [t.failure for t in study.trials if t.failure is not None]
        raise StudyFailedError(
            f"Study {study.name!r} was stopped: {outcome.note}",
            hint=f"velo why {study.name}  (then mend the objective and: velo resume {study.name})",
            traceback=failed[0].traceback if failed else "",
        )
    return study


def _take_control(study: Study) -> Controller:
    """Makes this process the controller of a study that is run by hand."""
    from velodrome.trials import events as ev

    writer = Writer(study.store)
    try:
        controller = _control(writer, study.name, Options(**json.loads(study.row.config)))
        controller.happened(ev.Opened(_NO_LIMIT))
        controller.on_release = writer.close
    except BaseException:
        writer.close()
        raise
    return controller


def _create(writer: Writer, row: StudyRow, default_name: str) -> StudyRow:
    """The study in the store, under its name or else the first free one after the default's."""
    if row.name:
        _check_name(row.name)
        return row._replace(id=writer.create_study(row))
    for count in range(1, 1_000_000):
        named = row._replace(name=default_name if count == 1 else f"{default_name}-{count}")
        try:
            return named._replace(id=writer.create_study(named))
        except StudyExistsError:
            continue
    raise StudyExistsError("Every default name is taken", given=default_name, hint="give a --name")


def _check_trials(trials: int) -> None:
    if trials < 1:
        raise UsageError("A sweep needs trials", given=f"trials={trials}", allowed="1 or more")


def _seed(seed: int | None) -> int:
    """The study's seed: what was given, if the store can keep it, else one that is drawn."""
    if seed is None:
        return int.from_bytes(os.urandom(4), "little")
    if not -_MAX_SEED <= seed < _MAX_SEED:
        raise UsageError("A seed is too large to be kept", given=str(seed), allowed="whole numbers of 64 bits")
    return seed


def _check_search(sampler: str, scheduler: str, goal: Goal, seed: int, space: Space | None) -> None:
    """Refuses a scheduler or a sampler that does not do, or a space that holds nothing, before there is a study."""
    make_scheduler(scheduler, goal)
    made, rng = make_sampler(sampler, seed=seed), generator(seed, "suggest", 0)
    history = History(space if space is not None else Space(), goal)
    if learns(sampler):
        history.space.sample(rng)
    else:
        with suppress(Exhausted):
            made.suggest(0, history, rng)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            "A study's name does not do", given=repr(name),
            allowed="letters, digits, '.', '_' and '-', not more than 100, the first a letter or digit",
        )


def _check_space(row: StudyRow, info: ObjectiveInfo, options: Options) -> None:
    """Refuses to go on where the objective's space is no longer the study's."""
    if info.space is None:
        return
    before, now = Space.from_json(json.loads(row.space)), Space.from_json(info.space)
    if options.define_by_run or before == now:
        return
    raise SpaceError(
        f"The search space changed since study {row.name!r} began", given="; ".join(before.diff(now)),
        allowed="the space that the study began with",
        hint="undo the change, or start a new study: velo sweep FILE --name ANOTHER. The old results stay as they are",
    )


def _default_name(info: ObjectiveInfo, space: Space | None) -> str:
    stem = Path(info.file).stem if info.file and not info.file.startswith("<") else info.name
    if info.ref == OBJECTIVE and space is not None:
        stem = run_name(space)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:90] or "study"


def _config(options: Options, *, define_by_run: bool) -> str:
    return json.dumps({**asdict(options), "define_by_run": define_by_run})


def _space(space: Space | None) -> str:
    return json.dumps((space or Space()).to_json())


def _now() -> float:
    return SystemClock.now()
