r"""An exactly diffuse start: states with unknown initial value; docs/derivations.md, (D1) to (D6).

The innovations of the filter are linear in the unknown start, so one filter over the data, and over zeros with a unit
start per diffuse state, gives all quantities of generalised least squares; the covariances are the same for all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._host import on_host
from pyro_seq.errors import NumericalError
from pyro_seq.ops.kalman._algebra import append, common_shape
from pyro_seq.ops.kalman._filter_gradient import Filtered, filter_states
from pyro_seq.ops.kalman._smoother import Smoothed, draw_states, smooth_states
from pyro_seq.ops.kalman.system import System

_SINGULAR = 1e3  # in machine epsilons: a smaller share of information counts as none


def filter_diffuse(system: System, is_parallel: bool) -> Filtered:
    """Moments given the past, (D5) with the observations so far: NaN until these determine the start."""
    run = _run(system, is_parallel)
    start, is_determined = _so_far(run)
    filtered = _settled(run.stack, run.filtered.mean, run.filtered.cov, start, is_determined)
    # before the first observation, the start is determined only if no state is diffuse
    nothing = torch.full_like(is_determined[..., :1], start.mean.shape[-2] == 0)
    is_determined = torch.cat([nothing, is_determined[..., :-1]], -1)
    predicted = _settled(
        run.stack, run.filtered.predicted_mean, run.filtered.predicted_cov, start.delayed(), is_determined
    )
    return Filtered(*filtered, *predicted, _log_likelihood(run, _solve(run)))


def smooth_diffuse(system: System, is_parallel: bool) -> Smoothed:
    """Moments given all observations, (D5)."""
    run = _run(system, is_parallel)
    start = _solve(run)
    result = smooth_states(run.stack.system, run.filtered, is_parallel)
    start_of_all = _Start(*(part.unsqueeze(-3) for part in start))
    mean, spread = start_of_all.shift_and_spread(*run.stack.split(result.mean))
    return Smoothed(
        mean,
        run.stack.of_all(result.cov) + spread @ spread.mT,
        run.stack.of_all(result.cross_cov) + spread[..., :-1, :, :] @ spread[..., 1:, :, :].mT,
        _log_likelihood(run, start),
    )


def draw_diffuse(system: System, num_samples: int, generator: torch.Generator | None, is_parallel: bool) -> Tensor:
    """Paths (sample, *batch, time, state): first the start, then the path given the start, (D6)."""
    start = _solve(_run(system, is_parallel))
    like = start.mean
    noise = torch.randn(
        (num_samples, *system.batch_shape, like.shape[-2], 1), dtype=like.dtype, device=like.device, generator=generator
    )
    noise = torch.linalg.solve_triangular(start.factor.mT, noise, upper=True) / start.scale.mT
    begun = system._replace(
        initial_mean=system.initial_mean + _units(system).mT @ (start.mean + noise),
        batch_shape=torch.Size((num_samples, *system.batch_shape)),
        diffuse=None,
    )
    return draw_states(begun, filter_states(begun, is_parallel), 1, generator, is_parallel)[0]


class _Stack(NamedTuple):
    """The data with the start at its mean, and zeros with a unit start per diffuse state, as one system.

    If covariances do not depend on the series, the unit starts follow the series, once for all; otherwise each series
    has its own, along a new first axis.

    Attributes:
        system: The joint system.
        num_series: Number of series before the unit starts; None if these have a separate axis.
    """

    system: System
    num_series: int | None

    def split(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Columns of the data, (*batch, time, row, 1), and those of unit starts, (..., time, row, diffuse)."""
        if self.num_series is None:
            return columns[0], columns[1:].squeeze(-1).movedim(0, -1)
        units = columns[..., self.num_series :, :, :, :].squeeze(-1)
        return columns[..., : self.num_series, :, :, :], units.movedim(-3, -1)[..., None, :, :, :]

    def of_all(self, covs: Tensor) -> Tensor:
        """Covariances, which are the same for the data and all unit starts, without the axis of these."""
        return covs[0] if self.num_series is None else covs


class _Run(NamedTuple):
    """A filter over the stack; its whitened innovations and those of the unit starts, (D2)."""

    system: System
    stack: _Stack
    filtered: Filtered
    white: Tensor
    slopes: Tensor
    log_det: Tensor


def _run(system: System, is_parallel: bool) -> _Run:
    stack = _stacked(system)
    filtered = filter_states(stack.system, is_parallel)
    observation, predicted_cov = system.observation, stack.of_all(filtered.predicted_cov)
    factor, _ = torch.linalg.cholesky_ex(observation @ predicted_cov @ observation.mT + system.observation_cov)
    data, units = stack.split(stack.system.values - observation @ filtered.predicted_mean)
    white = torch.linalg.solve_triangular(factor, data, upper=False).squeeze(-1)  # (D2)
    slopes = torch.linalg.solve_triangular(factor, units, upper=False)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))
    return _Run(system, stack, filtered, white, slopes, log_det)


def _stacked(system: System) -> _Stack:
    batch, units = system.batch_shape, _units(system)
    matrices = (system.transition, system.transition_cov, system.observation, system.observation_cov)
    of_covs = common_shape(*(matrix.shape[:-3] for matrix in matrices), system.initial_cov.shape[:-2])
    is_shared = bool(batch) and batch[-1] > 1 and (not of_covs or of_covs[-1] == 1)
    if is_shared:
        shape = torch.Size((*batch[:-1], len(units)))
        joined = torch.Size((*batch[:-1], batch[-1] + len(units)))
    else:
        shape, joined = torch.Size((len(units), *batch)), torch.Size((1 + len(units), *batch))

    def before(part: Tensor, others: Tensor, num_axes: int) -> Tensor:
        part = part.expand(*batch, *part.shape[-num_axes:])
        others = others.expand(*shape, *part.shape[-num_axes:])
        return torch.cat([part, others], -1 - num_axes) if is_shared else torch.cat([part[None], others])

    starts = units[..., None] if is_shared else units.reshape(len(units), *(1 for _ in batch), units.shape[-1], 1)
    nothing = system.values.new_zeros(())
    everything = system._replace(
        values=before(system.values, nothing, 3),
        offset=None if system.offset is None else before(system.offset, nothing, 3),
        initial_mean=before(system.initial_mean, starts, 2),
        num_seen=system.num_seen.new_zeros(1),  # densities of the stack mean nothing
        batch_shape=joined,
        diffuse=None,
    )
    return _Stack(everything, batch[-1] if is_shared else None)


def _units(system: System) -> Tensor:
    """A unit vector for each diffuse state, (diffuse, state): the transpose of D in (D1)."""
    mean, diffuse = system.initial_mean, system.diffuse
    assert diffuse is not None
    return torch.eye(mean.shape[-2], dtype=mean.dtype, device=mean.device)[on_host(diffuse)]


class _Start(NamedTuple):
    """The estimated start, and S as a row of scales and the Cholesky factor of S scaled to a unit diagonal."""

    mean: Tensor
    scale: Tensor
    factor: Tensor

    def shift_and_spread(self, mean: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        r"""The mean of (D5), and a root :math:`M S^{-1/2}` of the covariance due to the uncertain start."""
        spread = torch.linalg.solve_triangular(self.factor, (slopes / self.scale).mT, upper=False).mT
        return mean + slopes @ self.mean, spread

    def delayed(self) -> _Start:
        """The same one step earlier; arbitrary before the first."""
        return _Start(*(append(part[..., :1, :, :], part[..., :-1, :, :]) for part in self))


def _by_step(run: _Run) -> tuple[Tensor, Tensor]:
    """The terms of S in (D3), and of S times the estimate."""
    return run.slopes.mT @ run.slopes, -run.slopes.mT @ run.white[..., None]


def _solve(run: _Run) -> _Start:
    """The estimate from all observations, (D3)."""
    information, weighted = (part.sum(-3) for part in _by_step(run))
    scale, factor, is_determined = _factor(information)
    if not is_determined.all():
        raise NumericalError(
            "The observed entries must determine the diffuse states. They do not"
            + (f" in series {(~is_determined).nonzero()[0].tolist()}" if is_determined.ndim else "")
            + ". Observe more steps, or give these states a known start by `diffuse`."
        )
    return _estimate(weighted, scale, factor)


def _so_far(run: _Run) -> tuple[_Start, Tensor]:
    """The estimates from the observations up to each step, and where these exist; arbitrary elsewhere."""
    information, weighted = (part.cumsum(-3) for part in _by_step(run))
    is_determined = _factor(information.detach())[2]
    unit = torch.eye(information.shape[-1], dtype=information.dtype, device=information.device)
    scale, factor, _ = _factor(torch.where(is_determined[..., None, None], information, unit))
    return _estimate(weighted, scale, factor), is_determined


def _factor(information: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    is_informed = diagonal > 0
    scale = torch.where(is_informed, diagonal, 1.0).sqrt()
    factor, failed = torch.linalg.cholesky_ex(information / (scale[..., None] * scale[..., None, :]))
    pivots = factor.detach().diagonal(dim1=-2, dim2=-1).square()
    is_clear = (pivots > _SINGULAR * torch.finfo(pivots.dtype).eps).all(-1)
    return scale[..., None, :], factor, is_informed.all(-1) & is_clear & (failed == 0)


def _estimate(weighted: Tensor, scale: Tensor, factor: Tensor) -> _Start:
    return _Start(torch.cholesky_solve(weighted / scale.mT, factor) / scale.mT, scale, factor)


def _log_likelihood(run: _Run, start: _Start) -> Tensor:
    """(D4)."""
    residual = run.white + (run.slopes @ start.mean.unsqueeze(-3)).squeeze(-1)
    log_det = 2 * (start.factor.diagonal(dim1=-2, dim2=-1).log() + start.scale.squeeze(-2).log()).sum(-1)
    constant = run.system.log_constant(run.system.num_seen.sum(-1))
    return -0.5 * (log_det + residual.square().sum((-2, -1))) - run.log_det - constant


def _settled(stack: _Stack, means: Tensor, covs: Tensor, start: _Start, is_determined: Tensor) -> tuple[Tensor, Tensor]:
    """Moments with the start estimated, NaN where the observations do not determine it."""
    mean, spread = start.shift_and_spread(*stack.split(means))
    is_determined = is_determined[..., None, None]
    return (
        torch.where(is_determined, mean, torch.nan),
        torch.where(is_determined, stack.of_all(covs) + spread @ spread.mT, torch.nan),
    )
