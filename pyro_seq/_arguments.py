"""Checks of arguments: each error names the argument, the expected value and the value received."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from pyro_seq.errors import DataError, ShapeError


def whole_number(value: Any, name: str, minimum: int = 0, maximum: int = 10**8) -> int:
    """A whole number given as any numeric type."""
    try:
        if getattr(value, "ndim", 0):
            raise TypeError("an array")
        whole = int(value)
        is_whole = bool(whole == value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        is_whole = False
    if not is_whole or not minimum <= whole <= maximum:
        raise DataError(f"`{name}` must be a whole number from {minimum} to {maximum}. Got {value!r}.")
    return whole


def seed_number(value: Any, name: str = "seed") -> int:
    """A seed: a whole number from 0 to 2^63 - 1, given as any numeric type."""
    return whole_number(value, name, 0, 2**63 - 1)


def keep_whole(options: Any, minimum: int, *names: str) -> None:
    """Convert fields of a frozen dataclass to whole numbers; a field with default None may be None."""
    for name in names:
        value = getattr(options, name)
        if value is not None or getattr(type(options), name, 0) is not None:
            object.__setattr__(options, name, whole_number(value, name, minimum))


def real_number(value: Any, name: str, minimum: float, maximum: float = 1e9) -> float:
    """A finite number within limits."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not minimum <= number <= maximum:
        raise DataError(f"`{name}` must be a number from {minimum:g} to {maximum:g}. Got {value!r}.")
    return number


def axis_sizes(value: Any, name: str) -> tuple[int, ...]:
    """Sizes of the axes of an observation, at least one of them."""
    if isinstance(value, str) or not hasattr(value, "__iter__") or not len(tuple(value)):
        raise DataError(f"`{name}` must be the sizes of the axes, such as `(2,)` for two variables. Got {value!r}.")
    return tuple(whole_number(size, name, 1) for size in value)


def is_positive(value: Any) -> bool:
    """True for a positive, finite number, of Python's or NumPy's types."""
    return isinstance(value, Real) and 0.0 < float(value) < math.inf


def require(holds: bool, name: str, rule: str, value: Any) -> None:
    """Raise unless `rule` holds for the argument `name`."""
    if not holds:
        raise DataError(f"`{name}` must be {rule}. Got {value!r}.")


def require_channel_first(shape: Sequence[int], name: str) -> None:
    """Raise for images with channels last, recognised by a tiny last axis and no other tiny one."""
    channel, height, width = shape[-3:]
    if width <= 4 < min(channel, height):
        raise ShapeError(
            f"`{name}` must be images (channel, height, width). Got {(channel, height, width)}, which looks like "
            "(height, width, channel). Move the last axis: `values.movedim(-1, -3)`. Pad images that are narrow, or "
            "use parts without convolutions such as `MLPTrunk`."
        )


def described(value: Any) -> str:
    """Type and length, for a message."""
    sized = hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0
    return f"{type(value).__name__} of {len(value)}" if sized else type(value).__name__
