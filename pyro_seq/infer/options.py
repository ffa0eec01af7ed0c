"""Options of methods and views: checks at the door, and what of them a resumed run must share."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from pyro_seq.errors import DataError
from pyro_seq.infer.checkpoint import describe


def is_positive(value: Any) -> bool:
    """True for a positive, finite number."""
    return isinstance(value, int | float) and 0.0 < value < math.inf


def require(holds: bool, name: str, rule: str, value: Any) -> None:
    """Complain that the argument `name` breaks `rule` unless it holds."""
    if not holds:
        raise DataError(f"`{name}` must be {rule}. Got {value!r}.")


def facts(method: Any) -> dict[str, str]:
    """Options of a method that a resumed run must share, all but ``num_steps``: it may be longer than the first."""
    names = [option.name for option in dataclasses.fields(method) if option.name != "num_steps"]
    return {"method": type(method).__name__} | {name: describe(getattr(method, name)) for name in names}
