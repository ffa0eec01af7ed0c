"""A Student-t distribution in the unit of the data, with its density computed in standard units."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor


class StandardisedStudentT(dist.StudentT):
    r"""Values with a Student-t distribution after centring and scaling; see `StandardisedNormal` for the reason.

    .. math::
        x = m + c\, (\mu + \sigma t), \quad t \sim \mathrm{StudentT}(\nu)

    Args:
        df: Degrees of freedom :math:`\nu`.
        loc: Centres :math:`\mu` in standard units.
        scale: Scales :math:`\sigma` in standard units.
        centre: Centre m.
        unit: Unit c.
        validate_args: Check the arguments; Pyro's setting by default.
    """

    def __init__(
        self,
        df: Tensor,
        loc: Tensor,
        scale: Tensor,
        centre: Tensor,
        unit: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self._standard = torch.broadcast_tensors(df, loc, scale, centre, unit)
        super().__init__(df, centre + unit * loc, unit * scale, validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of values in the unit of the data, of the batch shape."""
        if self._validate_args:
            self._validate_sample(value)
        df, loc, scale, centre, unit = self._standard
        standard = dist.StudentT(df, loc, scale, validate_args=False)
        return standard.log_prob((value - centre) / unit) - unit.log()

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> StandardisedStudentT:
        """The same for more series or draws."""
        parts = [part.expand(torch.Size(batch_shape)) for part in self._standard]
        return StandardisedStudentT(*parts, validate_args=self._validate_args)
