"""What changed from one search space to another, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def changes(
    before: Mapping[str, object], after: Mapping[str, object],
    constraints_before: Sequence[str], constraints_after: Sequence[str],
) -> list[str]:
    """One line for each change; empty where the two are equal.

    Args:
        before: The first space's domains and nets at the top level.
        after: The second's.
        constraints_before: The first space's constraints between parameters, as text.
        constraints_after: The second's.
    """
    lines = []
    for name, domain in before.items():
        if name not in after:
            lines.append(f"{name} is gone (it was {domain!r})")
        elif after[name] != domain:
            lines.append(f"{name} was {domain!r}, and is {after[name]!r} now")
    lines += [f"{name} is new: {domain!r}" for name, domain in after.items() if name not in before]
    if not lines and list(before) != list(after):
        lines.append(f"the order was {', '.join(before)}, and is {', '.join(after)} now")
    lines += [f"the constraint {text!r} is gone" for text in constraints_before if text not in constraints_after]
    lines += [f"the constraint {text!r} is new" for text in constraints_after if text not in constraints_before]
    if not lines and list(constraints_before) != list(constraints_after):
        lines.append("the order of the constraints changed")
    return lines
