"""A study before its first trial: what is asked for is checked, named and written to the store."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from velodrome.arguments import check_texts, whole
from velodrome.errors import SpaceError, StudyExistsError, UsageError, nearest
from velodrome.options import Options
from velodrome.records import DecisionRow, StudyRow
from velodrome.rl.algorithms import OBJECTIVE, run_name
from velodrome.search.default_sampler import SamplerChoice
from velodrome.search.history import History
from velodrome.search.registry import learns, make_sampler, make_scheduler
from velodrome.search.sampler import Exhausted
from velodrome.search.space import Space
from velodrome.seeding import generator
from velodrome.store.writer import Writer
from velodrome.trials.executor import ObjectiveInfo
from velodrome.types import Goal

_MAX_SEED = 1 << 63


def create(writer: Writer, row: StudyRow, default: str, chosen: SamplerChoice) -> StudyRow:
    """The study in the store, under its name or else the first free one after the default's; with why it has its
    sampler, where that was not named.
    """
    made = _created(writer, row, default)
    if chosen.reason:
        writer.decision(DecisionRow(made.id, 0, None, made.created_at, "sampler", chosen.sampler, chosen.reason))
        writer.commit(durable=True)
    return made


def _created(writer: Writer, row: StudyRow, default: str) -> StudyRow:
    if row.name:
        _check_name(row.name)
        return row._replace(id=writer.create_study(row))
    for count in range(1, 1_000_000):
        named = row._replace(name=default if count == 1 else f"{default}-{count}")
        try:
            return named._replace(id=writer.create_study(named))
        except StudyExistsError:
            continue
    raise StudyExistsError("Every default name is taken", given=default, hint="give a --name")


def check_trials(trials: int) -> None:
    """Refuses a number of trials that is none."""
    if whole("trials", trials, None) < 1:
        raise UsageError("A sweep needs trials", given=f"trials={trials}", allowed="1 or more")


def check_kinds(space: Space | None, **given: str | None) -> None:
    """Refuses a space that is none, and what is no text but ought to be."""
    if space is not None and not isinstance(space, Space):
        raise SpaceError("This is no search space", given=repr(space), allowed="velo.Space(lr=velo.Float(1e-5, 0.1))",
                         hint="velo.Space(...) around it" if isinstance(space, dict) else "")
    check_texts(**given)


def pick_seed(seed: int | None) -> int:
    """The study's seed: what was given, if the store can keep it, else one that is drawn."""
    if seed is None:
        return int.from_bytes(os.urandom(4), "little")
    if not -_MAX_SEED <= whole("seed", seed, None) < _MAX_SEED:
        raise UsageError("A seed is too large to be kept", given=str(seed), allowed="whole numbers of 64 bits")
    return int(seed)


def check_search(sampler: str, scheduler: str, goal: Goal, seed: int, space: Space | None) -> None:
    """Refuses a scheduler or a sampler that does not do, or a space that holds nothing, before there is a study."""
    planned = make_scheduler(scheduler, goal, seed=seed)
    if hasattr(planned, "check"):
        planned.check(space if space is not None else Space())
    made, rng = make_sampler(sampler, seed=seed), generator(seed, "suggest", 0)
    history = History(space if space is not None else Space(), goal)
    if space is not None and hasattr(made, "check"):
        made.check(space)
    if learns(sampler):
        history.space.sample(rng)
    else:
        with suppress(Exhausted):
            made.suggest(0, history, rng)


def known_env(env: str) -> str:
    """The environment's name as it is found from any folder.

    Raises:
        EnvError: If there is none of that name, with the nearest ones.
    """
    check_texts(env=env)
    if ".py" in env:
        path, colon, cls = env.rpartition(":") if ".py:" in env else (env, "", "")
        if not Path(path).is_file():
            from velodrome.envs.adapter_errors import EnvError

            raise EnvError("There is no such file", given=path, allowed="FILE.py:ClassName",
                           hint=nearest(path, [str(near) for near in Path(path).parent.glob("*.py")]))
        return f"{Path(path).resolve()}{colon}{cls}"
    from velodrome.envs.adapter_factory import find_spec

    find_spec(env)
    return env


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise UsageError(
            "A study's name does not do", given=repr(name),
            allowed="letters, digits, '.', '_' and '-', not more than 100, the first a letter or digit",
        )


def check_space(row: StudyRow, info: ObjectiveInfo, options: Options) -> None:
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


def default_name(info: ObjectiveInfo, space: Space | None) -> str:
    """The name of a study that was given none: its file's or function's, of a training run the agent's."""
    stem = Path(info.file).stem if info.file and not info.file.startswith("<") else info.name
    if info.ref == OBJECTIVE and space is not None:
        stem = run_name(space)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:90] or "study"


def config_of(options: Options, *, define_by_run: bool) -> str:
    """The options as the store keeps them."""
    return json.dumps({**asdict(options), "define_by_run": define_by_run})


def space_json(space: Space | None) -> str:
    """The space as the store keeps it; empty for a define-by-run objective."""
    return json.dumps((space or Space()).to_json())
