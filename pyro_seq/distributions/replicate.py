"""Observations drawn anew on a hidden path that has been observed already."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.path import PathDistribution
from pyro_seq.errors import UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters, SmootherResult
from pyro_seq.ops.kalman._recursion import square_root


class _HiddenPath(Protocol):
    parameters: LinearGaussianParameters
    batch_shape: torch.Size
    event_shape: torch.Size

    def smooth(self, value: Tensor) -> SmootherResult: ...

    def sample_states(self, value: Tensor, num_samples: int) -> Tensor: ...


class Replicate(PathDistribution):
    r"""Second observations of the hidden path of a linear Gaussian model, given the first.

    .. math::
        a'_t = C_t z_t + N(0, R_t), \qquad z \sim p(z \mid a)

    Where the first are missing these are imputations, drawn jointly; where they are not, replicates for a posterior
    predictive check. Noise is drawn anew in every entry, independently of that of the observed ones.

    Args:
        path: A distribution over observations that can `smooth` and `sample_states`.
        value: What was observed, (\*batch, time, obs).
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
        states = self.path.smooth(self.value).smoothed_means
        return self._observed(states).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Variance of each entry given the first observations, ``(*batch, time, obs)``."""
        parameters = self._parameters()
        covs = self.path.smooth(self.value).smoothed_covs
        covs = parameters.observation @ covs @ parameters.observation.mT + parameters.observation_cov
        return covs.diagonal(dim1=-2, dim2=-1).expand(self.batch_shape + self.event_shape)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> Replicate:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return Replicate(self.path, self.value, batch_shape=torch.Size(batch_shape))

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw the hidden path, and observations of it."""
        shape = torch.Size(sample_shape) + self.batch_shape + self.event_shape
        states = self.path.sample_states(self.value.expand(shape), 1)[0]
        factor = square_root(self._parameters().observation_cov)
        noise = torch.randn(shape, dtype=states.dtype, device=states.device)
        return self._observed(states) + (factor @ noise[..., None]).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Not available: draws and moments only."""
        raise UnsupportedError(
            "A `Replicate` has draws and moments but no density. Score observations by that of the path itself."
        )

    def _parameters(self) -> LinearGaussianParameters:
        return self.path.parameters.between(0, self.event_shape[0])

    def _observed(self, states: Tensor) -> Tensor:
        return (self._parameters().observation @ states[..., None]).squeeze(-1)
