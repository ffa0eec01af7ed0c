"""A parameter of a component: a name, a support, and a prior in units of the data."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Normal
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    CumulativeDistributionTransform,
    ExpTransform,
    SigmoidTransform,
    Transform,
)

_NORMAL = CumulativeDistributionTransform(Normal(0.0, 1.0))


class Parameter(NamedTuple):
    """A parameter as a function of one coordinate with a standard normal prior.

    Attributes:
        name: Name within the component.
        transform: From the coordinate to the value, in `unit`; its codomain is the support.
        unit: Name of the unit, ``"spread"`` or ``"change"`` of :class:`SeriesUnits`; None for parameters without a unit
            of the data, such as a number of steps.
    """

    name: str
    transform: Transform
    unit: str | None = None

    def value(self, coordinate: Tensor, units: dict[str, Tensor]) -> Tensor:
        """The value, in the unit of the data."""
        value = self.transform(coordinate)
        return value if self.unit is None else value * units[self.unit]

    def coordinate(self, value: Tensor, units: dict[str, Tensor]) -> Tensor:
        """The coordinate of a value, the inverse of `value`."""
        return self.transform.inv(value if self.unit is None else value / units[self.unit])


def positive(median: float, *, deviation: float = 2.0, floor: float = 0.0) -> Transform:
    """Log-normal above a floor: by default mostly within a factor of 50 of the median."""
    above = AffineTransform(floor, 1.0)
    return ComposeTransform([AffineTransform(math.log(median - floor), deviation), ExpTransform(), above])


def share(median: float, *, deviation: float = 2.0) -> Transform:
    """Between 0 and 1, logit-normal."""
    return ComposeTransform([AffineTransform(math.log(median / (1 - median)), deviation), SigmoidTransform()])


def uniform(low: float, high: float) -> Transform:
    """Uniform between two ends."""
    return ComposeTransform([_NORMAL, AffineTransform(low, high - low)])


def log_uniform(low: float, high: float) -> Transform:
    """Uniform in the logarithm between two positive ends."""
    return ComposeTransform([uniform(math.log(low), math.log(high)), ExpTransform()])
