"""A state that a trial takes over from another, with the new trial's own hyperparameters in its optimizers.

A torch optimizer's ``state_dict`` carries the learning rate and its kin in ``param_groups``, so ``load_state_dict``
would bring back the parent's, whatever the new trial was told: a change that never happens. So wherever a state has
``param_groups``, the values that equal a changed parameter's old one are set to its new one, schedules included
(``initial_lr``, and ``lr`` in proportion). And where the first checkpoint that the trial makes still has an old value,
the trial fails, and says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Changes = Mapping[str, tuple[Any, Any] | list[Any]]
"""Changed parameters by flat name, with the values before and now."""


def apply_changes(state: Any, changes: Changes) -> None:
    """Sets the changed parameters in every ``param_groups`` of the state, in place, by the last part of their names."""
    for group in _groups(state):
        for key, before, now in _numbers(changes):
            initial = f"initial_{key}"
            if initial in group and _equal(group[initial], before):
                group[initial] = now
                if key in group and before:
                    group[key] = group[key] * (now / before) if not _equal(group[key], before) else now
            elif key in group and _equal(group[key], before):
                group[key] = now


def check_changes(state: Any, changes: Changes) -> None:
    """Does nothing if no ``param_groups`` of the state has a changed parameter's old value.

    Raises:
        ValueError: If one has; it says which, and what to do.
    """
    for group in _groups(state):
        for key, before, now in _numbers(changes):
            for name in (key, f"initial_{key}"):
                if name in group and _equal(group[name], before) and before != now:
                    raise ValueError(
                        f"checkpoint: the optimizer's {name} is {before!r}, that of the trial that this one began "
                        f"from, and not its own, {now!r}; after optimizer.load_state_dict, set it: for group in "
                        f"optimizer.param_groups: group[{name!r}] = trial.params[...]"
                    )


def _groups(state: Any) -> Iterator[dict[str, Any]]:
    """Every parameter group in the state."""
    if isinstance(state, dict):
        for key, value in state.items():
            if key == "param_groups" and isinstance(value, list):
                yield from (group for group in value if isinstance(group, dict))
            else:
                yield from _groups(value)
    elif isinstance(state, list | tuple):
        for value in state:
            if isinstance(value, dict | list | tuple):
                yield from _groups(value)


def _numbers(changes: Changes) -> Iterator[tuple[str, Any, Any]]:
    """Key in a group, value before and value now of each changed number."""
    for name, (before, now) in changes.items():
        if _is_number(before) and _is_number(now):
            yield name.rpartition(".")[2], before, now


def _equal(value: Any, number: float) -> bool:
    return _is_number(value) and value == number


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
