"""Emissions: distributions of observations given a latent position."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from pyro_seq._arguments import is_positive, require
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.distributions.measured_pixels import MeasuredPixels, measure
from pyro_seq.distributions.standardised_normal import StandardisedNormal
from pyro_seq.errors import DataError
from pyro_seq.nn.saved_state import shape_by_data, take_shape
from pyro_seq.nn.units import Standardise

_REACH = 4.0  # bound on the log of a state-dependent noise


class Emission(nn.Module):
    r"""Base class of emissions: a subclass that defines `given` can be used in every model.

    The entries of an observation are independent given the position, so that any of them may be missing: the batch
    shape of the distribution is (..., \*obs) and its event shape (). Its ``mean`` is the emission mean of predictions.
    Create parameters that `given` needs in the constructor; extend `check` and `adapt` if observations have a range or
    a unit. If the noise is only a convention of training, give the distribution a method ``predictive()`` that returns
    the distribution for draws of predictions.

    Args:
        decoder: Maps positions (batch, dim) to the argument of `given`, (batch, \*decoded). Default: the model's
            decoder, with one number per entry of an observation.

    Example:
        >>> class LaplaceEmission(Emission):
        ...     def given(self, decoded):
        ...         return dist.Laplace(decoded, 0.1)
        >>> LaplaceEmission(nn.Linear(2, 3))(torch.zeros(5, 7, 2)).batch_shape
        torch.Size([5, 7, 3])
    """

    decoder: nn.Module  # None until a model sets it

    def __init__(self, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.register_module("decoder", decoder)

    @property
    def input_dim(self) -> int:
        """Size of the inputs that the decoder reads after the position: those of an `InputDecoder`."""
        return getattr(self.decoder, "input_dim", 0)

    @property
    def raw_inputs(self) -> tuple[str | int, ...]:
        """Names or numbers of the inputs that `under_inputs`, and no other part, reads without standardisation."""
        return ()

    def under_inputs(self, law: dist.TorchDistribution, data: Sequences, steps: slice) -> dist.TorchDistribution:
        """The law of observations under the raw inputs at some steps of the data; `law` itself unless overridden."""
        return law

    def heads(self, make: Callable[[], nn.Module]) -> nn.Module:
        """The decoder for this emission: one or more of the model's default decoders, each created by `make`."""
        return make()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations, batch shape (..., \*obs), given the decoder's output (..., \*decoded)."""
        raise NotImplementedError(f"{type(self).__name__} must define `given(self, decoded)`.")

    def check(self, data: Sequences) -> None:
        """Refuse impossible values; accepts all unless overridden."""

    def adapt(self, data: Sequences) -> None:
        """Set units from the observed entries of the training data; does nothing unless overridden."""

    def forward(self, position: Tensor) -> dist.TorchDistribution:
        r"""Distribution of observations given `position` (..., dim); batch shape (..., \*obs)."""
        decoded = self.decoder(position.reshape(-1, position.shape[-1]))
        return self.given(decoded.reshape(*position.shape[:-1], *decoded.shape[1:]))


@rebuildable
class BernoulliEmission(Emission):
    r"""Pixels in [0, 1] with a Bernoulli likelihood on the decoder's logits.

    Grey levels are allowed: the likelihood is then the usual cross-entropy, which is not a normalised density, and
    draws of observations are black or white; use ``Prediction.emission_means`` instead.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs); by default the model's.
    """

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Bernoulli with logits `decoded` (..., \*obs)."""
        return _Binary(logits=decoded, validate_args=False)

    def check(self, data: Sequences) -> None:
        """Refuse values outside [0, 1]."""
        _require_pixels(data, " for a Bernoulli emission", "Divide 8-bit images by 255, or use `GaussianEmission`.")


class _Binary(dist.Bernoulli):
    """Draws are NaN where the mean is NaN; torch would fail on all draws, and on a GPU for the rest of the process."""

    def expand(self, batch_shape: torch.Size, _instance: dist.Bernoulli | None = None) -> dist.Bernoulli:
        """The distribution expanded to more series or draws."""
        return super().expand(batch_shape, self.__new__(type(self)) if _instance is None else _instance)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draws, (*sample, *batch)."""
        probs = self.probs.expand(self._extended_shape(sample_shape))
        with torch.no_grad():
            return torch.where(probs.isnan(), probs, torch.bernoulli(probs.nan_to_num()))


@rebuildable
class PixelEmission(Emission):
    r"""Pixels in [0, 1] with Gaussian noise of a fixed scale around the sigmoid of the decoder's logits.

    The scale weighs the likelihood in training and in chains; it does not describe pixels: a scale of 1 is wider than
    their range. Predictions therefore draw pixels from a measured distribution: at the end of `fit`, series are
    reconstructed, and the quantiles of their pixels are stored for each of 128 bins of the mean. Intervals, quantiles
    and scores of ``Prediction.samples`` are then calibrated on average over pixels, for every method. Quantiles
    measured on training series are too narrow if the model has overfitted: pass `validation` to `fit`, or call
    `measure_noise`. Pixels are drawn independently of each other, given the latents. Before a measurement, as in files
    of earlier versions, draws have the likelihood's noise.

    Args:
        decoder: Maps positions (batch, dim) to logits (batch, \*obs); by default the model's.
        scale: Standard deviation of a pixel around its mean, in the likelihood.
    """

    quantiles: Tensor | None  # (cell, level), once measured
    measured: ClassVar[tuple[str, ...]] = ("quantiles",)

    def __init__(self, decoder: nn.Module | None = None, *, scale: float = 1.0) -> None:
        super().__init__(decoder)
        require(is_positive(scale), "scale", "a positive number", scale)
        self.scale = scale
        self.register_buffer("quantiles", None)

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Normal around the sigmoid of `decoded` (..., \*obs)."""
        pixels = _Pixels(torch.sigmoid(decoded), self.scale, validate_args=False)
        pixels.quantiles = self.quantiles
        return pixels

    def measure(self, means: Tensor, values: Tensor, mask: Tensor) -> None:
        """Store quantiles of the pixels `values` by their `means`, where `mask` is True; all have the same shape."""
        if bool(mask.any()):
            self.quantiles = measure(means[mask], values[mask])

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state.get(f"{prefix}quantiles")
        self.quantiles = None if found is None else next(self.parameters(), found).new_empty(found.shape)
        super()._load_from_state_dict(state, prefix, *args)

    def check(self, data: Sequences) -> None:
        """Refuse values outside [0, 1]."""
        _require_pixels(data, "", "Divide 8-bit images by 255.")


class _Pixels(dist.Normal):
    """Normal density; predictions draw from the measured distribution."""

    quantiles: Tensor | None = None

    def predictive(self) -> dist.TorchDistribution:
        """The distribution of draws of predictions."""
        return self if self.quantiles is None else MeasuredPixels(self.mean, self.quantiles)


@rebuildable
class MeanAndNoise(nn.Module):
    r"""Two decoders of one position: standardised means, and h, which changes the logarithm of the noise.

    Args:
        mean: Maps positions (batch, dim) to standardised means (batch, \*obs).
        noise: Maps positions to h, in the same shapes.
    """

    def __init__(self, mean: nn.Module, noise: nn.Module) -> None:
        super().__init__()
        self.mean, self.noise = mean, noise

    @property
    def has_skips(self) -> bool:
        """Whether the decoders take feature maps of a frame."""
        return bool(getattr(self.mean, "has_skips", False))

    def forward(self, position: Tensor, *maps: Any) -> Tensor:
        r"""Mean and h along a last axis, (batch, \*obs, 2)."""
        return torch.stack([self.mean(position, *maps), self.noise(position, *maps)], -1)


@rebuildable
class GaussianEmission(Emission):
    r"""Real values with Gaussian noise of learned scale, each variable in its own unit.

    .. math::
        x \sim \mathcal N\left(m + c\, g(s),\ (c\, \sigma)^2\right)

    Centre m, unit c and noise scale :math:`\sigma` are one number per variable: per entry of an observation, or one for
    all pixels of an image (channel, height, width). Data in other units therefore give the same fit, and variables with
    small variation are modelled as closely, relative to their deviation, as those with large variation. If all entries
    are of one kind with the same noise, such as coordinates of markers, ``units=Standardise(())`` treats them as one
    variable.

    With `has_state_noise` the noise depends on the state, as when larger values vary more, or calm and rough periods
    alternate: a second decoder, like the first, gives h, and

    .. math::
        \sigma(s) = \sigma_0 \, e^{4 \tanh(h(s) / 4)}

    lies within a factor of 55 of a learned :math:`\sigma_0`, so that no single value can dominate the likelihood. The
    means then follow the data closely where there is little noise. Such a model needs more series than one with
    constant noise.

    Args:
        decoder: Maps positions (batch, dim) to standardised means (batch, \*obs); by default the model's.
        initial_scale: Initial noise scale :math:`\sigma`, in units of the data.
        scale_shape: Shape of :math:`\sigma`, which broadcasts to that of an observation; ``()`` for one number.
            Default: the shape of the units.
        minimum_scale: Floor of :math:`\sigma`, as a share of each variable's unit, which keeps the likelihood of
            constant entries bounded.
        units: Centre and unit. Default: those of each variable.
        has_state_noise: Let the noise depend on the state. A custom decoder must then be a `MeanAndNoise`.

    Raises:
        DataError: When `has_state_noise` is combined with a decoder of one output.
    """

    def __init__(
        self,
        decoder: nn.Module | None = None,
        *,
        initial_scale: float = 0.5,
        scale_shape: tuple[int, ...] | None = None,
        minimum_scale: float = 1e-3,
        units: Standardise | None = None,
        has_state_noise: bool = False,
    ) -> None:
        require(isinstance(has_state_noise, bool), "has_state_noise", "True or False", has_state_noise)
        fits = decoder is None or has_state_noise == isinstance(decoder, MeanAndNoise)
        wanted = "a `MeanAndNoise` with `has_state_noise`, and only then"
        require(fits, "decoder", wanted, decoder)
        super().__init__(decoder)
        self._has_state_noise = has_state_noise
        self.minimum_scale = minimum_scale
        self.units = Standardise() if units is None else units
        shape = self.units.unit.shape if scale_shape is None else scale_shape
        self.log_scale = nn.Parameter(torch.full(shape, math.log(initial_scale - minimum_scale)))
        if scale_shape is None:
            shape_by_data(self, "log_scale")

    @property
    def has_state_noise(self) -> bool:
        """Whether the noise depends on the state."""
        return self._has_state_noise

    @property
    def scale(self) -> Tensor:
        r"""Standard deviation of the noise, in the unit of the data, where h is 0; one number per variable."""
        return self.units.unit * (self.minimum_scale + self.log_scale.exp())

    def heads(self, make: Callable[[], nn.Module]) -> nn.Module:
        """A decoder of means, and one of noise if the noise depends on the state."""
        return MeanAndNoise(make(), make()) if self.has_state_noise else make()

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        r"""Normal around standardised means `decoded` (..., \*obs); with state noise, means and h (..., \*obs, 2)."""
        log_scale: Tensor = self.log_scale
        if self.has_state_noise:
            decoded, noise = decoded.unbind(-1)
            log_scale = log_scale + _REACH * torch.tanh(noise / _REACH)
        scale = self.minimum_scale + log_scale.exp()
        return StandardisedNormal(decoded, scale, self.units.centre, self.units.unit, validate_args=False)

    def adapt(self, data: Sequences) -> None:
        """Set centre and unit from the observed entries."""
        self.units.adapt(data)
        take_shape(self, self.units.unit.shape)


def _require_pixels(data: Sequences, purpose: str, remedy: str) -> None:
    if not data.num_steps:
        return
    low, high = float(data.values.min()), float(data.values.max())
    if low < 0 or high > 1:
        raise DataError(f"`data.values` must lie in [0, 1]{purpose}. Got [{low:g}, {high:g}]. {remedy}")
