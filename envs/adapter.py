"""``make_envs``: any Gymnasium environment as an ``EnvBatch``.

from velodrome.envs.adapter import make_envs

envs = make_envs("CartPole-v1", 8, seed=1)                  # an id that is registered
envs = make_envs("my_package:MyEnv-v0", 8, seed=1)          # after importing my_package
envs = make_envs(MyEnv, 8, seed=1, kwargs={"size": 5})      # a class or function of yours
envs = make_envs("my_env.py:MyEnv", 8, mode="process")      # a class in a file, in worker processes
envs = make_envs("ALE/Pong-v5", 8, wrappers=["atari"])
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from velodrome.envs.adapter_errors import EnvError, missing_module, raised
from velodrome.envs.adapter_factory import EnvFactory, find_spec, resolve, takes
from velodrome.envs.adapter_local import LocalStepper
from velodrome.envs.env_batch import EnvBatch, Stepper, env_seed
from velodrome.envs.wrappers import Wrapper, parse_wrappers
from velodrome.errors import nearest

if TYPE_CHECKING:
    from velodrome.envs.simulators.simulator import Simulator

Mode = Literal["auto", "sync", "process", "vector", "envpool"]

MODES = {
    "auto": "our simulator or the id's vector environment where there is one; processes where steps are slow; sync",
    "sync": "one after the other in this process",
    "process": "worker processes over shared memory",
    "vector": "the vector environment that the id was registered with",
    "envpool": "EnvPool, if it is installed",
}

SLOW_STEP_S = 400e-6
"""From so much time a step on, ``auto`` takes worker processes: a step of a batch costs 0.1 to 0.2 ms through them, and
the cores they take are the learner's, too."""

_PROBE_STEPS, _PROBE_S = 50, 0.1


def make_envs(
    env: str | Callable[..., Any], num_envs: int = 1, *, seed: int | None = None, mode: Mode = "auto",
    wrappers: Sequence[str | Wrapper] | str = (), kwargs: Mapping[str, Any] | None = None, groups: int = 1,
    num_workers: int | None = None, info_keys: Sequence[str] = (), clip_actions: bool = True, check_nan: bool = False,
    step_timeout_s: float = 60.0, start_timeout_s: float = 120.0, learns_meanwhile: bool = False,
) -> EnvBatch:
    """N environments under one rule (``env_batch``).

    Args:
        env: An id, ``"module:Name-v0"``, ``"file.py:ClassName"``, or a class or function that makes an environment.
        num_envs: N.
        seed: For the first reset; environment i gets its own, derived from it. None: they seed themselves.
        mode: One of ``MODES``. ``sync`` and ``process`` give the same results, whatever the number of workers.
        wrappers: Names (``wrappers``) or functions, the innermost first.
        kwargs: Arguments of the environment.
        groups: 2 lets workers step one half while the policy computes for the other.
        num_workers: Processes; None for one a core, as far as there are environments.
        info_keys: Numbers in the infos to keep, as ``Step.infos``.
        clip_actions: Whether a Box's actions are clipped to its bounds on their way to the environment.
        check_nan: Whether every observation and reward is looked at for NaN and infinity.
        step_timeout_s: A worker process that does not answer a step for longer is replaced.
        start_timeout_s: The same for making and resetting environments.
        learns_meanwhile: Whether the caller has work to do between ``send`` and ``receive``: ``auto`` then takes a
            worker process for a single slow environment, too.

    Raises:
        EnvError: An unknown id, a missing library, an unsupported space, an error of the environment's own code.
        EnvLostError: A worker process dies or hangs as it starts.
    """
    if mode not in MODES:
        raise EnvError("There is no such mode", given=repr(mode), allowed=", ".join(MODES), hint=nearest(mode, MODES))
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise EnvError("There can't be so many environments", given=repr(num_envs), allowed="1 or more")
    target = resolve(env)
    given = dict(kwargs or {})
    factory = EnvFactory(target, given, parse_wrappers(wrappers))
    names = wrappers.split() if isinstance(wrappers, str) else list(wrappers)
    keys = tuple(info_keys)
    stepper = None
    if mode == "envpool":
        stepper = _envpool(factory, num_envs, seed, keys)
    elif mode in ("auto", "vector"):
        stepper = _whole_batch(factory, names, num_envs, groups, keys, only=mode == "vector")
    if stepper is None:
        if _is_atari(target) and "atari" in names:
            factory = EnvFactory(target, {"frameskip": 1, **given}, factory.wrappers)
        if mode == "auto":
            mode = "process" if _pays_workers(factory, num_envs, learns_meanwhile) else "sync"
        if mode == "process":
            from velodrome.envs.subprocess_stepper import ProcessStepper

            stepper = ProcessStepper(
                factory, num_envs, num_workers=num_workers or num_cores(), num_groups=groups, info_keys=keys,
                step_timeout_s=step_timeout_s, start_timeout_s=start_timeout_s,
            )
        else:
            stepper = LocalStepper(factory, num_envs, keys)
    return EnvBatch(factory.name, stepper, num_groups=groups, seed=seed, clip_actions=clip_actions, check_nan=check_nan)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole_batch(
    factory: EnvFactory, wrappers: Sequence[str | Wrapper], num_envs: int, num_groups: int, info_keys: tuple[str, ...],
    *, only: bool,
) -> Stepper | None:
    """A stepper over something that is made as a batch; None where there is none, or not with these wrappers.

    Raises:
        EnvError: If ``only`` such a one will do.
    """
    from velodrome.envs.simulators.catalogue import simulator, simulator_name

    target = factory.target
    spec = find_spec(target) if isinstance(target, str) else None
    if spec is None:
        return _no_vector(factory, "it is a class or function", only)
    name = simulator_name(spec.id)
    if name and not wrappers and not info_keys and _takes_all(simulator(name), factory.kwargs):
        from velodrome.envs.adapter_simulators import SimulatorStepper

        return SimulatorStepper(name, num_envs, num_groups=num_groups, **factory.kwargs)
    if spec.vector_entry_point is None:
        return _no_vector(factory, "it was registered without one", only)
    from velodrome.envs.adapter_vector import VectorOptions, VectorStepper

    options, kwargs = VectorOptions(), dict(factory.kwargs)
    if _is_atari(target) and list(wrappers) == ["atari"]:
        options = VectorOptions(clip_reward=(-1.0, 1.0), episodic_life=True)
        kwargs = {"reward_clipping": False, "noop_max": 30, **kwargs}
    elif wrappers:
        return _no_vector(factory, "it can't be wrapped", only)
    elif _is_atari(target) and not only:
        return None  # its images are preprocessed, so it is another environment than the single one
    env = _make_vec(target, spec, num_envs, kwargs)
    if env.metadata.get("autoreset_mode") is not None and not only and _mode_name(env) == "NextStep":
        env.close()
        return None
    if num_groups > 1:
        env.close()
        return _no_vector(factory, "it steps as a whole, so groups must be 1", only)
    return VectorStepper(env, f"{num_envs} in {type(env.unwrapped).__name__}", info_keys, options)


def _takes_all(simulator: Simulator, kwargs: Mapping[str, Any]) -> bool:
    """Whether a simulator can be made with all these arguments."""
    return set(kwargs) <= {"max_episode_steps", *(simulator.options or ())}


def _make_vec(env_id: Any, spec: Any, num_envs: int, kwargs: dict[str, Any]) -> Any:
    """The vector environment of an id, in same-step mode where it can be asked to."""
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    try:
        entry = spec.vector_entry_point
        creator = entry if callable(entry) else load_env_creator(entry)
        mode = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP} if takes(creator, "autoreset_mode") else {}
        return gym.make_vec(spec.id, num_envs, vectorization_mode="vector_entry_point", **{**mode, **kwargs})
    except Exception as error:
        raise missing_module(env_id, error) or raised(f"making the vector environment of {env_id}", error) from error


def _mode_name(env: Any) -> str:
    mode = env.metadata["autoreset_mode"]
    return str(getattr(mode, "value", mode))


def _no_vector(factory: EnvFactory, why: str, only: bool) -> Stepper | None:
    """None, or the error where nothing else will do."""
    if only:
        raise EnvError(f"{factory.name} has no vector environment: {why}", given="mode='vector'",
                       allowed="auto, sync, process", hint="mode='auto'")
    return None


def _envpool(factory: EnvFactory, num_envs: int, seed: int | None, info_keys: tuple[str, ...]) -> Stepper:
    from velodrome.envs.adapter_envpool import EnvPoolEnv
    from velodrome.envs.adapter_vector import VectorStepper

    if not isinstance(factory.target, str) or factory.wrappers:
        raise EnvError("EnvPool makes its own environments", given=factory.name, allowed="an id, without wrappers",
                       hint="options of EnvPool's own go into kwargs")
    first = env_seed(seed if seed is not None else time.time_ns(), 0)
    env = EnvPoolEnv(factory.target, num_envs, first, factory.kwargs)
    return VectorStepper(env, f"{num_envs} in EnvPool", info_keys)


def _is_atari(target: Any) -> bool:
    return isinstance(target, str) and target.rpartition(":")[2].startswith("ALE/")


def _pays_workers(factory: EnvFactory, num_envs: int, learns_meanwhile: bool) -> bool:
    """Whether a step of one environment takes so long that worker processes pay, by a short trial of one."""
    if num_cores() == 1 or (num_envs == 1 and not learns_meanwhile):
        return False
    env = factory(1)
    try:
        return step_time_s(env) >= SLOW_STEP_S
    finally:
        env.close()


def draw_action(env: Any, info: Mapping[str, Any]) -> Any:
    """A random action of one environment, an allowed one where its last info has a mask."""
    mask = info.get("action_mask")
    if mask is None or not hasattr(env.action_space, "n"):
        return env.action_space.sample()
    return env.action_space.sample(mask=np.asarray(mask, np.int8).reshape(-1))


def step_time_s(env: Any, num_steps: int = _PROBE_STEPS, limit_s: float = _PROBE_S) -> float:
    """What one step of one environment with random actions takes, resets included: the median over tens of steps.

    The median, so that a machine busy with something else for a moment does not make an environment slow.
    """
    times: list[float] = []
    try:
        _, info = env.reset(seed=0)
        env.action_space.seed(0)
        began = last = time.perf_counter()
        while len(times) < num_steps and last - began < limit_s:
            _, _, terminated, truncated, info = env.step(draw_action(env, info))
            if terminated or truncated:
                _, info = env.reset()
            now = time.perf_counter()
            times.append(now - last)
            last = now
        return statistics.median(times)
    except Exception as error:
        raise raised("a first trial of its steps", error) from error
