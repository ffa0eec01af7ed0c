"""Paths of observations of a linear Gaussian state, with the state integrated out."""

from __future__ import annotations

from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import GaussianHMM, constraints
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.distributions.gaussian_hmm import from_hmm, to_hmm
from pyro_seq.distributions.path import PathDistribution
from pyro_seq.distributions.replicate import Replicate
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import (
    FilterResult,
    LinearGaussianParameters,
    SmootherResult,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
    simulate,
)
from pyro_seq.ops.short_path import short_path_log_density


class LinearGaussian(PathDistribution):
    r"""Distribution of whole paths :math:`a_{1:T}` that a hidden linear Gaussian state emits; event (time, obs).

    .. math::
        z_1 \sim N(\mu, \Sigma), \qquad
        z_t = A_t z_{t-1} + B_t u_t + N(0, Q_t), \qquad
        a_t = C_t z_t + N(0, R_t), \qquad
        \log p(a) = \log \int p(a, z)\, dz

    The density is exact, by the Kalman filter in covariance form. Unlike in `pyro.distributions.GaussianHMM`, there is
    no transition before the first observation; `from_gaussian_hmm` and `to_gaussian_hmm` convert. Masked entries are
    integrated out as well: `log_prob` ignores them, draws fill them.

    With :attr:`LinearGaussianParameters.diffuse` the start of some states is unknown, and the density is the limit that
    :func:`pyro_seq.ops.kalman.kalman_filter` defines: proper once enough entries are observed, and suitable for maximum
    likelihood and as the likelihood of a Bayesian fit (a flat prior on the start). Such a path cannot be drawn without
    observations; given observations, use `future`, `replicate` and `sample_states`.

    Args:
        parameters: The model. Its time axes may be longer than `num_steps`; the rest is for :meth:`future`.
        num_steps: Length of a path; None takes the length of the parameters.
        mask: True where observed, ``(*batch, time, obs)``, or ``(*batch, time, 1)`` for whole steps; None if all are.
        batch_shape: Leading axes beyond those of the parameters.
        is_parallel: Whether to run in parallel over time; None decides by the sizes. See
            :func:`pyro_seq.ops.kalman.kalman_filter`.

    Raises:
        ShapeError: If the length is unknown or longer than the parameters, or the mask does not fit.

    Example:
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> paths = LinearGaussian(walk, 3)
        >>> values = torch.tensor([[2.0], [3.0], [2.0]])
        >>> paths.future(values, 2).mean.squeeze(-1)
        tensor([2.0769, 2.0769])

        With an unknown start:

        >>> unknown = LinearGaussian(walk._replace(diffuse=torch.tensor([True])), 2)
        >>> unknown.future(torch.tensor([[1.0], [5.0]]), 3).mean.squeeze(-1)
        tensor([3.6667, 3.6667, 3.6667])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.independent(constraints.real, 2)

    def __init__(
        self,
        parameters: LinearGaussianParameters,
        num_steps: int | None = None,
        *,
        mask: Tensor | None = None,
        batch_shape: torch.Size = torch.Size(),
        is_parallel: bool | None = None,
        validate_args: bool | None = None,
    ) -> None:
        known = parameters.num_steps
        num_steps = known if num_steps is None else num_steps
        if num_steps is None or num_steps < 1 or (known is not None and known < num_steps):
            raise ShapeError(
                f"`num_steps` must be at least 1 and at most the length of the parameters. Got {num_steps} for "
                f"{'parameters that are constant' if known is None else f'{known} steps'}. Pass the length of the path."
            )
        self.parameters = parameters
        self.is_parallel = is_parallel
        batch = _batch_shape(parameters.between(0, num_steps), torch.Size(batch_shape))
        event = torch.Size((num_steps, parameters.observation.shape[-2]))
        self.mask_of_entries = None if mask is None else _entry_mask(mask, event)
        if self.mask_of_entries is not None:
            batch = torch.broadcast_shapes(batch, self.mask_of_entries.shape[:-2])
        super().__init__(batch, event, validate_args=validate_args)

    @classmethod
    def from_gaussian_hmm(cls, hmm: GaussianHMM, *, num_steps: int | None = None) -> LinearGaussian:
        """The same distribution of paths as a `pyro.distributions.GaussianHMM`, for use with the library's verbs.

        Pyro's transition before the first observation becomes part of the start. If a noise of `hmm` has a nonzero
        mean, the state has an additional last entry that is always 1.

        Args:
            hmm: Distribution of any batch shape, with constant or time-varying parts.
            num_steps: Length of a path, if `hmm` has no length.

        Raises:
            DataError: When `hmm` is not a `GaussianHMM`.
            ShapeError: When the length is unknown, or differs from that of `hmm`.
            UnsupportedError: When `hmm` was changed by its `conjugate_update`.

        Example:
            >>> import pyro
            >>> one, noise = torch.eye(1), pyro.distributions.Normal(torch.zeros(1), 1.0).to_event(1)
            >>> hmm = pyro.distributions.GaussianHMM(noise, one, noise, one, noise, duration=3)
            >>> LinearGaussian.from_gaussian_hmm(hmm).parameters.initial_cov
            tensor([[2.]])
        """
        parameters, num_steps = from_hmm(hmm, num_steps)
        return cls(parameters, num_steps, batch_shape=hmm.batch_shape)

    def to_gaussian_hmm(self) -> GaussianHMM:
        """The same distribution of paths as a `pyro.distributions.GaussianHMM`, whose first transition gives the start.

        Raises:
            UnsupportedError: When entries are hidden, a start is diffuse, or a covariance is singular: Pyro's class
                does not support masks and stores precisions.
        """
        if self.mask_of_entries is not None and not bool(on_host(self.mask_of_entries).all()):
            raise UnsupportedError(
                "`GaussianHMM` has no masks, and some entries are hidden. Keep the `LinearGaussian`."
            )
        return to_hmm(self.parameters.between(0, self.num_steps), self.num_steps, self.batch_shape)

    @property
    def num_steps(self) -> int:
        """Length of a path."""
        return self.event_shape[0]

    @property
    def mean(self) -> Tensor:
        """Mean of each entry, ``(*batch, time, obs)``."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of each entry, ``(*batch, time, obs)``."""
        return self._moments()[1]

    def entries(self) -> dist.Normal:
        """Marginal distribution of each entry, batch ``(*batch, time, obs)``."""
        mean, variance = self._moments()
        return dist.Normal(mean, variance.sqrt(), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: None = None) -> LinearGaussian:
        """The same distribution over a larger batch."""
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return LinearGaussian(
            self.parameters,
            self.num_steps,
            mask=self.mask_of_entries,
            batch_shape=torch.Size(batch_shape),
            is_parallel=self.is_parallel,
            validate_args=False,
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Exact log density of the observed entries, ``(*batch,)``."""
        arguments = self._arguments(value)
        density = short_path_log_density(*arguments) if self.is_parallel is None else None
        return self.filter(value).log_likelihood if density is None else density

    def rsample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw paths, hidden entries included; gradients reach all parameters. Not available with a diffuse start."""
        return simulate(
            self.parameters.between(0, self.num_steps),
            self.num_steps,
            sample_shape=sample_shape,
            batch_shape=self.batch_shape,
            is_parallel=self.is_parallel,
        ).values

    def filter(self, value: Tensor) -> FilterResult:
        """Moments of each state given the path up to it, and before it; NaN while a diffuse start is undetermined."""
        return kalman_filter(*self._arguments(value), is_parallel=self.is_parallel)

    def smooth(self, value: Tensor) -> SmootherResult:
        """Moments of each state given the whole path."""
        return kalman_smoother(*self._arguments(value), is_parallel=self.is_parallel)

    def sample_states(self, value: Tensor, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw whole paths of the state given a path, ``(sample, *batch, time, state)``."""
        return sample_posterior(
            *self._arguments(value), num_samples=num_samples, generator=generator, is_parallel=self.is_parallel
        )

    def future(self, value: Tensor, horizon: int) -> LinearGaussian:
        """Distribution of the next `horizon` observations given the observed entries of a path.

        Parameters that change over time must cover the horizon.
        """
        self._check_horizon(horizon)
        start, stop = self.num_steps, self.num_steps + horizon
        last = self.filter(value)
        parameters = self.parameters.between(start, stop)
        # one hidden step from the last state on gives the state at the first new observation
        mean, cov = last.filtered_means[..., -1, :], last.filtered_covs[..., -1, :, :]
        both = self.parameters.between(start - 1, start + 1)._replace(initial_mean=mean, initial_cov=cov, diffuse=None)
        hidden = value.new_zeros((*mean.shape[:-1], 2, self.event_shape[-1]))
        ahead = kalman_filter(hidden, both, torch.zeros_like(hidden, dtype=torch.bool))
        parameters = parameters._replace(
            initial_mean=ahead.predicted_means[..., 1, :], initial_cov=ahead.predicted_covs[..., 1, :, :], diffuse=None
        )
        return LinearGaussian(parameters, horizon, is_parallel=self.is_parallel)

    def replicate(self, value: Tensor) -> Replicate:
        """Distribution of replicated observations of the hidden path, and of missing entries, given the observed ones.

        The predictive verbs draw a site ``x`` from it, see :class:`pyro_seq.distributions.replicate.Replicate`.
        """
        return Replicate(self, value)

    def _check_horizon(self, horizon: int) -> None:
        """Raise if the horizon is empty or the parameters do not cover it."""
        known = self.parameters.num_steps
        if horizon < 1 or (known is not None and known < self.num_steps + horizon):
            raise ShapeError(
                f"`horizon` must be at least 1, and the parameters must cover it. Got {horizon} after {self.num_steps} "
                f"steps, with parameters for {'every step' if known is None else f'{known} steps'}."
            )

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Means and variances of the entries."""
        hidden = self.parameters.initial_mean.new_zeros(self.batch_shape + self.event_shape)
        parameters = self.parameters.between(0, self.num_steps)
        states = kalman_filter(hidden, parameters, torch.zeros_like(hidden, dtype=torch.bool))
        mean = (parameters.observation @ states.predicted_means[..., None]).squeeze(-1)
        cov = parameters.observation @ states.predicted_covs @ parameters.observation.mT + parameters.observation_cov
        return mean, cov.diagonal(dim1=-2, dim2=-1)

    def _arguments(self, value: Tensor) -> tuple[Tensor, LinearGaussianParameters, Tensor | None]:
        """Arguments of the functions of `pyro_seq.ops.kalman`: values of a path, parameters of its steps, mask."""
        if value.shape[-2:] != self.event_shape:
            raise ShapeError(
                f"A path must be (*batch, time {self.num_steps}, obs {self.event_shape[1]}). Got {tuple(value.shape)}."
            )
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape))
        return value, self.parameters.between(0, self.num_steps), self.mask_of_entries


def _batch_shape(parameters: LinearGaussianParameters, batch: torch.Size) -> torch.Size:
    matrices = [matrix for matrix in (*parameters[:4], parameters.input_matrix) if matrix is not None]
    shapes = [matrix.shape[:-3] for matrix in matrices]
    shapes += [parameters.initial_mean.shape[:-1], parameters.initial_cov.shape[:-2]]
    shapes += [] if parameters.inputs is None else [parameters.inputs.shape[:-2]]
    return torch.broadcast_shapes(*shapes, batch)


def _entry_mask(mask: Tensor, event: torch.Size) -> Tensor:
    if mask.dtype != torch.bool:
        raise DataError(f"`mask` must be boolean, True where observed. Got {mask.dtype}. Convert it with `.bool()`.")
    if mask.ndim < 2 or mask.shape[-2] != event[0] or mask.shape[-1] not in (1, event[1]):
        raise ShapeError(
            f"`mask` must be (*batch, time {event[0]}, obs {event[1]} or 1). Got {tuple(mask.shape)}. "
            "Add an axis to a mask over steps with `mask[..., None]`."
        )
    return mask.expand(*mask.shape[:-1], event[1])
