"""The algorithms by name, and a training run as parameters of a trial. No torch here: the command line reads it.

A run is a trial whose parameters are all its settings: ``algo``, ``env``, ``steps``, those of ``RunConfig`` and those
of the algorithm's config. Fixed ones are choices of one option.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from velodrome.errors import UsageError, nearest
from velodrome.rl import settings
from velodrome.rl.crossq_config import CrossQConfig
from velodrome.rl.dqn_config import DQNConfig
from velodrome.rl.ppo_config import PPOConfig
from velodrome.rl.presets import preset
from velodrome.rl.sac_config import SACConfig
from velodrome.rl.setting_domains import is_domain, read_domain
from velodrome.rl.settings import setting
from velodrome.rl.td7_config import TD7Config
from velodrome.search.domains import Choice, Domain, Float, Int
from velodrome.search.space import Space
from velodrome.types import ParamValue

OBJECTIVE = "velodrome.rl.training:train"
"""The objective of every training run."""
GOAL = "maximize return"
AGENT_SUFFIX = ".safetensors"
"""What ends so is an agent's file (``agent_file``), everything else a study's name."""

ALGORITHMS: dict[str, type[Any]] = {"ppo": PPOConfig, "dqn": DQNConfig, "sac": SACConfig, "crossq": CrossQConfig,
                                    "td7": TD7Config}
"""Each algorithm's config."""

_MODULES = {"ppo": "on_policy", "dqn": "dqn", "sac": "sac", "crossq": "crossq", "td7": "td7"}
"""Where in this folder each algorithm's ``learning`` and ``make_policy`` are."""

_LEARNS_MEANWHILE = ("dqn", "sac", "crossq", "td7")
"""What learns from a replay buffer does so while the environments step."""

_IMAGES = ("ALE", "MinAtar")
"""Environments' namespaces with images."""

_MAX_STEPS = 10**12


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Settings of a run that are no algorithm's."""

    eval_episodes: int = setting(20, "Episodes of the evaluation at the end.", Int(1, 100_000))
    eval_every: int = setting(0, "Evaluate on the way every so many steps; 0 for at the end alone.",
                              Int(0, _MAX_STEPS))
    stop_return: float = setting(1e9, "Stop when an evaluation on the way reaches this return.", Float(-1e9, 1e9))
    checkpoint_s: float = setting(10.0, "Seconds from one checkpoint to the next; 0 for one after every update.",
                                  Float(0.0, 1e9))
    wrappers: str = setting(
        "auto", "atari: 4 frames skipped and stacked, grey 84x84, rewards to +-1, lives end episodes. auto: for ALE/.",
        Choice("auto", "none", "atari"))
    mode: str = setting("auto", "How environments are stepped (make_envs); auto for what is quickest here.",
                        Choice("auto", "sync", "process", "vector", "envpool"))
    rollbacks: int = setting(0, "Times a diverged run goes back to its last checkpoint, with half the learning rate.",
                             Int(0, 100))


def training_space(
    algo: str, env: str, steps: int, given: Mapping[str, Any] | Iterable[str] = (), *, search: bool = False
) -> Space:
    """The space of a training run.

    Args:
        algo: A name of ``ALGORITHMS``.
        env: The environment's id.
        steps: Environment steps.
        given: Settings by name, or as ``name=value`` texts. The environment's preset comes before them.
        search: Whether settings are searched: those whose value is a domain (``setting_domains``), the others as they
            are in the preset; where no value is one, all that are not given, each in its default domain, and the preset
            is left aside.

    Raises:
        UsageError: For an algorithm, setting or value that there is not.
    """
    config = config_of(algo)
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= _MAX_STEPS:
        raise UsageError("A run needs steps", given=f"steps={steps!r}", allowed=f"1 to {_MAX_STEPS:,}")
    run_names = settings.about(RunConfig)
    known = {**run_names, **settings.about(config)}
    texts = given if isinstance(given, Mapping) else split_settings(given)
    for name in texts:
        if name not in known:
            raise settings.unknown(name, known)
    of_run = settings.read(RunConfig, {k: v for k, v in texts.items() if k in run_names})
    several = [k for k, v in texts.items() if isinstance(v, str) and is_domain(v)]
    if several and not search:
        raise UsageError("A run has one value for each setting", given=f"{several[0]}={texts[several[0]]}",
                         hint=f"velo sweep {algo} --env {env} searches among several")
    searched = {k: read_domain(k, v, known[k]) for k, v in texts.items()
                if search and k not in run_names and is_domain(v)}
    of_algo = settings.read(config, {k: v for k, v in texts.items() if k not in run_names and k not in searched})
    searches_all = search and not searched
    fixed = of_algo if searches_all else {**preset(algo, env), **of_algo}
    if not search:
        config(**fixed)  # do they go together?
    domains: dict[str, Domain] = {"algo": Choice(algo), "env": Choice(env), "steps": Choice(steps)}
    domains |= settings.space_of(config, fixed, search=searches_all)
    domains |= searched
    domains |= settings.space_of(RunConfig, of_run)
    return Space(domains)


def resources_of(space: Space, given: str, *, at_once: int = 1) -> str:
    """What a run asks for: as given, and where that says nothing of GPUs, one if there is one and it pays.

    A GPU pays for images, and where it is quicker than cores with so many runs ``at_once``. Environments of the user's
    own may have images, too; that is not known here.
    """
    (algo, *_), (env, *_), devices = (_options(space, name) for name in ("algo", "env", "device"))
    namespace, slash, _ = env.rpartition(":")[2].partition("/")
    pays_for = getattr(config_of(algo), "gpu_pays_for", 0)
    pays = bool(slash and namespace in _IMAGES) or (pays_for > 0 and _num_sharing(at_once) < pays_for)
    if "gpu" in given or not ("cuda" in devices or ("auto" in devices and pays)):
        return given
    return f"{given},gpu=auto" if given else "gpu=auto"


def _options(space: Space, name: str) -> list[str]:
    """What a setting of a run may be, one of several."""
    domain = space.domains[name]
    assert isinstance(domain, Choice)
    return [str(option) for option in domain.options]


def _num_sharing(at_once: int) -> int:
    """How many of so many runs would share a GPU of this machine, if no more ran than it has cores."""
    from velodrome.resources.inventory import Inventory

    inventory = Inventory.detect()
    return math.ceil(min(at_once, inventory.cpus) / max(1, len(inventory.gpus)))


def run_name(space: Space) -> str:
    """What to call a study of a run: ``ppo-CartPole-v1``."""
    (algo, *_), (env, *_) = (_options(space, name) for name in ("algo", "env"))
    return f"{algo}-{env.rpartition('/')[2].rpartition(':')[2]}"


def read_params(params: Mapping[str, Any]) -> tuple[RunConfig, Any]:
    """The run's and the algorithm's config from a trial's parameters.

    Raises:
        UsageError: If they don't fit.
    """
    config = config_of(str(params["algo"]))
    run_names = settings.about(RunConfig)
    of_run = {k: v for k, v in params.items() if k in run_names}
    of_algo = {k: v for k, v in params.items() if k not in run_names and k not in ("algo", "env", "steps")}
    return settings.checked(RunConfig, of_run), settings.checked(config, of_algo)


def config_of(algo: str) -> type[Any]:
    """The algorithm's config.

    Raises:
        UsageError: If there is no such algorithm.
    """
    if algo not in ALGORITHMS:
        raise UsageError("There is no such algorithm", given=repr(algo), allowed=", ".join(ALGORITHMS),
                         hint=nearest(algo, ALGORITHMS))
    return ALGORITHMS[algo]


def env_settings(env: str, run: RunConfig) -> dict[str, Any]:
    """What ``make_envs`` is given beside the id: the run's ``mode`` and ``wrappers``."""
    is_atari = env.rpartition(":")[2].startswith("ALE/")
    name = ("atari" if is_atari else "none") if run.wrappers == "auto" else run.wrappers
    return {"mode": run.mode, "wrappers": () if name == "none" else (name,)}


def learns_meanwhile(algo: str) -> bool:
    """Whether the algorithm learns while its environments step, so that a slow one is worth a process of its own."""
    return algo in _LEARNS_MEANWHILE


def learning_of(algo: str) -> Callable[..., Any]:
    """What makes the algorithm's ``Learning`` (``training``)."""
    made: Callable[..., Any] = import_module(f"velodrome.rl.{_MODULES[algo]}").learning
    return made


def policy_of(algo: str) -> Callable[..., Any]:
    """What makes the algorithm's policy (``agent.Agent``), of a config and the layouts of observations and actions."""
    made: Callable[..., Any] = import_module(f"velodrome.rl.{_MODULES[algo]}").make_policy
    return made


def split_settings(texts: Iterable[str]) -> dict[str, ParamValue]:
    """Names and values of ``name=value`` texts."""
    values: dict[str, ParamValue] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("A setting is written NAME=VALUE", given=repr(text), allowed="such as -p lr=1e-3")
        values[name.strip()] = value.strip()
    return values
