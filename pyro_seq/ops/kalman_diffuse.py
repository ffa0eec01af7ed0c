"""Linear Gaussian state-space models whose initial state is unknown: exact diffuse likelihood, moments and draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.ops._kalman_moments import append, filter_states
from pyro_seq.ops._kalman_system import System, prepare
from pyro_seq.ops.kalman import (
    FilterResult,
    LinearGaussianParameters,
    SmootherResult,
    kalman_smoother,
    sample_posterior,
)

__all__ = ["diffuse_filter", "diffuse_log_likelihood", "diffuse_smoother", "sample_diffuse_posterior"]

_SINGULAR = 1e3  # machine epsilons below which a share of information counts as none


def diffuse_log_likelihood(
    values: Tensor,
    parameters: LinearGaussianParameters,
    mask: Tensor | None = None,
    *,
    diffuse: Tensor | None = None,
    is_parallel: bool = False,
) -> Tensor:
    r"""Exact log-likelihood when nothing is known beforehand about the initial value of some states.

    With :math:`z_1 \sim N(\mu, \Sigma + \kappa D D^T)`, where D selects the d diffuse states, it is the limit

    .. math::
        \log p_\infty(a) = \lim_{\kappa \to \infty} \Big[ \log p_\kappa(a) + \frac d2 \log \kappa \Big]
        = -\frac12 \Big[ n \log 2\pi + \sum_t \log |F_t| + \log |S| + \sum_t \|w_t + W_t \hat\delta\|^2 \Big],
        \qquad S = \sum_t W_t^T W_t, \quad \hat\delta = -S^{-1} \sum_t W_t^T w_t

    by generalised least squares: the innovations of an ordinary filter are linear in the unknown start
    :math:`\delta`, so one filter over the data and over a unit start for each diffuse state (covariances are shared)
    gives the whitened innovations :math:`w_t` and their slopes :math:`W_t`. n counts all observed entries, those that
    determine the start included. This constant is that of Durbin and Koopman and of statsmodels. Where
    others count n - d constants the value moves by :math:`\frac d2 \log 2\pi`; where they leave out
    :math:`\log |S|`, the maximum moves too.

    Mean and covariance in `parameters` of the diffuse states have no effect, beyond rounding; a covariance of about
    that of the observations is best, and may not be zero where the observation is noiseless.

    Cost: that of the filter, with 1 + d means for each series. Differentiable.

    Args:
        values: Observations, ``(*batch, time, obs)``; hidden ones may be anything, NaN included.
        parameters: The model; its initial moments are those of the states that are not diffuse.
        mask: True where observed, ``(*batch, time)`` or ``(*batch, time, obs)``; None when all are.
        diffuse: True for the diffuse states, ``(state,)``; None when all are.
        is_parallel: Whether to run in parallel over time.

    Returns:
        Log-likelihood in nats, ``(*batch,)``.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If an observed value is not finite, or dtypes or devices differ.
        NumericalError: If the observed entries do not determine the diffuse states, or the covariance of an
            innovation is not positive definite.

    Example:
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> values = torch.tensor([[1000.0], [1001.0]])
        >>> difference = torch.distributions.Normal(0.0, 3**0.5).log_prob(torch.tensor(1.0))
        >>> constant = torch.tensor(2 * torch.pi).log() / 2
        >>> torch.allclose(diffuse_log_likelihood(values, walk), difference - constant)
        True

    References:
        de Jong, "The diffuse Kalman filter", Annals of Statistics, 1991. Durbin, Koopman, "Time Series Analysis by
        State Space Methods", 2012, chapters 5 and 7.2.
    """
    run = _run(values, parameters, mask, diffuse, is_parallel)
    return _log_likelihood(run, *_solve(_Start.total(run)))


def diffuse_filter(
    values: Tensor,
    parameters: LinearGaussianParameters,
    mask: Tensor | None = None,
    *,
    diffuse: Tensor | None = None,
    is_parallel: bool = False,
) -> FilterResult:
    """Moments of each state given the past, without any knowledge of the initial value of some.

    Moments are NaN while the observations so far do not determine all diffuse states, for variances are infinite
    there.

    Args:
        values: Observations, ``(*batch, time, obs)``.
        parameters: The model; see :func:`diffuse_log_likelihood`.
        mask: True where observed, ``(*batch, time)`` or ``(*batch, time, obs)``; None when all are.
        diffuse: True for the diffuse states, ``(state,)``; None when all are.
        is_parallel: Whether to run in parallel over time.

    Returns:
        Filtered and predicted moments, and the log-likelihood of :func:`diffuse_log_likelihood`.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If an observed value is not finite, or dtypes or devices differ.
        NumericalError: As in :func:`diffuse_log_likelihood`.
    """
    run = _run(values, parameters, mask, diffuse, is_parallel)
    after = _Start.so_far(run)
    filtered = _settled(run.means, run.covs, after)
    predicted = _settled(run.predicted_means, run.predicted_covs, after.delayed())
    return FilterResult(*filtered, *predicted, _log_likelihood(run, *_solve(_Start.total(run))))


def diffuse_smoother(
    values: Tensor,
    parameters: LinearGaussianParameters,
    mask: Tensor | None = None,
    *,
    diffuse: Tensor | None = None,
    is_parallel: bool = False,
) -> SmootherResult:
    r"""Moments of each state given all observations, without any knowledge of the initial value of some.

    .. math::
        m_{t|T} = m^0_{t|T} + M_t \hat\delta, \qquad P_{t|T} = P^0_{t|T} + M_t S^{-1} M_t^T

    where :math:`m^0, P^0` come from the smoother with the start at zero, and the columns of :math:`M_t` from the
    smoother over data that are zero, with unit starts.

    Args:
        values: Observations, ``(*batch, time, obs)``.
        parameters: The model; see :func:`diffuse_log_likelihood`.
        mask: True where observed, ``(*batch, time)`` or ``(*batch, time, obs)``; None when all are.
        diffuse: True for the diffuse states, ``(state,)``; None when all are.
        is_parallel: Whether to run in parallel over time.

    Returns:
        Smoothed moments, covariances of neighbours, and the log-likelihood of :func:`diffuse_log_likelihood`.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If an observed value is not finite, or dtypes or devices differ.
        NumericalError: As in :func:`diffuse_log_likelihood`, or if the covariance of a prediction is indefinite.

    Example:
        >>> one = torch.ones(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> diffuse_smoother(torch.tensor([[1.0], [5.0]]), walk).smoothed_means.squeeze(-1)
        tensor([2.3333, 3.6667])
    """
    run = _run(values, parameters, mask, diffuse, is_parallel)
    start, scale, factor = _solve(_Start.total(run))
    result = kalman_smoother(*_stacked(values, parameters, mask, run.system, run.chosen), is_parallel=is_parallel)
    means = result.smoothed_means.movedim(0, -1)
    slopes = means[..., 1:]
    spread = _spread(slopes, scale[..., None, :], factor[..., None, :, :])
    return SmootherResult(
        means[..., 0] + (slopes @ start[..., None, :, None]).squeeze(-1),
        result.smoothed_covs[0] + spread @ spread.mT,
        result.cross_covs[0] + spread[..., :-1, :, :] @ spread[..., 1:, :, :].mT,
        _log_likelihood(run, start, scale, factor),
    )


def sample_diffuse_posterior(
    values: Tensor,
    parameters: LinearGaussianParameters,
    mask: Tensor | None = None,
    *,
    num_samples: int,
    diffuse: Tensor | None = None,
    generator: torch.Generator | None = None,
    is_parallel: bool = False,
) -> Tensor:
    """Draw whole paths of the state given all observations: first the start, then the path given the start.

    Args:
        values: Observations, ``(*batch, time, obs)``.
        parameters: The model; see :func:`diffuse_log_likelihood`.
        mask: True where observed, ``(*batch, time)`` or ``(*batch, time, obs)``; None when all are.
        num_samples: How many joint draws.
        diffuse: True for the diffuse states, ``(state,)``; None when all are.
        generator: Source of randomness, on the device of `values`; None is torch's global one.
        is_parallel: Whether to run in parallel over time.

    Returns:
        Paths, ``(sample, *batch, time, state)``.

    Raises:
        ShapeError: If shapes do not fit.
        DataError: If `num_samples` is negative, an observed value is not finite, or dtypes or devices differ.
        NumericalError: As in :func:`diffuse_smoother`.
    """
    if num_samples < 0:
        raise DataError(f"`num_samples` must be at least 0. Got {num_samples}.")
    run = _run(values, parameters, mask, diffuse, is_parallel)
    start, scale, factor = _solve(_Start.total(run))
    batch, state = run.system.batch_shape, parameters.initial_mean.shape[-1]
    noise = torch.randn(
        (num_samples, *batch, start.shape[-1], 1), dtype=values.dtype, device=values.device, generator=generator
    )
    unit = torch.linalg.solve_triangular(factor.mT, noise, upper=True).squeeze(-1) / scale
    directions = torch.eye(state, dtype=values.dtype, device=values.device)[run.chosen]
    begun = parameters._replace(initial_mean=parameters.initial_mean + (start + unit) @ directions)
    shape = (num_samples, *batch, *values.shape[-2:])
    if mask is not None:
        mask = (mask if mask.ndim == values.ndim else mask[..., None]).expand(shape)
    return sample_posterior(
        values.expand(shape), begun, mask, num_samples=1, generator=generator, is_parallel=is_parallel
    )[0]


class _Run(NamedTuple):
    """A filter over the data and over unit starts; the last axis of means counts the data first, then the starts."""

    system: System
    chosen: Tensor
    means: Tensor
    covs: Tensor
    predicted_means: Tensor
    predicted_covs: Tensor
    white: Tensor
    slopes: Tensor
    log_det: Tensor


class _Start(NamedTuple):
    """What observations say of the start: information S, and S times the estimate."""

    information: Tensor
    weighted: Tensor

    @classmethod
    def total(cls, run: _Run) -> _Start:
        return cls(*(part.sum(-3) for part in cls._by_step(run))).squeezed()

    @classmethod
    def so_far(cls, run: _Run) -> _Start:
        return cls(*(part.cumsum(-3) for part in cls._by_step(run))).squeezed()

    @staticmethod
    def _by_step(run: _Run) -> tuple[Tensor, Tensor]:
        return run.slopes.mT @ run.slopes, -run.slopes.mT @ run.white[..., None]

    def squeezed(self) -> _Start:
        return self._replace(weighted=self.weighted.squeeze(-1))

    def delayed(self) -> _Start:
        """The same one step earlier."""
        information = append(torch.zeros_like(self.information[..., :1, :, :]), self.information[..., :-1, :, :])
        weighted = torch.cat([torch.zeros_like(self.weighted[..., :1, :]), self.weighted[..., :-1, :]], -2)
        return _Start(information, weighted)


def _run(
    values: Tensor,
    parameters: LinearGaussianParameters,
    mask: Tensor | None,
    diffuse: Tensor | None,
    is_parallel: bool,
) -> _Run:
    system = prepare(values, parameters, mask)
    chosen = _chosen(diffuse, parameters)
    stacked = prepare(*_stacked(values, parameters, mask, system, chosen))
    filtered = filter_states(stacked, is_parallel)
    system = stacked._replace(batch_shape=system.batch_shape, num_seen=stacked.num_seen[0])
    # the covariances are the same for all starts; a mask has repeated them
    covs, predicted_covs = (_first(matrix, system) for matrix in (filtered.cov, filtered.predicted_cov))
    observation, observation_cov = (_first(m, system) for m in (system.observation, system.observation_cov))
    innovations = (system.values - system.observation @ filtered.predicted_mean).squeeze(-1).movedim(0, -1)
    factor, _ = torch.linalg.cholesky_ex(observation @ predicted_covs @ observation.mT + observation_cov)
    white = torch.linalg.solve_triangular(factor, innovations, upper=False)
    return _Run(
        system,
        chosen,
        filtered.mean.squeeze(-1).movedim(0, -1),
        covs,
        filtered.predicted_mean.squeeze(-1).movedim(0, -1),
        predicted_covs,
        white[..., 0],
        white[..., 1:],
        factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1)),
    )


def _log_likelihood(run: _Run, start: Tensor, scale: Tensor, factor: Tensor) -> Tensor:
    residual = run.white + (run.slopes @ start[..., None, :, None]).squeeze(-1)
    log_det = 2 * (factor.diagonal(dim1=-2, dim2=-1).log() + scale.log()).sum(-1)
    constant = run.system.num_seen.sum(-1) * torch.log(residual.new_tensor(2 * torch.pi))
    whole = -0.5 * (constant + log_det + residual.square().sum((-2, -1))) - run.log_det
    return whole.expand(run.system.batch_shape)


def _first(matrix: Tensor, system: System) -> Tensor:
    return matrix[0] if matrix.ndim > 3 + len(system.batch_shape) else matrix


def _chosen(diffuse: Tensor | None, parameters: LinearGaussianParameters) -> Tensor:
    state = parameters.initial_mean.shape[-1:]
    if diffuse is None:
        return torch.ones(state, dtype=torch.bool, device=parameters.initial_mean.device)
    if diffuse.dtype != torch.bool or diffuse.shape != state:
        raise ShapeError(
            f"`diffuse` must be boolean with an entry for each state, (state {state[0]},). "
            f"Got {diffuse.dtype} {tuple(diffuse.shape)}."
        )
    return diffuse


def _stacked(
    values: Tensor, parameters: LinearGaussianParameters, mask: Tensor | None, system: System, chosen: Tensor
) -> tuple[Tensor, LinearGaussianParameters, Tensor | None]:
    """The data with the start at its mean, and in front of their axes also zeros with a unit start each."""
    batch = system.batch_shape
    state = parameters.initial_mean.shape[-1]
    starts = torch.eye(state, dtype=values.dtype, device=values.device)[chosen]

    def beside_zeros(part: Tensor, num_axes: int) -> Tensor:
        part = part.expand(*batch, *part.shape[part.ndim - num_axes :])[None]
        return torch.cat([part, torch.zeros_like(part).expand(len(starts), *part.shape[1:])])

    mean = parameters.initial_mean.expand(*batch, state)[None]
    units = starts.reshape(-1, *(1 for _ in batch), state).expand(-1, *batch, state)
    inputs = parameters.inputs
    parameters = parameters._replace(
        initial_mean=torch.cat([mean, units]), inputs=None if inputs is None else beside_zeros(inputs, 2)
    )
    if mask is not None:
        entries = mask if mask.ndim == values.ndim else mask[..., None]
        mask = entries.expand(1 + len(starts), *batch, *values.shape[-2:])
    return beside_zeros(values, 2), parameters, mask


def _solve(start: _Start) -> tuple[Tensor, Tensor, Tensor]:
    """Estimate of the start, and its information as a scale and the Cholesky factor of what then has ones."""
    scale, factor, is_determined = _factor(start.information)
    if not is_determined.all():
        raise NumericalError(
            "The observed entries must determine the diffuse states. They do not"
            + (f" in series {(~is_determined).nonzero()[0].tolist()}" if is_determined.ndim else "")
            + ". Observe more steps, or give these states a known start by `diffuse`."
        )
    return _estimate(start, scale, factor), scale, factor


def _factor(information: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    is_informed = diagonal > 0
    scale = torch.where(is_informed, diagonal, 1.0).sqrt()
    factor, failed = torch.linalg.cholesky_ex(information / (scale[..., None] * scale[..., None, :]))
    pivots = factor.detach().diagonal(dim1=-2, dim2=-1).square()
    is_clear = (pivots > _SINGULAR * torch.finfo(pivots.dtype).eps).all(-1)
    return scale, factor, is_informed.all(-1) & is_clear & (failed == 0)


def _estimate(start: _Start, scale: Tensor, factor: Tensor) -> Tensor:
    return torch.cholesky_solve((start.weighted / scale)[..., None], factor).squeeze(-1) / scale


def _spread(slopes: Tensor, scale: Tensor, factor: Tensor) -> Tensor:
    r"""A root of what the uncertain start adds to the covariances, :math:`M S^{-1/2}`."""
    return torch.linalg.solve_triangular(factor, (slopes / scale[..., None, :]).mT, upper=False).mT


def _settled(means: Tensor, covs: Tensor, start: _Start) -> tuple[Tensor, Tensor]:
    """Moments with the start estimated from what has been seen, NaN where that does not determine it."""
    is_determined = _factor(start.information.detach())[2]
    unknown = torch.eye(start.weighted.shape[-1], dtype=means.dtype, device=means.device)
    start = start._replace(information=torch.where(is_determined[..., None, None], start.information, unknown))
    scale, factor, _ = _factor(start.information)
    slopes = means[..., 1:]
    mean = means[..., 0] + (slopes @ _estimate(start, scale, factor)[..., None]).squeeze(-1)
    spread = _spread(slopes, scale, factor)
    return (
        torch.where(is_determined[..., None], mean, torch.nan),
        torch.where(is_determined[..., None, None], covs + spread @ spread.mT, torch.nan),
    )
