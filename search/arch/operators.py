"""Operators by name: what stands at a node of a net, and how its output's shape and its cost are known beforehand.

An operator of one's own is a function from the shape of its input (without the batch) to a module::

    @velo.register_op("gated")
    def gated(shape, *, width=32):
        return Gated(shape[-1], width)

Its keyword arguments are its settings. What it costs is measured once for each shape and setting on torch's meta
device, where nothing is allocated or computed. The built-in operators' arithmetic is in ``shapes`` and needs no torch.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from velodrome.errors import SpaceError, nearest
from velodrome.types import ParamValue

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
"""Of one example, without the batch: ``(channels, height, width)``, ``(tokens, features)``, ``(features,)``."""

Settings = tuple[tuple[str, ParamValue], ...]
"""An operator's settings by name, sorted; those at their defaults are absent."""

_F = TypeVar("_F", bound=Callable[..., Any])


class Measure(NamedTuple):
    """What an operator makes of its inputs, and at which cost."""

    shape: Shape
    """Of its output."""
    params: int
    """The number of its trainable parameters."""
    flops: int
    """Of its convolutions and matrix products for one example, two for each multiply-add."""


class ShapeError(ValueError):
    """Raised by an operator's arithmetic: these shapes can't meet."""


@dataclass(frozen=True, slots=True)
class Op:
    """An operator.

    Attributes:
        name: Its name.
        make: Input shapes and settings to a module; None for a built-in, whose module is in ``modules``.
        measure: Input shapes and settings to a ``Measure``; None where it is measured on the meta device.
        defaults: The settings with their defaults; ``REQUIRED`` for none.
        preset: Settings that are fixed: ``conv3x3`` is ``conv`` with ``kernel=3``.
        base: The operator that it is a preset of, or its own name.
        home: The file that registered it, or ``""``.
    """

    name: str
    make: Callable[..., nn.Module] | None
    measure: Callable[..., Measure] | None
    defaults: Mapping[str, Any]
    preset: Settings = ()
    base: str = ""
    home: str = ""


REQUIRED = inspect.Parameter.empty
_OPS: dict[str, Op] = {}


def register_op(name: str) -> Callable[[_F], _F]:
    """Registers a function, ``make(shape, **settings) -> nn.Module``, as an operator of this name.

    A name may be registered again (a notebook's cell that is run twice); a built-in one may not.

    Raises:
        SpaceError: If the name is no text, or a built-in operator's, or the function takes no shape.
    """
    if not isinstance(name, str) or not name:
        raise SpaceError("An operator's name is no text, or empty", given=repr(name), allowed='@register_op("gated")')
    if name in _OPS and _OPS[name].make is None:
        raise SpaceError(f"There is a built-in operator {name!r}", given=repr(name), allowed="another name")

    def register(make: _F) -> _F:
        parameters = list(inspect.signature(make).parameters.values())
        if not parameters:
            raise SpaceError(f"Operator {name!r} takes no shape", given=f"{make!r}",
                             allowed="def make(shape, *, setting=default): return a module")
        defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        home = Path(inspect.unwrap(make).__code__.co_filename if inspect.isfunction(make) else "")
        _OPS[name] = Op(name, make, None, defaults, base=name, home=str(home.resolve()) if home.is_file() else "")
        measured.cache_clear()
        return make

    return register


def built_in(measure: Callable[..., Measure]) -> Callable[..., Measure]:
    """Registers a function of ``shapes`` as the arithmetic of the built-in operator of its name."""
    parameters = inspect.signature(measure).parameters.values()
    name = measure.__name__
    _OPS[name] = Op(name, None, measure, {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}, base=name)
    return measure


def preset(name: str, base: str, **settings: ParamValue) -> None:
    """Registers ``name`` for a built-in operator with some of its settings fixed."""
    op = _OPS[base]
    defaults = {key: value for key, value in op.defaults.items() if key not in settings}
    _OPS[name] = Op(name, None, op.measure, defaults, tuple(sorted(settings.items())), base)


def operators() -> Mapping[str, Op]:
    """All operators by name."""
    from velodrome.search.arch import shapes  # noqa: F401 - it registers the built-in ones

    return _OPS


def find(name: str, where: str, home: str = "") -> Op:
    """The operator of this name; one that is not there yet is looked for in the file that registered it.

    Args:
        name: The operator.
        where: The node or the part that has it, for the error.
        home: The file that registered it when the space was written, or ``""``.

    Raises:
        SpaceError: If there is none, with the nearest names.
    """
    known = operators()
    if name not in known and home and Path(home).is_file():
        try:
            _run(Path(home))
        except Exception as error:
            raise SpaceError(f"The file that registers operator {name!r} of {where!r} raised {type(error).__name__}",
                             given=f"{home}: {error}", allowed="a file that can be imported") from error
    if name not in known:
        raise SpaceError(
            f"Operator {name!r} of {where!r} is not registered", given=repr(name), allowed=", ".join(known),
            hint=nearest(name, known) or f'import the file with @velo.register_op("{name}") first'
            + (f" (it was {home})" if home else ""),
        )
    return known[name]


def shape_text(shape: Shape) -> str:
    """A shape as it is shown: ``16x32x32``."""
    return "x".join(map(str, shape)) or "scalar"


@lru_cache(maxsize=65_536)
def measured(name: str, settings: Settings, inputs: tuple[Shape, ...]) -> Measure:
    """What an operator with these settings makes of inputs of these shapes.

    Raises:
        ShapeError: If it can't take them.
        Exception: Whatever an operator of the user's raises.
    """
    op = _OPS[name]
    if op.measure is None:
        return _on_meta(name, settings, inputs)
    found = op.measure(*inputs, **dict(op.preset), **dict(settings))
    if min(found.shape, default=1) < 1:
        raise ShapeError(f"nothing is left of {shape_text(inputs[0])}: its output would be {shape_text(found.shape)}")
    return found


def make_module(name: str, settings: Settings, inputs: tuple[Shape, ...]) -> nn.Module:
    """A module of the operator, with freshly drawn weights."""
    op = _OPS[name]
    if op.make is not None:
        return op.make(*inputs, **dict(settings))
    from velodrome.search.arch.modules import MODULES

    return MODULES[op.base](*inputs, **dict(op.preset), **dict(settings))


def _on_meta(name: str, settings: Settings, inputs: tuple[Shape, ...]) -> Measure:
    """Builds the module on the meta device and lets it run there, on a batch of two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = make_module(name, settings, inputs)
        out = module(*(torch.empty(2, *shape) for shape in inputs))
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"its output is no tensor but {type(out).__name__}")
    shape = tuple(int(n) for n in out.shape[1:])
    return Measure(shape, sum(p.numel() for p in module.parameters()), counter.get_total_flops() // 2)


def _run(home: Path) -> None:
    """Runs the file that registers an operator, once, under a name of its own."""
    name = f"_velodrome_operators_{home}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, home)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
