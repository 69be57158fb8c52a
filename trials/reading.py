"""What an objective hands over, read: steps, metrics and results, with an error that says what is wrong with them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from velodrome.types import Metrics

_MAX_STEP = 1 << 63


def read_report(args: tuple[Any, ...], named: dict[str, Any], metric: str) -> tuple[int, Metrics]:
    """Step and metrics from the arguments of ``Trial.report``, in any of its forms; ``metric`` is the goal's.

    Raises:
        TypeError: If they are none of its forms, a value is no number, or the step no integer.
        ValueError: If the step is negative, or too large for the store.
    """
    match args:
        case [step] if named and "step" not in named:
            return read_step(step), read_metrics(named)
        case [step, Mapping() as metrics] if not named:
            return read_step(step), read_metrics(metrics)
        case [Mapping() as metrics] if named.keys() == {"step"}:
            return read_step(named["step"]), read_metrics(metrics)
        case [value] if named.keys() == {"step"}:
            return read_step(named["step"]), read_metrics({metric: value})
        case [value, step] if not named:
            return read_step(step), read_metrics({metric: value})
        case [] if named.keys() == {"value", "step"}:
            return read_step(named["step"]), read_metrics({metric: named["value"]})
        case [] if "step" in named and len(named) > 1:
            return read_step(named.pop("step")), read_metrics(named)
    raise TypeError("report takes a step and metrics: report(step, loss=0.3), report(step, {'loss': 0.3}), "
                    "or Optuna's report(value, step)")


def read_result(value: Any, metrics: tuple[str, ...]) -> Metrics:
    """The metrics that a returned value means; empty for None, where the last report counts.

    Raises:
        TypeError: If it is not a number, a dict of numbers with every goal metric, one number per metric, or None.
    """
    if type(value) is float:
        return {metrics[0]: value}
    if value is None:
        return {}
    if isinstance(value, Mapping):
        missing = [m for m in metrics if m not in value]
        if missing:
            raise TypeError(f"the goal's {', '.join(map(repr, missing))} is not among its keys "
                            f"({', '.join(map(str, value)) or 'none'})")
        return {str(name): _number(v, f"{name!r} is no number") for name, v in value.items()}
    if isinstance(value, tuple | list):
        if len(value) != len(metrics):
            raise TypeError(f"the goal has {len(metrics)} metric{'s' * (len(metrics) > 1)} "
                            f"({', '.join(metrics)}), the result {len(value)} values")
        return {name: _number(v, f"{name!r} is no number") for name, v in zip(metrics, value, strict=True)}
    return {metrics[0]: _number(value, "allowed are a number, a dict of numbers, or None after reports")}


def _number(value: Any, complaint: str) -> float:
    try:
        return number(value)
    except TypeError as error:
        raise TypeError(f"{complaint} ({error})") from None


def number(value: Any) -> float:
    """The value as a plain float.

    Raises:
        TypeError: If it is no number: text, None, several numbers.
    """
    if type(value) is float:
        return value
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"{value!r:.60} is text")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise TypeError(f"it is {type(value).__name__}: {error}") from None


def read_metrics(values: Mapping[str, Any]) -> Metrics:
    """Reported figures as floats.

    Raises:
        TypeError: If a value is no number, or a name no text.
    """
    metrics: Metrics = {}
    for name, value in values.items():
        if type(value) is not float:
            if not isinstance(name, str):
                raise TypeError(f"report: a metric's name is a text, not {name!r}")
            try:
                value = number(value)  # noqa: PLW2901 - the same value, plain
            except TypeError as error:
                raise TypeError(f"report: metric {name!r} is no number: {error}") from None
        elif not isinstance(name, str):
            raise TypeError(f"report: a metric's name is a text, not {name!r}")
        metrics[name] = value
    return metrics


def read_step(step: Any, call: str = "report") -> int:
    """A reported step as an integer.

    Raises:
        TypeError: If it is none.
        ValueError: If it is negative, or too large for the store.
    """
    try:
        index = operator.index(step)
    except TypeError:
        forms = "report(step, loss=0.3) and report(value, step)" if call == "report" else "checkpoint(step, state)"
        raise TypeError(f"{call}: the step is an integer, not {step!r:.60} ({type(step).__name__}); "
                        f"the forms are {forms}") from None
    if not 0 <= index < _MAX_STEP:
        raise ValueError(f"{call}: the step is 0 or more, and less than 2**63, not {index}")
    return index


def plain_json(value: Any) -> Any:
    """JSON for what NumPy and torch make of numbers and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON value")
