"""The state of one Gymnasium environment with its wrappers, so that a run that was killed goes on where it was.

Gymnasium has no call for this, so the state is taken layer by layer, and it is said plainly where that is not possible:

- an environment with ``get_state()`` and ``set_state(state)`` of its own: these;
- MuJoCo: the simulator's model and data, beside the plain attributes;
- Atari (ale-py): the emulator's state with its RNG, beside the plain attributes; not with sticky actions, since the
  emulator does not save the action that it may repeat;
- anything else that is not made of native handles: all its attributes, pickled;
- where pickling fails, or would quietly make a new environment (Gymnasium's ``EzPickle``: Box2D): the RNG alone.

The generators of its spaces belong to it as well. What is pickled is sealed (``velodrome.signing``), and a state that
this user's velodrome did not seal is never unpickled: the environment then begins a new episode.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Mapping
from typing import Any

from velodrome.envs.adapter_errors import EnvError
from velodrome.signing import seal, unseal

_STATIC = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)
"""Kinds of attributes that no step changes; they stay as the new environment made them."""

_NATIVE = frozenset({"env", "spec", "observation_space", "action_space", "_observation_space", "_action_space",
                     "model", "data", "mujoco_renderer", "ale"})
"""Attributes that are another layer, or handles that have a way of their own, or never change."""


def save_env(env: Any) -> dict[str, Any]:
    """The state as a dict that can be pickled; ``"exact"`` says whether ``load_env`` brings all of it back.

    Where it is False, ``"why"`` says why, and ``"rng"`` is all there is.
    """
    layers = _layers(env)
    base = layers[-1]
    rng = base.np_random.bit_generator.state
    try:
        native = _save_native(base)
        if native is None and any(kind.__name__ == "EzPickle" for kind in type(base).__mro__):
            why = f"{type(base).__name__} keeps its state where pickle can't see it"
            return {"exact": False, "why": why, "rng": rng}
        saved = layers[:-1] if native is not None and native["kind"] == "own" else layers
        spaces = [None if space._np_random is None else space._np_random for space in _spaces(layers)]
        buffer = io.BytesIO()
        _Pickler(buffer, layers).dump(([_attributes(layer) for layer in saved], native, spaces))
        sealed = seal(buffer.getvalue())
    except Exception as error:
        return {"exact": False, "why": f"{type(error).__name__}: {error}".splitlines()[0], "rng": rng}
    return {"exact": True, "why": "", "rng": rng, "sealed": sealed}


def load_env(env: Any, state: Mapping[str, Any]) -> None:
    """Sets an environment, made and wrapped as the saved one was, to its state; or its RNG where that is all.

    The state is one that ``checked`` has seen.
    """
    layers = _layers(env)
    base = layers[-1]
    if state["exact"]:
        data = unseal(state["sealed"])
        if data is None:
            raise EnvError("An environment's state was not sealed by this user's velodrome", hint="call checked first")
        saved, native, spaces = _Unpickler(io.BytesIO(data), layers).load()
        for layer, attributes in zip(layers, saved, strict=False):
            vars(layer).update(attributes)
        if native is not None:
            _load_native(base, native)
        for space, generator in zip(_spaces(layers), spaces, strict=True):
            space._np_random = generator
    base.np_random.bit_generator.state = state["rng"]


def checked(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A batch's state, or one of new episodes, and why, where an environment's is not to be trusted."""
    if all(unseal(env["sealed"]) is not None for env in state.get("envs", ()) if env["exact"]):
        return state
    why = "the environments' states were sealed by another user or on another machine, or changed since"
    envs = [{"exact": False, "why": why, "rng": env["rng"]} for env in state["envs"]]
    return {**state, "exact": False, "why": why, "envs": envs}


class _Pickler(pickle.Pickler):
    """Writes a reference to one of the layers as its number, so that what refers to it refers to the new one."""

    def __init__(self, file: io.BytesIO, layers: list[Any]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._numbers = {id(layer): number for number, layer in enumerate(layers)}

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbers.get(id(obj))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, layers: list[Any]) -> None:
        super().__init__(file)
        self._layers = layers

    def persistent_load(self, pid: Any) -> Any:
        return self._layers[pid]


def _layers(env: Any) -> list[Any]:
    """The environment's wrappers from the outermost, and the environment itself last."""
    layers, base = [env], env.unwrapped
    while layers[-1] is not base:
        layers.append(layers[-1].env)
    return layers


def _spaces(layers: list[Any]) -> list[Any]:
    """Every space of every layer, those inside others too; each once, in an order that depends on their kinds alone."""
    found: dict[int, Any] = {}

    def walk(space: Any) -> None:
        if id(space) in found or not hasattr(space, "_np_random"):
            return
        found[id(space)] = space
        inner = getattr(space, "spaces", ())
        for part in inner.values() if isinstance(inner, Mapping) else inner:
            walk(part)

    for layer in layers:
        walk(layer.observation_space)
        walk(layer.action_space)
    return list(found.values())


def _attributes(layer: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items()
            if name not in _NATIVE and not isinstance(value, _STATIC)}


def _save_native(base: Any) -> dict[str, Any] | None:
    """The state that the environment's attributes do not hold; None where it keeps none, as far as can be seen."""
    if callable(getattr(base, "get_state", None)) and callable(getattr(base, "set_state", None)):
        return {"kind": "own", "state": base.get_state()}
    if type(getattr(base, "data", None)).__name__ == "MjData":
        # All of it: rewards are computed from derived quantities, which lag one substep behind the positions.
        return {"kind": "mujoco", "state": base.data}
    if hasattr(base, "clone_state") and hasattr(base, "ale"):
        if base.ale.getFloat("repeat_action_probability") > 0:
            raise EnvError("Sticky actions: the emulator's state lacks the action that may be repeated")
        return {"kind": "ale", "state": base.clone_state(include_rng=True)}
    return None


def _load_native(base: Any, native: Mapping[str, Any]) -> None:
    match native["kind"]:
        case "own":
            base.set_state(native["state"])
        case "mujoco":
            base.data = native["state"]
            base.model = base.data.model
            renderer = getattr(base, "mujoco_renderer", None)
            if renderer is not None:
                renderer.model, renderer.data = base.model, base.data
        case "ale":
            base.restore_state(native["state"])
