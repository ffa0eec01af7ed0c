"""New observations of a hidden path that was already observed."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters, SmootherResult
from pyro_seq.ops.kalman._recursion import square_root


class _HiddenPath(Protocol):
    parameters: LinearGaussianParameters
    mask_of_entries: Tensor | None
    batch_shape: torch.Size
    event_shape: torch.Size

    def smooth(self, value: Tensor) -> SmootherResult: ...

    def sample_states(self, value: Tensor, num_samples: int) -> Tensor: ...


class Replicate(PathDistribution):
    r"""Second observations of the hidden path of a linear Gaussian model, given the first.

    .. math::
        a'_t = C_t z_t + N(0, R_t), \qquad z \sim p(z \mid a)

    At observed entries these are replicates for a posterior predictive check, with independent noise. At hidden entries
    they are the missing entries themselves, drawn jointly: given the path, the noise of entries observed at the same
    step is known, and it informs the hidden ones if noise is correlated. With :math:`M_t` the diagonal matrix of the
    mask, both are one linear map of a plain replicate and of the observations (Matheron's rule),

    .. math::
        x_t = (I - G_t)\, a'_t + G_t\, a_t, \qquad G_t = (I - M_t)\, R_t M_t\, (M_t R_t M_t)^+ .

    Args:
        path: A distribution over observations with methods `smooth` and `sample_states`.
        value: The observations, (\*batch, time, obs).
        batch_shape: Leading axes beyond those of `path` and `value`.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(self, path: _HiddenPath, value: Tensor, *, batch_shape: torch.Size = torch.Size()) -> None:
        self.path = path
        batch = torch.broadcast_shapes(path.batch_shape, value.shape[:-2], torch.Size(batch_shape))
        self.value = value
        super().__init__(batch, path.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of each entry given the first observations, ``(*batch, time, obs)``."""
        return self._means(self.path.smooth(self.value))

    @property
    def variance(self) -> Tensor:
        """Variance of each entry given the first observations, ``(*batch, time, obs)``."""
        return self._variances(self.path.smooth(self.value))

    def states(self) -> dist.Normal:
        """Marginal distribution of each entry of the hidden path without noise, given the first observations."""
        states, rows = self.path.smooth(self.value), self._parameters().observation
        variance = (rows @ states.smoothed_covs @ rows.mT).diagonal(dim1=-2, dim2=-1)
        return dist.Normal(self._observed(states.smoothed_means), variance.clamp(min=0.0).sqrt(), validate_args=False)

    def entries(self) -> dist.Normal:
        """Marginal distribution of each entry given the first observations, batch ``(*batch, time, obs)``."""
        states = self.path.smooth(self.value)
        return dist.Normal(self._means(states), self._variances(states).sqrt(), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> Replicate:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return Replicate(self.path, self.value, batch_shape=torch.Size(batch_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw the hidden path, and observations of it."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        own = torch.broadcast_shapes(self.path.batch_shape, self.value.shape[:-2])
        extra = shape[: len(shape) - len(own) - 2]  # smooth every series once for all draws
        value = self.value.expand(shape[len(extra) :])
        states = self.path.sample_states(value, extra.numel())
        states = states.reshape(extra + states.shape[1:])
        factor = square_root(self._parameters().observation_cov)
        noise = torch.randn(shape, dtype=states.dtype, device=states.device)
        return self._completed(self._observed(states) + (factor @ noise[..., None]).squeeze(-1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Not available: draws and moments only."""
        raise UnsupportedError(
            "A `Replicate` has draws and moments but no density. Score observations by that of the path itself."
        )

    def _means(self, states: SmootherResult) -> Tensor:
        means = self._completed(self._observed(states.smoothed_means))
        return means.expand(self.batch_shape + self.event_shape)

    def _variances(self, states: SmootherResult) -> Tensor:
        parameters = self._parameters()
        covs = parameters.observation @ states.smoothed_covs @ parameters.observation.mT + parameters.observation_cov
        gain = self._gain()
        if gain is not None:
            rest = torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device) - gain
            covs = rest @ covs @ rest.mT
        return covs.diagonal(dim1=-2, dim2=-1).expand(self.batch_shape + self.event_shape)

    def _gain(self) -> Tensor | None:
        """Gain of hidden entries from the noise of entries seen at the same step; None if there is no effect."""
        mask, noise = self.path.mask_of_entries, self._parameters().observation_cov
        if mask is None or bool((mask == mask[..., :1]).all()):
            return None
        if bool((noise == noise.diagonal(dim1=-2, dim2=-1).diag_embed()).all()):
            return None
        seen = mask.to(noise)
        covs = noise * seen[..., None, :]
        return (1 - seen)[..., None] * covs @ torch.linalg.pinv(covs * seen[..., None], hermitian=True)

    def _completed(self, replicate: Tensor) -> Tensor:
        """The replicate with its hidden entries given those seen at the same step."""
        gain, mask = self._gain(), self.path.mask_of_entries
        if gain is None or mask is None:
            return replicate
        surplus = torch.where(mask, self.value - replicate, 0.0)
        return replicate + (gain @ surplus[..., None]).squeeze(-1)

    def _parameters(self) -> LinearGaussianParameters:
        return self.path.parameters.between(0, self.event_shape[0])

    def _observed(self, states: Tensor) -> Tensor:
        return (self._parameters().observation @ states[..., None]).squeeze(-1)
