"""Paths of observations of a linear Gaussian state of which nothing is known beforehand."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.distributions.replicate import Replicate
from pyro_seq.errors import UnsupportedError
from pyro_seq.ops.kalman import FilterResult, LinearGaussianParameters, SmootherResult
from pyro_seq.ops.kalman_diffuse import (
    diffuse_filter,
    diffuse_log_likelihood,
    diffuse_smoother,
    sample_diffuse_posterior,
)


class DiffuseLinearGaussian(PathDistribution):
    r"""A :class:`LinearGaussian` path with an exactly diffuse start; event (time, obs).

    .. math::
        z_1 \sim N(\mu, \Sigma + \kappa D D^T), \quad \kappa \to \infty

    for the states that D selects. The density is that of :func:`pyro_seq.ops.kalman_diffuse.diffuse_log_likelihood`: it
    is proper once enough entries have been observed, and fit for maximum likelihood and as the likelihood of a
    Bayesian fit (a flat prior on the start). There are no draws of a path before anything was observed; what follows
    observations is proper: `future`, `replicate` and `sample_states`.

    Args:
        parameters: The model. The initial covariance of diffuse states has no effect; take about that of the
            observations. Time axes may be longer than `num_steps`; the rest is for :meth:`future`.
        num_steps: Length of a path; None takes that of the parameters.
        diffuse: True for the diffuse states, ``(state,)``; None when all are.
        mask: True where observed, ``(*batch, time, obs)``, or ``(*batch, time, 1)`` for whole steps; None when all
            are.
        batch_shape: Leading axes beyond those of the parameters.
        is_parallel: Whether to run in parallel over time; see :func:`pyro_seq.ops.kalman.kalman_filter`.

    Raises:
        ShapeError: If the length is unknown or longer than the parameters, or the mask does not fit.

    Example:
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> paths = DiffuseLinearGaussian(walk, 2)
        >>> paths.future(torch.tensor([[1.0], [5.0]]), 3).mean.squeeze(-1)
        tensor([3.6667, 3.6667, 3.6667])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)
    has_rsample = False

    def __init__(
        self,
        parameters: LinearGaussianParameters,
        num_steps: int | None = None,
        *,
        diffuse: Tensor | None = None,
        mask: Tensor | None = None,
        batch_shape: torch.Size = torch.Size(),
        is_parallel: bool = True,
        validate_args: bool | None = None,
    ) -> None:
        # the same path from a known start: shapes, checks, and what the routines take
        self.known = LinearGaussian(parameters, num_steps, mask=mask, batch_shape=batch_shape, is_parallel=is_parallel)
        self.parameters = parameters
        self.diffuse = diffuse
        self.is_parallel = is_parallel
        super().__init__(self.known.batch_shape, self.known.event_shape, validate_args=validate_args)

    @property
    def num_steps(self) -> int:
        """Length of a path."""
        return self.event_shape[0]

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> DiffuseLinearGaussian:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return DiffuseLinearGaussian(
            self.parameters,
            self.num_steps,
            diffuse=self.diffuse,
            mask=self.known.mask_of_entries,
            batch_shape=torch.Size(batch_shape),
            is_parallel=self.is_parallel,
            validate_args=False,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact diffuse log density of the observed entries, ``(*batch,)``."""
        return diffuse_log_likelihood(*self.known.arguments(value), diffuse=self.diffuse, is_parallel=self.is_parallel)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Not available: a diffuse start is not a proper distribution."""
        raise UnsupportedError(
            "A path with a diffuse start cannot be drawn before anything is observed. Use `future` or `replicate` of "
            "observations, or a `LinearGaussian` with a known start."
        )

    def filter(self, value: Tensor) -> FilterResult:
        """Moments of each state given the path up to it, and before it; NaN while the start is undetermined."""
        return diffuse_filter(*self.known.arguments(value), diffuse=self.diffuse, is_parallel=self.is_parallel)

    def smooth(self, value: Tensor) -> SmootherResult:
        """Moments of each state given the whole path."""
        return diffuse_smoother(*self.known.arguments(value), diffuse=self.diffuse, is_parallel=self.is_parallel)

    def sample_states(self, value: Tensor, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw whole paths of the state given a path, ``(sample, *batch, time, state)``."""
        return sample_diffuse_posterior(
            *self.known.arguments(value),
            num_samples=num_samples,
            diffuse=self.diffuse,
            generator=generator,
            is_parallel=self.is_parallel,
        )

    def future(self, value: Tensor, horizon: int) -> LinearGaussian:
        """Distribution of the next `horizon` observations given those of a path that are not hidden.

        Parameters that change over time must cover the horizon.
        """
        self.known.check_horizon(horizon)
        start = self.num_steps
        last = self.filter(value)
        mean, cov = last.filtered_means[..., -1, :], last.filtered_covs[..., -1, :, :]
        parameters = self.parameters.between(start - 1, start + horizon)
        # one step, hidden, that starts from the last state
        value = value.new_zeros((*mean.shape[:-1], 1, self.event_shape[1]))
        path = LinearGaussian(
            parameters._replace(initial_mean=mean, initial_cov=cov),
            1,
            mask=torch.zeros_like(value, dtype=torch.bool),
            is_parallel=self.is_parallel,
        )
        return path.future(value, horizon)

    def replicate(self, value: Tensor) -> Replicate:
        """Distribution of second observations of the hidden path, given the first: imputations where these are hidden.

        The predictive verbs draw a site ``x`` from it, see :class:`pyro_seq.distributions.replicate.Replicate`.
        """
        return Replicate(self, value)
