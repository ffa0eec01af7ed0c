"""Emission of positive, skewed values."""

from __future__ import annotations

import dataclasses
import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.standardised_log_normal import StandardisedLogNormal
from pyro_seq.distributions.standardised_normal import StandardisedNormal
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise
from pyro_seq.nn.values_allowed import require_values


@rebuildable
class LogNormalEmission(Emission):
    r"""Positive values, such as prices, concentrations and durations, with noise proportional to the value.

    .. math::
        \log x \sim \mathcal N\left(m + c\, g(s),\ (c\, \sigma)^2\right)

    Centre m and unit c are those of the logarithms of each variable, so that data in other units give the same fit; the
    noise scale :math:`\sigma` is learned, one number per variable. The mean of predictions is that of the values,
    :math:`\exp(m + c g + c^2 \sigma^2 / 2)`, which is above their median.

    Args:
        decoder: Maps positions (batch, dim) to standardised means of logarithms (batch, \*obs); by default the model's.
        initial_scale: Initial noise scale :math:`\sigma`, in units of the logarithms.
        minimum_scale: Floor of :math:`\sigma`, as a share of each variable's unit.

    Raises:
        DataError: When a scale is not positive, or `initial_scale` is not above `minimum_scale`.
    """

    def __init__(
        self, decoder: nn.Module | None = None, *, initial_scale: float = 0.5, minimum_scale: float = 1e-3
    ) -> None:
        super().__init__(decoder)
        require(is_positive(minimum_scale), "minimum_scale", "a positive number", minimum_scale)
        is_above = is_positive(initial_scale) and initial_scale > minimum_scale
        require(is_above, "initial_scale", "a number above `minimum_scale`", initial_scale)
        self.minimum_scale = minimum_scale
        self.units = Standardise()
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale - minimum_scale)))
        shape_by_data(self, "log_scale")

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the logarithm, about the relative error if small; one number per variable."""
        return self.units.unit * (self.minimum_scale + self.log_scale.exp())

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Log-normal around standardised means of logarithms `decoded` (..., \*obs)."""
        scale = self.minimum_scale + self.log_scale.exp()
        logs = StandardisedNormal(decoded, scale, self.units.centre, self.units.unit, validate_args=False)
        return StandardisedLogNormal(logs, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values that are not positive."""
        require_values(
            data,
            data.values > 0,
            "positive for a `LogNormalEmission`",
            "Hide what was not measured, by NaN or a mask; put half of the limit of detection for what lies below it; "
            "or use `GaussianEmission`, or `NegativeBinomialEmission` for counts.",
        )

    def adapt(self, data: Sequences) -> None:
        """Set centre and unit from the logarithms of the observed entries."""
        logs = torch.where(data.entry_mask, data.values, 1.0).log()
        self.units.adapt(dataclasses.replace(data, values=logs))
        take_shape(self, self.units.unit.shape)
