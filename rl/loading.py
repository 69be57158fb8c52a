"""A trained agent from what a training run kept: its parameters and a checkpoint become a policy that acts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from velodrome.envs.adapter import make_envs
from velodrome.envs.adapter_buffers import row_views
from velodrome.envs.adapter_errors import EnvError
from velodrome.envs.adapter_factory import EnvFactory, find_spec, resolve, takes
from velodrome.envs.adapter_spaces import ActionLayout, ObsLayout
from velodrome.envs.render import picture
from velodrome.envs.simulators.catalogue import simulator_name
from velodrome.envs.wrappers import parse_wrappers
from velodrome.errors import UsageError
from velodrome.rl.agent import restore
from velodrome.rl.algorithms import env_settings, policy_of, read_params
from velodrome.rl.settings import about
from velodrome.seeding import derive

WEIGHTS = ("best", "last")


class LoadedAgent:
    """A trained policy that acts in one environment: the environment's own observations in, its own actions out.

    ::

        env = agent.make_env()
        obs, info = env.reset(seed=1)
        agent.reset()
        while ...:
            obs, reward, terminated, truncated, info = env.step(agent.act(obs))

    Attributes:
        params: The parameters of the run that trained it.
        env: The environment it was trained in, as it was named then, or that it is to act in.
        wrappers: Names of the wrappers that the environment had.
        weights: Which ones these are: ``"best"`` or ``"last"``.
        policy: The network (``rl.agent.Agent``), to look at.
        obs_layout: How an observation becomes a row of numbers.
        action_layout: What an action is.
        is_deterministic: Whether it takes the most likely actions; it draws them otherwise.
        may_run_code: Whether ``make_env`` may import the module or file that ``env`` names.
    """

    def __init__(
        self, policy: Any, obs: ObsLayout, action: ActionLayout, *, params: Mapping[str, Any], env: str,
        wrappers: tuple[str, ...], weights: str, deterministic: bool, seed: int, may_run_code: bool,
    ) -> None:
        self.policy, self.env, self.wrappers, self.weights = policy.eval(), env, wrappers, weights
        self.params, self.is_deterministic, self.may_run_code = params, deterministic, may_run_code
        self.obs_layout, self.action_layout = obs, action
        self._rows = np.zeros((1, *obs.shape), obs.dtype)
        self._row = row_views(self._rows)[0]
        self._seed = seed
        self._drawing = torch.Generator(next(policy.parameters()).device)
        self.reset(seed)

    def reset(self, seed: int | None = None) -> None:
        """Begins an episode: what was seen before is forgotten. With a seed, actions are drawn from its stream."""
        self._player = self.policy.player(1)
        if seed is not None:
            self._drawing.manual_seed(derive(seed, "actions of play"))

    def act(self, obs: Any, mask: Any = None) -> Any:
        """The action for an observation.

        Args:
            obs: As the environment gives it.
            mask: Which actions are allowed, where it says so: ``info.get("action_mask")``.

        Raises:
            EnvError: If the observation is not of the environment's space, or the mask of another size.
        """
        try:
            self.obs_layout.write(obs, self._row)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EnvError("An observation does not fit the space that the agent was trained in",
                           given=f"{obs!r:.200}", allowed=f"shape {self.obs_layout.shape}") from error
        allowed = None if mask is None else self._mask(mask)
        actions = self._player.act(self._rows, allowed, None if self.is_deterministic else self._drawing)
        return self.action_layout.to_env(self.action_layout.to_batch(actions, 1, clip=True)[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the agent to a file, ``NAME.safetensors``, which ``velo.load_agent`` and ``velo play`` take anywhere.

        Raises:
            UsageError: If the file's name ends otherwise, or it can't be written.
        """
        from velodrome.rl.agent_file import save_agent

        save_agent(self, path)

    def make_env(self, render_mode: str | None = None) -> Any:
        """A Gymnasium environment as the agent was trained in, its wrappers included.

        Args:
            render_mode: ``"rgb_array"`` for one whose ``render`` gives frames.

        Raises:
            EnvError: If it can't be made, or not with this render mode, if its spaces are not those that the
                agent knows, or if a file from elsewhere names code for it.
        """
        if not self.may_run_code and (":" in self.env or ".py" in self.env):
            raise EnvError("The agent's file names code to make its environment with", given=self.env,
                           allowed="an environment that you name", hint="velo.load_agent(FILE, env=...), --env ID")
        target, kwargs = resolve(self.env), dict[str, Any]()
        if isinstance(target, str):
            spec = find_spec(target)
            name = None if self.wrappers else simulator_name(spec.id)
            if name is not None:
                target = f"velodrome/{name}"
                if render_mode is not None and picture(name) is None:
                    raise _no_picture(self.env, render_mode)
            elif "atari" in self.wrappers and spec.id.startswith("ALE/"):
                kwargs["frameskip"] = 1  # the wrapper skips them
        elif render_mode is not None and not takes(target, "render_mode"):
            raise _no_picture(self.env, render_mode, hint="let its __init__ take render_mode, and write render()")
        if render_mode is not None:
            kwargs["render_mode"] = render_mode
        env = EnvFactory(target, kwargs, parse_wrappers(self.wrappers))()
        modes = list(env.metadata.get("render_modes") or ())
        if render_mode is not None and render_mode not in modes:
            env.close()
            raise _no_picture(self.env, render_mode, allowed=", ".join(map(str, modes)))
        obs, action = ObsLayout.of(env.observation_space), ActionLayout.of(env.action_space)
        given, known = ((o.shape, a.kind, a.shape, a.sizes) for o, a in (
            (obs, action), (self.obs_layout, self.action_layout)))
        if given != known:
            env.close()
            raise EnvError(
                f"The agent can't act in {self.env}", given=f"observations {obs.shape}, actions {_text_of(action)}",
                allowed=f"observations {self.obs_layout.shape}, actions {_text_of(self.action_layout)}",
                hint=f"name one with these spaces; it was trained in {self.params['env']}",
            )
        return env

    def _mask(self, mask: Any) -> Any:
        parts = mask if isinstance(mask, tuple | list) and np.ndim(mask[0]) else [mask]
        flat = np.concatenate([np.asarray(part).reshape(-1) for part in parts]).astype(np.bool_)
        if flat.size != sum(self.action_layout.sizes):
            raise EnvError("The action_mask has the wrong size", given=str(flat.size),
                           allowed=f"{sum(self.action_layout.sizes)}, one for each choice of the action space")
        return flat[None]


def load_agent(
    params: Mapping[str, Any], state: Mapping[str, Any], *, weights: str = "best", deterministic: bool = True,
    seed: int = 0,
) -> LoadedAgent:
    """The agent of a training run; it acts on the CPU.

    Args:
        params: The trial's parameters: algorithm, environment and all settings.
        state: A checkpoint of the run (``training.Training.state``).
        weights: ``best``, those that were the best while training, or where there are none yet the last; or ``last``.
        deterministic: The most likely actions, or drawn ones.
        seed: Of the drawn ones.

    Raises:
        UsageError: If there are no such weights, or they don't fit the environment as it is now.
        EnvError: If the environment can't be made.
    """
    if weights not in WEIGHTS:
        raise UsageError("There are no such weights", given=repr(weights), allowed=", ".join(WEIGHTS))
    run, _ = read_params(params)
    env = str(params["env"])
    best = state["best"] if weights == "best" else None
    wrappers = env_settings(env, run)["wrappers"]
    with make_envs(env, 1, mode="sync", wrappers=wrappers) as envs:
        obs, action = envs.obs_layout, envs.action_layout
    return restored(
        params, (best or state)["policy"], obs, action, env=env, wrappers=wrappers,
        weights="last" if best is None else "best", deterministic=deterministic, seed=seed, may_run_code=True,
    )


def restored(
    params: Mapping[str, Any], saved: Mapping[str, Any], obs: ObsLayout, action: ActionLayout, **how: Any
) -> LoadedAgent:
    """The agent whose policy was kept (``agent.snapshot``); ``how`` is what else ``LoadedAgent`` is made of.

    Raises:
        UsageError: If the weights don't fit the layouts.
    """
    _, config = read_params(params)
    plain = {"device": "cpu", "precision": "float32"}  # one row at a time: nothing else would be quicker
    config = replace(config, **{name: value for name, value in plain.items() if name in about(type(config))})
    policy = policy_of(str(params["algo"]))(config, obs, action)
    try:
        restore(policy, saved)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            "The weights can't be loaded", given=f"{error!r:.200}",
            allowed="those of a policy for the environment as it is now",
        ) from error
    return LoadedAgent(policy, obs, action, params=params, **how)


def _text_of(action: ActionLayout) -> str:
    return f"{action.kind} {action.sizes or action.shape}"


def _no_picture(env: str, render_mode: str, *, allowed: str = "", hint: str = "") -> EnvError:
    return EnvError(f"{env} can't be drawn", given=f"render_mode={render_mode!r}", allowed=allowed, hint=hint)
