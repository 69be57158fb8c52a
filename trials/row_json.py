"""JSON as the store's rows have it: SQLite reads it, and NaN and infinity are in it all the same."""

from __future__ import annotations

import json
import math
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_HUGE = "\ue000infinity"


def dumps(value: Any) -> str:
    """JSON that SQLite can read: NaN as null, infinities as a number too large for a float."""
    try:
        return _encode(value)
    except ValueError:
        return _encode(_finite(value)).replace(f'"{_HUGE}"', "1e999").replace(f'"-{_HUGE}"', "-1e999")


def with_nan(field: Any) -> Any:
    """Metrics as they were before ``dumps`` wrote null for NaN; anything else as it is."""
    if not isinstance(field, dict) or None not in field.values():
        return field
    return {k: math.nan if v is None else v for k, v in field.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else _HUGE if value > 0 else f"-{_HUGE}"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
