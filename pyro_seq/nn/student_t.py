"""Emission of real values with heavy-tailed noise."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.standardised_student_t import StandardisedStudentT
from pyro_seq.nn.emission import Emission
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise


@rebuildable
class StudentTEmission(Emission):
    r"""Real values with occasional outliers: Student-t noise, each variable in its own unit.

    .. math::
        x = m + c\left(g(s) + \sigma t\right), \qquad t \sim \mathrm{StudentT}(\nu)

    Centre m, unit c, noise scale :math:`\sigma` and degrees of freedom :math:`\nu > 2` are one number per variable, as
    in `GaussianEmission`; the last two are learned. An outlier affects the mean less than with Gaussian noise, and does
    not widen the intervals of other entries. For :math:`\nu` above 30 the noise is almost Gaussian.

    Args:
        decoder: Maps positions (batch, dim) to standardised centres (batch, \*obs); by default the model's.
        initial_scale: Initial noise scale :math:`\sigma`, in units of the data.
        initial_df: Initial degrees of freedom, above 2.
        minimum_scale: Floor of :math:`\sigma`, as a share of each variable's unit, which keeps the likelihood of
            constant entries bounded.
        units: Centre and unit. Default: those of each variable.

    Raises:
        DataError: When `initial_df` is not above 2, or a scale is not positive.

    References:
        Lange, Little, Taylor, "Robust statistical modeling using the t distribution", 1989.
    """

    def __init__(
        self,
        decoder: nn.Module | None = None,
        *,
        initial_scale: float = 0.5,
        initial_df: float = 8.0,
        minimum_scale: float = 1e-3,
        units: Standardise | None = None,
    ) -> None:
        super().__init__(decoder)
        require(is_positive(minimum_scale), "minimum_scale", "a positive number", minimum_scale)
        is_above = is_positive(initial_scale) and initial_scale > minimum_scale
        require(is_above, "initial_scale", "a number above `minimum_scale`", initial_scale)
        require(is_positive(initial_df) and initial_df > 2.0, "initial_df", "a number above 2", initial_df)
        self.minimum_scale = minimum_scale
        self.units = Standardise() if units is None else units
        shape = self.units.unit.shape
        self.log_scale = nn.Parameter(torch.full(shape, math.log(initial_scale - minimum_scale)))
        self.log_excess = nn.Parameter(torch.full(shape, math.log(initial_df - 2.0)))
        shape_by_data(self, "log_scale", "log_excess")

    @property
    def df(self) -> Tensor:
        """Degrees of freedom, one number per variable."""
        return 2.0 + self.log_excess.exp()

    @property
    def scale(self) -> Tensor:
        """Scale of the noise, in the unit of the data; its standard deviation is this times sqrt(df / (df - 2))."""
        return self.units.unit * self._standard_scale

    @property
    def _standard_scale(self) -> Tensor:
        return self.minimum_scale + self.log_scale.exp()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Student-t around standardised centres `decoded` (..., \*obs)."""
        return StandardisedStudentT(
            self.df, decoded, self._standard_scale, self.units.centre, self.units.unit, validate_args=False
        )

    def adapt(self, data: Sequences) -> None:
        """Set centre and unit from the observed entries."""
        self.units.adapt(data)
        take_shape(self, self.units.unit.shape)

    def weights(self, square: Tensor) -> Tensor:
        r"""Mean precision weight of each entry given its squared distance, in units of the noise; below 1 for outliers.

        .. math::
            \mathbb E[w] = \frac{\nu + 1}{\nu + r^2}, \qquad
            t \mid w \sim N(0, 1 / w), \quad w \sim \mathrm{Gamma}(\nu / 2, \nu / 2)

        Args:
            square: Expected squares :math:`r^2`, (..., \*obs).
        """
        return (self.df + 1.0) / (self.df + square)
