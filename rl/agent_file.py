"""An agent in one file, to take it elsewhere: weights, normalisation and settings, without store or environment.

The file is a safetensors file: nothing in it is code, and nothing is unpickled. Its metadata has one entry,
``velodrome_agent``, JSON: the format's version, the run's parameters, and the layouts of observations and actions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.layout_json import action_from_json, action_to_json, obs_from_json, obs_to_json
from velodrome.errors import NotFoundError, UsageError, VeloError
from velodrome.rl.agent import snapshot
from velodrome.rl.algorithms import AGENT_SUFFIX, policy_of, read_params
from velodrome.rl.loading import LoadedAgent, restored

_ENTRY = "velodrome_agent"
_VERSION = 1


def save_agent(agent: LoadedAgent, path: str | os.PathLike[str]) -> Path:
    """Writes the file; what was there before is replaced as a whole, or not at all.

    Raises:
        UsageError: If the path has another ending than ``.safetensors``, or can't be written.
        EnvError: If a Dict of observations has keys that JSON has not.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix != AGENT_SUFFIX:
        raise UsageError("An agent's file has another ending", given=str(path), allowed=f"NAME{AGENT_SUFFIX}")
    kept = snapshot(agent.policy)
    about = {
        "version": _VERSION, "params": dict(agent.params), "wrappers": agent.wrappers, "weights": agent.weights,
        "obs": obs_to_json(agent.obs_layout), "action": action_to_json(agent.action_layout),
    }
    tensors = {f"policy.{name}": part.contiguous() for name, part in kept["modules"].items()}
    tensors |= {f"sight.{name}": _tensor(array) for name, array in (kept["sight"] or {}).items()}
    tensors |= {"action.low": _tensor(agent.action_layout.low), "action.high": _tensor(agent.action_layout.high)}
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        made.write_bytes(save(tensors, {_ENTRY: json.dumps(about)}))
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise UsageError("The file can't be written", given=str(path), allowed=error.strerror or str(error)) from None
    return path


def load_agent_file(
    path: str | os.PathLike[str], *, env: str | None = None, deterministic: bool = True, seed: int = 0
) -> LoadedAgent:
    """The agent in a file; it acts on the CPU, and needs no environment for that.

    Args:
        path: The file.
        env: Where it is to act if it is asked to make an environment; by default that which it was trained in, if that
            is one that is registered with Gymnasium, and not code that the file names.
        deterministic: The most likely actions, or drawn ones.
        seed: Of the drawn ones.

    Raises:
        NotFoundError: If there is no such file.
        UsageError: If it holds no agent, or not a whole one.
    """
    about, tensors = _read(Path(path))
    try:
        if (version := int(about["version"])) > _VERSION:
            raise UsageError("The file was written by a newer velodrome", given=f"{path}: version {version}",
                             allowed=f"up to {_VERSION}", hint="update velodrome")
        parts = {name: {key.removeprefix(name): part for key, part in tensors.items() if key.startswith(name)}
                 for name in ("policy.", "sight.")}
        bounds = (tensors[f"action.{name}"].numpy() for name in ("low", "high"))
        obs, action = obs_from_json(about["obs"]), action_from_json(about["action"], *bounds)
        _check_sizes(about["params"], parts["policy."], obs, action)
        return restored(
            about["params"], {"modules": parts["policy."], "sight": _arrays(parts["sight."])}, obs, action,
            env=env or str(about["params"]["env"]), wrappers=tuple(map(str, about["wrappers"])),
            weights=str(about["weights"]), deterministic=deterministic, seed=seed, may_run_code=env is not None,
        )
    except VeloError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UsageError("The file holds no whole agent", given=f"{path}: {error!r:.200}",
                         allowed="a file that velo export made") from error


def _check_sizes(
    params: Mapping[str, Any], weights: Mapping[str, Tensor], obs: ObsLayout, action: ActionLayout
) -> None:
    """Raises UsageError unless the settings ask for just these weights; takes no memory, whatever they ask for."""
    _, config = read_params(params)
    with torch.device("meta"):
        parts = policy_of(str(params["algo"]))(config, obs, action).state_dict()
    wanted = {name: tuple(part.shape) for name, part in parts.items()}
    given = {name: tuple(part.shape) for name, part in weights.items()}
    for name in sorted({*wanted, *given}):
        if wanted.get(name) != given.get(name):
            raise UsageError("The weights can't be loaded", given=f"{name}: {given.get(name, 'missing')}",
                             allowed=f"{wanted.get(name, 'no such weights')}, by the settings in the file",
                             hint="write the file anew: velo export STUDY")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What the file says of itself, and its arrays."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[_ENTRY])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except FileNotFoundError:
        raise NotFoundError("There is no such file", given=str(path), hint="velo export STUDY makes one") from None
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise UsageError("The file holds no agent", given=f"{path}: {error!r:.200}",
                         allowed="a file that velo export made") from None


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
    return {name: part.numpy() for name, part in tensors.items()} or None
