"""A normal distribution in the unit of the data, with its density computed in standard units."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

_TENSORS = ("loc", "scale", "standard_loc", "standard_scale", "centre", "unit")


class StandardisedNormal(dist.Normal):
    r"""Values that are normal after centring and scaling.

    .. math::
        x = m + c\, y, \quad y \sim \mathcal N(\mu, \sigma^2), \qquad
        \log p(x) = \log \mathcal N\left(\tfrac{x - m}{c} \,\middle|\, \mu, \sigma^2\right) - \log c

    The same as ``Normal(m + c * mu, c * sigma)`` except for rounding: for x close to the centre, :math:`x - m` is exact
    even if both are large, and squares of units do not underflow.

    Args:
        loc: Means :math:`\mu` in standard units.
        scale: Standard deviations :math:`\sigma` in standard units.
        centre: Centre m.
        unit: Unit c.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    standard_loc: Tensor
    standard_scale: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(
        self, loc: Tensor, scale: Tensor, centre: Tensor, unit: Tensor, *, validate_args: bool | None = None
    ) -> None:
        self.standard_loc, self.standard_scale, self.centre, self.unit = torch.broadcast_tensors(
            loc, scale, centre, unit
        )
        super().__init__(centre + unit * loc, unit * scale, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values in the unit of the data, of the batch shape."""
        if self._validate_args:
            self._validate_sample(value)
        standard = dist.Normal(self.standard_loc, self.standard_scale, validate_args=False)
        return standard.log_prob((value - self.centre) / self.unit) - self.unit.log()

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> StandardisedNormal:
        """The same for more series or draws."""
        new = self._get_checked_instance(StandardisedNormal, _instance)
        batch_shape = torch.Size(batch_shape)
        for name in _TENSORS:
            setattr(new, name, getattr(self, name).expand(batch_shape))
        torch.distributions.Distribution.__init__(new, batch_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new
