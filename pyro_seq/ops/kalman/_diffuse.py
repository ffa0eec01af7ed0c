r"""An exactly diffuse start: states of whose initial value nothing is known; docs/derivations.md, (D1) to (D6).

The innovations of the filter are linear in the unknown start, so one filter over the data, and over zeros from a unit
start for each diffuse state, gives all that generalised least squares needs; the covariances are the same for all.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import NumericalError
from pyro_seq.ops.kalman._algebra import append
from pyro_seq.ops.kalman._filter_gradient import Filtered, filter_states
from pyro_seq.ops.kalman._smoother import Smoothed, draw_states, smooth_states
from pyro_seq.ops.kalman.system import System

_SINGULAR = 1e3  # machine epsilons below which a share of information counts as none


def filter_diffuse(system: System, is_parallel: bool) -> Filtered:
    """Moments given the past, (D5) with what has been seen so far: NaN while that does not determine the start."""
    run = _run(system, is_parallel)
    after = _Information.so_far(run)
    filtered = _settled(run.filtered.mean, run.filtered.cov, after)
    predicted = _settled(run.filtered.predicted_mean, run.filtered.predicted_cov, after.delayed())
    return Filtered(*filtered, *predicted, _log_likelihood(run, _solve(run)))


def smooth_diffuse(system: System, is_parallel: bool) -> Smoothed:
    """Moments given all observations, (D5)."""
    run = _run(system, is_parallel)
    start = _solve(run)
    result = smooth_states(run.stacked, run.filtered, is_parallel)
    means = _side_by_side(result.mean)
    spread = start.along_time().spread(means[..., 1:])
    return Smoothed(
        means[..., :1] + means[..., 1:] @ start.mean[..., None, :, None],
        result.cov[0] + spread @ spread.mT,
        result.cross_cov[0] + spread[..., :-1, :, :] @ spread[..., 1:, :, :].mT,
        _log_likelihood(run, start),
    )


def draw_diffuse(system: System, num_samples: int, generator: torch.Generator | None, is_parallel: bool) -> Tensor:
    """Paths (sample, *batch, time, state): first the start, then the path given the start, (D6)."""
    start = _solve(_run(system, is_parallel))
    like = start.mean
    noise = torch.randn(
        (num_samples, *system.batch_shape, like.shape[-1], 1), dtype=like.dtype, device=like.device, generator=generator
    )
    noise = torch.linalg.solve_triangular(start.factor.mT, noise, upper=True).squeeze(-1) / start.scale
    begun = system._replace(
        initial_mean=system.initial_mean + ((start.mean + noise) @ _units(system))[..., None],
        batch_shape=torch.Size((num_samples, *system.batch_shape)),
        diffuse=None,
    )
    return draw_states(begun, filter_states(begun, is_parallel), 1, generator, is_parallel)[0]


class _Run(NamedTuple):
    """A filter over the data and, behind it along the first axis, over unit starts; its whitened innovations, (D2)."""

    system: System
    stacked: System
    filtered: Filtered
    white: Tensor
    slopes: Tensor
    log_det: Tensor


def _run(system: System, is_parallel: bool) -> _Run:
    stacked = _stacked(system)
    filtered = filter_states(stacked, is_parallel)
    observation, predicted_cov = system.observation, filtered.predicted_cov[0]
    innovations = _side_by_side(stacked.values - observation @ filtered.predicted_mean)
    factor, _ = torch.linalg.cholesky_ex(observation @ predicted_cov @ observation.mT + system.observation_cov)
    white = torch.linalg.solve_triangular(factor, innovations, upper=False)  # (D2)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum((-2, -1))
    return _Run(system, stacked, filtered, white[..., 0], white[..., 1:], log_det)


def _stacked(system: System) -> System:
    """The data with the start at its mean, and behind them along a new first axis zeros with a unit start each."""
    batch, units = system.batch_shape, _units(system)

    def before_zeros(part: Tensor) -> Tensor:
        part = part.expand(*batch, *part.shape[-3:])[None]
        return torch.cat([part, torch.zeros_like(part).expand(len(units), *part.shape[1:])])

    mean = system.initial_mean.expand(*batch, -1, -1)[None]
    starts = units.reshape(-1, *(1 for _ in batch), units.shape[-1], 1).expand(-1, *mean.shape[1:])
    return system._replace(
        values=before_zeros(system.values),
        offset=None if system.offset is None else before_zeros(system.offset),
        initial_mean=torch.cat([mean, starts]),
        batch_shape=torch.Size((1 + len(units), *batch)),
        diffuse=None,
    )


def _units(system: System) -> Tensor:
    """A unit vector for each diffuse state, (diffuse, state): the transpose of D in (D1)."""
    mean = system.initial_mean
    return torch.eye(mean.shape[-2], dtype=mean.dtype, device=mean.device)[system.diffuse]


def _side_by_side(columns: Tensor) -> Tensor:
    """Columns of the data and of all unit starts as one matrix: (1 + diffuse, *batch, time, row, 1) without the 1."""
    return columns.squeeze(-1).movedim(0, -1)


class _Information(NamedTuple):
    """What observations say of the start: S of (D3), and S times the estimate."""

    information: Tensor
    weighted: Tensor

    @classmethod
    def total(cls, run: _Run) -> _Information:
        return cls(*(part.sum(-3) for part in cls._by_step(run)))

    @classmethod
    def so_far(cls, run: _Run) -> _Information:
        return cls(*(part.cumsum(-3) for part in cls._by_step(run)))

    @staticmethod
    def _by_step(run: _Run) -> tuple[Tensor, Tensor]:
        return run.slopes.mT @ run.slopes, -run.slopes.mT @ run.white[..., None]

    def delayed(self) -> _Information:
        """The same one step earlier."""
        return _Information(*(append(torch.zeros_like(part[..., :1, :, :]), part[..., :-1, :, :]) for part in self))


class _Start(NamedTuple):
    """The estimated start, and S as a scale and the Cholesky factor of what then has ones on its diagonal."""

    mean: Tensor
    scale: Tensor
    factor: Tensor

    def along_time(self) -> _Start:
        """With an axis of time."""
        return _Start(self.mean[..., None, :], self.scale[..., None, :], self.factor[..., None, :, :])

    def spread(self, slopes: Tensor) -> Tensor:
        r"""A root of what the uncertain start adds to the covariances in (D5), :math:`M S^{-1/2}`."""
        return torch.linalg.solve_triangular(self.factor, (slopes / self.scale[..., None, :]).mT, upper=False).mT


def _solve(run: _Run) -> _Start:
    """The estimate from all observations, (D3)."""
    start, is_determined = _estimate(_Information.total(run))
    if not is_determined.all():
        raise NumericalError(
            "The observed entries must determine the diffuse states. They do not"
            + (f" in series {(~is_determined).nonzero()[0].tolist()}" if is_determined.ndim else "")
            + ". Observe more steps, or give these states a known start by `diffuse`."
        )
    return start


def _estimate(known: _Information) -> tuple[_Start, Tensor]:
    scale, factor, is_determined = _factor(known.information)
    mean = torch.cholesky_solve(known.weighted / scale[..., None], factor).squeeze(-1) / scale
    return _Start(mean, scale, factor), is_determined


def _factor(information: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    is_informed = diagonal > 0
    scale = torch.where(is_informed, diagonal, 1.0).sqrt()
    factor, failed = torch.linalg.cholesky_ex(information / (scale[..., None] * scale[..., None, :]))
    pivots = factor.detach().diagonal(dim1=-2, dim2=-1).square()
    is_clear = (pivots > _SINGULAR * torch.finfo(pivots.dtype).eps).all(-1)
    return scale, factor, is_informed.all(-1) & is_clear & (failed == 0)


def _log_likelihood(run: _Run, start: _Start) -> Tensor:
    """(D4)."""
    residual = run.white + (run.slopes @ start.mean[..., None, :, None]).squeeze(-1)
    log_det = 2 * (start.factor.diagonal(dim1=-2, dim2=-1).log() + start.scale.log()).sum(-1)
    constant = run.system.log_constant(run.system.num_seen.sum(-1))
    return -0.5 * (log_det + residual.square().sum((-2, -1))) - run.log_det - constant


def _settled(means: Tensor, covs: Tensor, known: _Information) -> tuple[Tensor, Tensor]:
    """Moments with the start estimated from what has been seen, NaN where that does not determine it."""
    is_determined = _factor(known.information.detach())[2]
    unknown = torch.eye(known.information.shape[-1], dtype=means.dtype, device=means.device)
    information = torch.where(is_determined[..., None, None], known.information, unknown)
    start, _ = _estimate(known._replace(information=information))
    means = _side_by_side(means)
    mean = means[..., :1] + means[..., 1:] @ start.mean[..., None]
    spread = start.spread(means[..., 1:])
    is_determined = is_determined[..., None, None]
    return (
        torch.where(is_determined, mean, torch.nan),
        torch.where(is_determined, covs[0] + spread @ spread.mT, torch.nan),
    )
