"""``check_env``: does an environment keep Gymnasium's contract, and if not, what is wrong and in which line?

Every check is a function that takes the environment under test and yields findings; one that makes the rest senseless
raises ``_Stop`` after its last.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cloudpickle
import numpy as np

from velodrome.envs.adapter import draw_action
from velodrome.envs.adapter_errors import EnvError, user_traceback
from velodrome.envs.adapter_factory import EnvFactory
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.adapter_state import save_env
from velodrome.envs.check_values import difference, why_not_in

NUM_STEPS = 300
"""Random steps that the environment is watched for."""
_SEED = 7
OK, WARN, BAD = "ok", "warn", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        status: ``"ok"``, ``"warn"`` (can be lived with) or ``"bad"`` (results would be wrong, or nothing runs).
        name: What was checked.
        detail: What was found.
        where: ``file.py:12``, the line of the environment's code; empty where there is none.
        advice: What to do.
    """

    status: str
    name: str
    detail: str
    where: str = ""
    advice: str = ""
    traceback: str = ""


class _Stop(Exception):  # noqa: N818 - it is no error
    """Nothing after this check makes sense."""


def check_env(factory: EnvFactory) -> list[Finding]:
    """All findings, in the order of the checks; an environment without a bad one can be trained on."""
    try:
        env = factory.make_bare()
    except EnvError as error:
        return [Finding(BAD, "made", error.what, error.place, error.hint, error.traceback)]
    found = [Finding(OK, "made", type(env.unwrapped).__name__)]
    try:
        for check in (_spaces, _reset, _seeding, _steps, _after_the_end, _same_again, _resuming):
            is_seeded = not any(finding.name == "seeding" and finding.status == BAD for finding in found)
            if is_seeded or check not in (_after_the_end, _same_again):
                found += check(env, factory)
    except _Stop as stop:
        found += stop.args
    try:
        env.close()
    except Exception as error:
        found.append(_raised("close", error))
    return found


def _spaces(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    for kind, layout in (("observation_space", ObsLayout.of), ("action_space", ActionLayout.of)):
        space = getattr(env, kind, None)
        if space is None or not hasattr(space, "contains"):
            raise _Stop(Finding(BAD, kind, f"is {space!r}, which is no Gymnasium space", line_of(env, "__init__"),
                                f"set self.{kind} = gymnasium.spaces... in __init__"))
        try:
            layout(space)
        except EnvError as error:
            raise _Stop(Finding(BAD, kind, f"{error.what}: {error.given}", line_of(env, "__init__"),
                                f"supported: {error.allowed}")) from None
        yield Finding(OK, kind, str(space))


def _reset(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    result = _try("reset", lambda: env.reset(seed=_SEED), env)
    if not isinstance(result, tuple) or len(result) != 2:
        raise _Stop(Finding(BAD, "reset", f"returned {_short(result)}, not (observation, info)", line_of(env, "reset"),
                            "return observation, {}"))
    if not isinstance(result[1], Mapping):
        raise _Stop(Finding(BAD, "reset", f"its info is a {type(result[1]).__name__}, not a dict",
                            line_of(env, "reset"), "return observation, {}"))
    why = why_not_in(env.observation_space, result[0])
    if why:
        raise _Stop(Finding(BAD, "reset", f"its observation is not in observation_space: {why}", line_of(env, "reset"),
                            "return what the space says, or change the space"))
    yield Finding(OK, "reset", "(observation, info), the observation in its space")


def _seeding(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    first, second = (_try("reset", lambda: env.reset(seed=_SEED), env)[0] for _ in range(2))
    other = difference(first, second)
    if other:
        yield Finding(BAD, "seeding", f"reset with the same seed twice gave two observations: {other}",
                      line_of(env, "reset"), "call super().reset(seed=seed) first, and draw from self.np_random alone")
    else:
        yield Finding(OK, "seeding", "the same seed gives the same first observation")


def _steps(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    """Watches random steps; the first thing that is wrong ends them."""
    _, info = env.reset(seed=_SEED)
    env.action_space.seed(_SEED)
    lengths, length = [], 0
    for number in range(1, NUM_STEPS + 1):
        action = draw_action(env, info)
        result = _try(f"step {number}", partial(env.step, action), env)
        wrong = _wrong_with(env, result)
        if wrong:
            detail = f"step {number}, action {_short(action)}: {wrong[0]}"
            raise _Stop(Finding(BAD, "step", detail, line_of(env, "step"), wrong[1]))
        length += 1
        info = result[4]
        if result[2] or result[3]:
            lengths.append(length)
            length = 0
            _, info = _try("reset after an episode", env.reset, env)
    yield Finding(OK, "step", f"{NUM_STEPS} random steps: observation, reward, terminated, truncated, info are right")
    if lengths:
        yield Finding(OK, "episodes", f"{len(lengths)} ended, of {min(lengths)} to {max(lengths)} steps")
    else:
        yield Finding(WARN, "episodes", f"none ended in {NUM_STEPS} random steps", "",
                      "make sure that they do: return truncated=True, or wrappers=['time_limit:1000']")


def _wrong_with(env: Any, result: Any) -> tuple[str, str] | None:
    """What is wrong with a step's result, and what to do."""
    if not isinstance(result, tuple) or len(result) != 5:
        what = f"a tuple of {len(result)}" if isinstance(result, tuple) else _short(result)
        return f"returned {what}", "return observation, reward, terminated, truncated, info"
    obs, reward, terminated, truncated, info = result
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            return f"{name} is {_short(flag)}, a {type(flag).__name__}, not a bool", f"{name} = bool(...)"
    if (isinstance(reward, np.ndarray) and reward.ndim) or not isinstance(reward, float | int | np.number | np.ndarray):
        return f"the reward is {_short(reward)}, a {type(reward).__name__}, not a number", "reward = float(...)"
    if not math.isfinite(float(reward)):
        return f"the reward is {reward}", "look at what it divides by"
    if not isinstance(info, Mapping):
        return f"info is a {type(info).__name__}, not a dict", "return ..., {}"
    why = why_not_in(env.observation_space, obs)
    if why:
        return f"the observation is not in observation_space: {why}", "return what the space says, or change the space"
    mask = info.get("action_mask")
    sizes = ActionLayout.of(env.action_space).sizes
    if mask is not None and sizes:
        parts = mask if isinstance(mask, tuple) else (mask,)
        size = sum(np.size(part) for part in parts)
        if size != sum(sizes):
            return f"info['action_mask'] has {size} values, not {sum(sizes)}", "one for each choice of the action space"
    return None


def _after_the_end(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    """A step after an episode's end means nothing, but it must not spoil the next episode."""
    _, info = env.reset(seed=_SEED)
    for _ in range(NUM_STEPS):
        _, _, terminated, truncated, info = env.step(draw_action(env, info))
        if terminated or truncated:
            break
    else:
        return
    try:
        with warnings.catch_warnings(action="ignore"):
            env.step(draw_action(env, info))
    except Exception:
        said = "raises"
    else:
        said = "is let through"
    after = _try("reset after a step too many", lambda: env.reset(seed=_SEED), env)[0]
    again = difference(after, env.reset(seed=_SEED)[0])
    if again:
        yield Finding(BAD, "after the end", f"a step too many changes the next episode: {again}", line_of(env, "reset"),
                      "set everything anew in reset")
    else:
        yield Finding(OK, "after the end", f"a step too many {said}, and the next reset is clean")


def _same_again(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    """Two environments, the same seed, the same actions: the same episode."""
    twin = factory.make_bare()
    try:
        _, info = env.reset(seed=_SEED)
        twin.reset(seed=_SEED)
        env.action_space.seed(_SEED)
        for number in range(1, 51):
            action = draw_action(env, info)
            mine, its = env.step(action), twin.step(action)
            info = mine[4]
            other = difference(mine[0], its[0]) or ("" if mine[1:4] == its[1:4] else f"{mine[1:4]} and {its[1:4]}")
            if other:
                yield Finding(BAD, "determinism", f"two environments with one seed differ in step {number}: {other}",
                              line_of(env, "step"), "draw from self.np_random alone; share no state between objects")
                return
            if mine[2] or mine[3]:
                break
    finally:
        twin.close()
    yield Finding(OK, "determinism", "two environments with one seed and the same actions agree")


def _resuming(env: Any, factory: EnvFactory) -> Iterator[Finding]:
    env.reset(seed=_SEED)
    state = save_env(env)
    if state["exact"]:
        yield Finding(OK, "resume", "its state can be saved: a run that was killed goes on exactly")
    else:
        yield Finding(WARN, "resume", f"its state can't be saved ({state['why']}): a resumed run begins a new episode",
                      "", "give the class get_state() and set_state(state)")
    try:
        cloudpickle.dumps(factory)
    except Exception as error:
        yield Finding(WARN, "worker processes", f"can't be sent to one: {type(error).__name__}: {error}", "",
                      "name the environment by an id or file.py:ClassName, or make it of arguments that can be pickled")
    else:
        yield Finding(OK, "worker processes", "can be made in one")


def line_of(env: Any, method: str) -> str:
    """``file.py:12``: where a method of the environment's class returns, or begins if it returns in several places."""
    function = getattr(type(env.unwrapped), method, None)
    try:
        lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]  # None is a TypeError, caught here
        file = inspect.getsourcefile(function)  # type: ignore[arg-type]  # the same
    except (TypeError, OSError):
        return ""
    tree = ast.parse(textwrap.dedent("".join(lines)))
    returns = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
    return f"{file}:{first + returns[0] - 1 if len(returns) == 1 else first}"


def _try(doing: str, call: Callable[[], Any], env: Any) -> Any:
    try:
        return call()
    except Exception as error:
        raise _Stop(_raised(doing, error)) from error


def _raised(doing: str, error: Exception) -> Finding:
    text, place = user_traceback(error)
    return Finding(BAD, doing.split()[0], f"{doing} raised {type(error).__name__}: {error}", place, "", text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
