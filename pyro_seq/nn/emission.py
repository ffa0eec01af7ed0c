"""Emissions: what is observed given a latent position."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.standardised_normal import StandardisedNormal
from pyro_seq.errors import DataError
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise


class Emission(nn.Module):
    r"""Base of what is observed given a latent position: write `given`, and every model takes it.

    The entries of an observation are independent given the position, so that any of them may be missing: the batch
    shape of the distribution is (..., \*obs) and its event shape (). Its ``mean`` is what predictions call the
    emission's mean. Where `given` needs parameters, make them; where observations have a range or a unit, extend
    `check` and `adapt`.

    Args:
        decoder: Maps positions (batch, dim) to what `given` takes, (batch, \*decoded). Without one, the model gives the
            emission its default decoder, which writes one number for each entry of an observation.

    Example:
        >>> class LaplaceEmission(Emission):
        ...     def given(self, decoded):
        ...         return dist.Laplace(decoded, 0.1)
        >>> LaplaceEmission(nn.Linear(2, 3))(torch.zeros(5, 7, 2)).batch_shape
        torch.Size([5, 7, 3])
    """

    decoder: nn.Module  # None until a model gives it one

    def __init__(self, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.register_module("decoder", decoder)

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations, batch shape (..., \*obs), given what the decoder wrote, (..., \*decoded)."""
        raise NotImplementedError(f"{type(self).__name__} must define `given(self, decoded)`.")

    def check(self, data: Sequences) -> None:
        """Refuse values that cannot be observed; none unless overridden."""

    def adapt(self, data: Sequences) -> None:
        """Take units from the observed entries of the training data; none unless overridden."""

    def forward(self, position: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations given `position` (..., dim); batch shape (..., \*obs)."""
        decoded = self.decoder(position.reshape(-1, position.shape[-1]))
        return self.given(decoded.reshape(*position.shape[:-1], *decoded.shape[1:]))


@rebuildable
class BernoulliEmission(Emission):
    r"""Pixels in [0, 1] with a Bernoulli likelihood on the decoder's logits.

    Grey levels are allowed: the likelihood is then the usual cross-entropy, which is not a normalised density of them,
    and draws of observations are black or white; read ``Prediction.emission_means``.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs); by default the model's.
    """

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Bernoulli with logits `decoded` (..., \*obs)."""
        return dist.Bernoulli(logits=decoded, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values outside of [0, 1]."""
        _require_pixels(data, " for a Bernoulli emission", "Divide 8-bit images by 255, or use `GaussianEmission`.")


@rebuildable
class PixelEmission(Emission):
    r"""Pixels in [0, 1] with Gaussian noise of a stated scale around the sigmoid of the decoder's logits.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs); by default the model's.
        scale: Standard deviation of a pixel around its mean.
    """

    def __init__(self, decoder: nn.Module | None = None, *, scale: float = 1.0) -> None:
        super().__init__(decoder)
        require(is_positive(scale), "scale", "a positive number", scale)
        self.scale = scale

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Normal around the sigmoid of `decoded` (..., \*obs)."""
        return dist.Normal(torch.sigmoid(decoded), self.scale, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values outside of [0, 1]."""
        _require_pixels(data, "", "Divide 8-bit images by 255.")


@rebuildable
class GaussianEmission(Emission):
    r"""Real values with Gaussian noise of learned scale, each variable in its own unit.

    .. math::
        x \sim \mathcal N\left(m + c\, g(s),\ (c\, \sigma)^2\right)

    Centre m, unit c and noise scale :math:`\sigma` are numbers for each variable: for each entry of an observation, and
    for all pixels of an image (channel, height, width) together. So data in other units give the same fit, and what
    hardly varies is modelled as closely, relative to its own deviation, as what varies much. Where all entries are of
    one kind with the same noise, such as coordinates of markers, ``units=Standardise(())`` makes them one variable.

    Args:
        decoder: Maps positions (batch, dim) to standardised means (batch, \*obs); by default the model's.
        initial_scale: Noise scale :math:`\sigma` at the start, in units of the data.
        scale_shape: Shape of :math:`\sigma`, which broadcasts to that of an observation, ``()`` for one number; that
            of the units when absent.
        minimum_scale: Floor of :math:`\sigma`, a share of each variable's own unit, which keeps a likelihood of
            constant entries bounded.
        units: Centre and unit; those of each variable when absent.
    """

    def __init__(
        self,
        decoder: nn.Module | None = None,
        *,
        initial_scale: float = 0.5,
        scale_shape: tuple[int, ...] | None = None,
        minimum_scale: float = 1e-3,
        units: Standardise | None = None,
    ) -> None:
        super().__init__(decoder)
        self.minimum_scale = minimum_scale
        self.units = Standardise() if units is None else units
        shape = self.units.unit.shape if scale_shape is None else scale_shape
        self.log_scale = nn.Parameter(torch.full(shape, math.log(initial_scale - minimum_scale)))
        if scale_shape is None:
            shape_by_data(self, "log_scale")

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the noise, in the unit of the data; one number for each variable."""
        return self.units.unit * (self.minimum_scale + self.log_scale.exp())

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Normal around standardised means `decoded` (..., \*obs)."""
        scale = self.minimum_scale + self.log_scale.exp()
        return StandardisedNormal(decoded, scale, self.units.centre, self.units.unit)

    def adapt(self, data: Sequences) -> None:
        """Take centre and unit from the observed entries."""
        self.units.adapt(data)
        take_shape(self, self.units.unit.shape)


def _require_pixels(data: Sequences, purpose: str, remedy: str) -> None:
    if not data.num_steps:
        return
    low, high = float(data.values.min()), float(data.values.max())
    if low < 0 or high > 1:
        raise DataError(f"`data.values` must lie in [0, 1]{purpose}. Got [{low:g}, {high:g}]. {remedy}")
