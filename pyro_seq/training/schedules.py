"""Schedules: numbers that change with the training step, such as a learning rate or the weight of a divergence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pyro_seq.errors import DataError

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Constant:
    """The same `value` at every step."""

    value: float = 1.0

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        return self.value


@dataclass(frozen=True)
class WarmUp:
    """Linear from `start` to `value` over `steps` steps, then constant.

    Example:
        >>> [WarmUp(steps=4, value=2.0)(step) for step in (0, 1, 4, 9)]
        [0.0, 0.5, 2.0, 2.0]
    """

    steps: int
    value: float = 1.0
    start: float = 0.0

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        return self.start + (self.value - self.start) * min(step / self.steps, 1.0)


@dataclass(frozen=True)
class Cosine:
    r"""Half a cosine from 1 down to `final`, reached at step `steps`; the first `warmup` steps rise linearly from 0.

    .. math:: f(k) = f_1 + (1 - f_1)\,\tfrac12\left(1 + \cos\pi\,\frac{k - w}{K - w}\right), \quad w \le k \le K

    The rise starts at 1 / (warmup + 1), because a first step at 0 would be wasted.

    Args:
        steps: Step K from which on the value is `final`.
        warmup: Number w of steps in the rise.
        final: Last value.

    Example:
        >>> [round(Cosine(steps=10, final=0.1)(step), 3) for step in (0, 5, 10, 99)]
        [1.0, 0.55, 0.1, 0.1]
    """

    steps: int
    warmup: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        _at_least("warmup", self.warmup, 0)
        _at_least("steps", self.steps, self.warmup + 1)

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        progress = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))


@dataclass(frozen=True)
class Exponential:
    """Decay by a factor of `rate` per `every` steps: smoothly, or in jumps if `staircase` is set.

    Example:
        >>> [Exponential(0.5, every=10, staircase=True)(step) for step in (0, 9, 10, 25)]
        [1.0, 1.0, 0.5, 0.25]
    """

    rate: float
    every: int = 1
    staircase: bool = False

    def __post_init__(self) -> None:
        _at_least("every", self.every, 1)
        if not 0.0 < self.rate <= 1.0:
            raise DataError(f"`rate` must lie above 0 and not above 1. Got {self.rate!r}.")

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        return self.rate ** (step // self.every if self.staircase else step / self.every)


@dataclass(frozen=True)
class FlatThenLinear:
    """1 for `flat` steps, then linear decay to `final` over `decay` steps.

    Example:
        >>> [FlatThenLinear(flat=10, decay=4)(step) for step in (0, 10, 11, 14, 20)]
        [1.0, 1.0, 0.75, 0.0, 0.0]
    """

    flat: int
    decay: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _at_least("flat", self.flat, 0)
        _at_least("decay", self.decay, 1)

    def __call__(self, step: int) -> float:
        """The value at `step`."""
        progress = min(max(step - self.flat, 0) / self.decay, 1.0)
        return 1.0 + (self.final - 1.0) * progress


def _at_least(name: str, value: int, minimum: int) -> None:
    if int(value) != value or value < minimum:
        raise DataError(f"`{name}` must be a whole number of steps, {minimum} or more. Got {value!r}.")
