"""What filter, smoother and sampler share once the filtered states are known, for all steps at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import NumericalError
from pyro_seq.ops._kalman_algebra import common_shape
from pyro_seq.ops._kalman_filter import FilterStates
from pyro_seq.ops._kalman_smoother import AffineStates, SmoothedStates, SmootherGain
from pyro_seq.ops._kalman_system import System

INNOVATION_REMEDY = "Give `observation_cov` (and `transition_cov`) larger diagonals, or use float64."


class Filtered(NamedTuple):
    """Moments as columns, time third from the right; leading axes are of size 1 where moments are shared."""

    mean: Tensor
    cov: Tensor
    predicted_mean: Tensor
    predicted_cov: Tensor
    log_likelihood: Tensor


def filter_states(system: System, is_parallel: bool) -> Filtered:
    """Filter and likelihood, step by step or in parallel."""
    mean, cov, predicted_mean, predicted_cov, log_density, pivots = FilterStates.apply(
        len(system.batch_shape),
        is_parallel and system.num_steps > 1,
        system.transition,
        system.transition_cov,
        system.observation,
        system.observation_cov,
        system.offset,
        system.initial_mean[..., None, :, :],
        system.initial_cov[..., None, :, :],
        system.values,
    )
    _check_pivots(pivots, "innovation", INNOVATION_REMEDY)
    return Filtered(mean, cov, predicted_mean, predicted_cov, log_density - _constant(system))


def _constant(system: System) -> Tensor:
    return system.num_seen.sum(-1) * (0.5 * torch.log(system.values.new_tensor(2 * torch.pi)))


def log_likelihood(system: System, mean: Tensor, cov: Tensor) -> Tensor:
    """Log density of the observed entries from the predicted moments."""
    innovation = system.values - system.observation @ mean
    cov = system.observation @ cov @ system.observation.mT + system.observation_cov
    factor, info = torch.linalg.cholesky_ex(cov)
    _check_pivots((info == 0).movedim(-1, 0), "innovation", INNOVATION_REMEDY)
    white = torch.linalg.solve_triangular(factor, innovation, upper=False).squeeze(-1)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    # a hidden entry has innovation 0 and unit variance, so only the constant must not count it
    return -(0.5 * white.square().sum(-1) + log_det).sum(-1) - _constant(system)


def smoother_gains(system: System, filtered: Filtered) -> Tensor:
    """The gains from the next states, for all but the last step."""
    gain, pivots = SmootherGain.apply(
        len(system.batch_shape),
        system.after_first("transition"),
        filtered.cov[..., :-1, :, :],
        filtered.predicted_cov[..., 1:, :, :],
    )
    _check_pivots(pivots, "prediction", "Smoothing divides by it: check `transition_cov`, or use float64.")
    return gain


def smoothed_states(system: System, filtered: Filtered, gain: Tensor, is_parallel: bool) -> tuple[Tensor, Tensor]:
    """Means and covariances given all observations."""
    mean, cov = SmoothedStates.apply(
        len(system.batch_shape),
        is_parallel,
        system.after_first("transition").detach(),
        system.after_first("transition_cov").detach(),
        gain,
        *filtered[:4],
    )
    return mean, cov


def affine_path(gain: Tensor, shift: Tensor, is_parallel: bool) -> Tensor:
    """States x_t = G_t x_{t-1} + s_t from gains (..., time - 1, state, state) and shifts, from x_1 = s_1."""
    num_axes = max(gain.ndim, shift.ndim) - 3
    states: Tensor = AffineStates.apply(num_axes, is_parallel, gain, shift)
    return states


def _check_pivots(pivots: Tensor, what: str, remedy: str) -> None:
    """Stop unless all are positive; (time, *batch)."""
    wrong = ~(pivots > 0)
    if wrong.any():
        first, *series = wrong.nonzero()[0].tolist()
        is_shared = wrong[0].numel() == 1
        where = f"First at step {first + (what == 'prediction')}" + ("" if is_shared else f", series {series}")
        raise NumericalError(
            f"The covariance of the {what} must be positive definite. {where}, it is not, or not finite. {remedy}"
        )


def square_root(cov: Tensor) -> Tensor:
    """Cholesky factor of a covariance that may be singular."""
    limits = torch.finfo(cov.dtype)
    size = cov.diagonal(dim1=-2, dim2=-1).detach().amax(-1, keepdim=True)
    jitter = 8 * limits.eps * size + limits.tiny
    return torch.linalg.cholesky_ex(cov + torch.diag_embed(jitter.expand(*cov.shape[:-1])))[0]


def append(first: Tensor, second: Tensor) -> Tensor:
    """Join along time; leading axes that only one of them has are expanded."""
    batch = common_shape(first.shape[:-3], second.shape[:-3])
    return torch.cat([part.expand(*batch, *part.shape[-3:]) for part in (first, second)], -3)
