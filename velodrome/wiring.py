"""Puts the parts together: machine, executor, store, table and sampler, for a study that is run or asked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from velodrome.clock import SystemClock
from velodrome.crew import Crew
from velodrome.errors import Interrupted, StudyFailedError
from velodrome.location import files_dir, log_dir
from velodrome.options import Options
from velodrome.owner import Owner
from velodrome.progress import ProgressLine, say
from velodrome.records import DecisionRow
from velodrome.rl.algorithms import OBJECTIVE
from velodrome.search.history import History
from velodrome.search.registry import learns, make_sampler, make_scheduler
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.store.reader import Reader
from velodrome.store.writer import Writer
from velodrome.study import Study
from velodrome.trials import checkpoints
from velodrome.trials.controller import Controller
from velodrome.trials.executor import ObjectiveInfo, Probes, StudyContext
from velodrome.trials.fusing import Choice, choose
from velodrome.trials.manager import Manager, Outcome, Progress
from velodrome.trials.policy import Policy
from velodrome.trials.table import TrialTable
from velodrome.types import Goal

_MAX_HALVINGS = 6
"""A trial that runs out of memory with its batches cut into 64 parts does so for another reason."""
_MOST_MEASURED = 128
"""Trials in a measurement of how many are best trained together."""
_MEND = "then mend the objective and: velo resume"
_MEND_RUN = "then train anew with what is allowed, or, where it was the environment's fault, mend it and: velo resume"
_NO_LIMIT = 1_000_000_000


def run(
    crew: Crew, info: ObjectiveInfo, writer: Writer, name: str, target: int, options: Options,
    progress: bool | Callable[[Progress], None], *, take_over: bool = False,
) -> Study:
    """Takes control of the study, runs it, and returns it. ``info`` is what the objective says of itself."""
    line = ProgressLine() if progress is True else None
    controller = _control(writer, name, options, take_over)
    crew.share.rename(controller.study.name)
    writer.update_study(controller.study.id, trials=target)
    for reason in crew.reasons:
        writer.decision(DecisionRow(
            controller.study.id, controller.journal.seq + 1, None, controller.clock.now(), "resources", "plan", reason
        ))
    try:
        group_size = _group_size(crew, controller, target, options, show=progress is True) if info.fuses else 1
    except BaseException as error:
        controller.close(f"stopped before its first trial: {error}".partition("\n")[0], "stopped")
        raise
    context = StudyContext(
        name, controller.table.goal.metrics, controller.table.scheduler.needs_reports, str(log_dir(writer.path, name)),
        str(writer.path.parent), files_dir(writer.path, controller.study.name), controller.table.scheduler.pauses,
        group_size,
    )
    try:
        manager = Manager(
            controller, crew.runner, context, target=target, timeout_s=options.timeout_s,
            on_progress=line or (progress if callable(progress) else None), record_output=writer.artifact,
            share=crew.elastic, hung_after_s=options.hung_after_s,
        )
        outcome = manager.run()
    finally:
        if line is not None:
            line.close()
    return _conclude(controller, outcome, Study(writer.path, name, take_control))


def _group_size(crew: Crew, controller: Controller, target: int, options: Options, *, show: bool) -> int:
    """How many trials each worker is to train together; the choice is kept, and told where it may surprise."""
    space, seed = controller.table.history.space, controller.study.seed

    def measure(most: int) -> Choice:
        assert isinstance(crew.runner, Probes)
        samples = [space.sample(generator(seed, "probe", index)) for index in range(min(most, _MOST_MEASURED))]
        return crew.runner.probe(samples)

    left = max(1, target - controller.table.num_finished)
    choice = choose(
        options.fuse, executor=options.executor, target=left, workers=crew.num_workers,
        learns=learns(controller.study.sampler), measure=measure,
    )
    controller.journal.study_decision("fusion", choice.action, choice.reason)
    if show and choice.surprising:
        say(f"trials are not trained together: {choice.reason}")
    return choice.size


def _control(writer: Writer, name: str, options: Options, take_over: bool = False) -> Controller:
    """Claims a study and brings a controller up to date with its log."""
    row = writer.claim_study(name, Owner.current(), force=take_over)
    goal = Goal.parse(row.goal)
    space = Space() if options.define_by_run else Space.from_json(json.loads(row.space))
    policy = Policy(
        options.retries, breaker=options.breaker, keep_checkpoints=options.keep_checkpoints,
        halvings=_MAX_HALVINGS if options.on_oom == "halve" else 0,
    )
    table = TrialTable(History(space, goal), make_scheduler(row.scheduler, goal, seed=row.seed), policy)
    controller = Controller(row, table, make_sampler(row.sampler, seed=row.seed), writer, SystemClock())
    with Reader(writer.path) as reader:
        controller.replay(reader.events(row.id, metrics=goal.metrics if table.scheduler.needs_reports else ()))
        controller.journal.seq = reader.last_seq(row.id)
        known = [checkpoint.path for checkpoint in reader.all_checkpoints(row.id)]
    store_dir, files = writer.path.parent, files_dir(writer.path, row.name)
    checkpoints.clean(store_dir, files, known)
    controller.journal.on_discard = checkpoints.remover(store_dir, files)
    return controller


def _conclude(controller: Controller, outcome: Outcome, study: Study) -> Study:
    if outcome.signum:
        raise Interrupted(outcome.signum, study.name)
    if outcome.state == "failed":
        failed = [t.failure for t in study.trials if t.failure is not None]
        raise StudyFailedError(
            f"Study {study.name!r} was stopped: {outcome.note}",
            hint=f"velo why {study.name}  ({_MEND_RUN if study.row.objective == OBJECTIVE else _MEND} {study.name})",
            traceback=failed[0].traceback if failed else "",
        )
    return study


def take_control(store: Path, name: str) -> Controller:
    """Makes this process the controller of a study that is run by hand."""
    from velodrome.trials import events as ev

    with Reader(store) as reader:
        options = Options(**json.loads(reader.study(name).config))
    writer = Writer(store)
    try:
        controller = _control(writer, name, options)
        controller.happened(ev.Opened(_NO_LIMIT))
        controller.on_release = writer.close
    except BaseException:
        writer.close()
        raise
    return controller
