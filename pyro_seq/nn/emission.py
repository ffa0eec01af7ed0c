"""Emissions: what is observed given a latent position."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.batching import over_batch
from pyro_seq.nn.units import Standardise


class BernoulliEmission(nn.Module):
    r"""Pixels in [0, 1] with a Bernoulli likelihood on the decoder's logits.

    Grey levels are allowed: the likelihood is then the usual cross-entropy, which is not a normalised density of them,
    and draws of observations are black or white; read ``Prediction.means``.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs).
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def adapt(self, data: Sequences) -> None:
        """Nothing to take from the data: pixels have a unit."""

    def check(self, data: Sequences) -> None:
        """Refuse values outside of [0, 1]."""
        if not data.num_steps:
            return
        low, high = float(data.values.min()), float(data.values.max())
        if low < 0 or high > 1:
            raise DataError(
                f"`data.values` must lie in [0, 1] for a Bernoulli emission. Got [{low:g}, {high:g}]. "
                "Divide 8-bit images by 255, or use `GaussianEmission`."
            )

    def forward(self, position: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations given `position` (..., dim); batch shape (..., \*obs)."""
        return dist.Bernoulli(logits=over_batch(self.decoder, position), validate_args=False)


class GaussianEmission(nn.Module):
    r"""Real values with Gaussian noise of learned scale.

    .. math::
        x \sim \mathcal N\left(m + c\, g(s),\ (c\, \sigma)^2\right)

    The centre m and the unit c are one number each, the mean and the standard deviation of all observed training
    entries: scaling each variable by its own deviation would blow up those that hardly vary.

    Args:
        decoder: Maps positions (batch, dim) to standardised means (batch, \*obs).
        initial_scale: Noise scale at the start, in units of the data's standard deviation.
        scale_shape: Shape of the learned scale: ``()`` for one number, or the shape of an observation.
        minimum_scale: Floor of the noise scale in the same units, which keeps a likelihood of constant entries bounded.
    """

    def __init__(
        self,
        decoder: nn.Module,
        *,
        initial_scale: float = 0.5,
        scale_shape: tuple[int, ...] = (),
        minimum_scale: float = 1e-3,
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.minimum_scale = minimum_scale
        self.log_scale = nn.Parameter(torch.full(scale_shape, math.log(initial_scale - minimum_scale)))
        self.units = Standardise()

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the noise, in the unit of the data."""
        return self.units.unit * (self.minimum_scale + self.log_scale.exp())

    def adapt(self, data: Sequences) -> None:
        """Take centre and unit from the observed entries."""
        self.units.adapt(data)

    def check(self, data: Sequences) -> None:
        """Any finite value will do."""

    def forward(self, position: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations given `position` (..., dim); batch shape (..., \*obs)."""
        return dist.Normal(self.units.restore(over_batch(self.decoder, position)), self.scale)
