"""What filter, smoother and sampler share once the filtered states are known, for all steps at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.errors import NumericalError
from pyro_seq.ops._kalman_scan import filter_by_scan
from pyro_seq.ops._kalman_steps import filter_by_loop, predict
from pyro_seq.ops._kalman_system import System


class Filtered(NamedTuple):
    """Moments as columns, time third from the right, leading axes as few as they come."""

    mean: Tensor
    cov: Tensor
    predicted_mean: Tensor
    predicted_cov: Tensor
    log_likelihood: Tensor


def filter_states(system: System, is_parallel: bool) -> Filtered:
    """Filter and likelihood, step by step or in parallel."""
    by_scan = is_parallel and system.num_steps > 1
    mean, cov = filter_by_scan(system) if by_scan else filter_by_loop(system)
    predicted_mean, predicted_cov = predict(
        mean[..., :-1, :, :],
        cov[..., :-1, :, :],
        system.after_first("transition"),
        system.after_first("transition_cov"),
        None if system.offset is None else system.after_first("offset"),
    )
    predicted_mean = append(system.initial_mean[..., None, :, :], predicted_mean)
    predicted_cov = append(system.initial_cov[..., None, :, :], predicted_cov)
    likelihood = log_likelihood(system, predicted_mean, predicted_cov)
    return Filtered(mean, cov, predicted_mean, predicted_cov, likelihood)


def log_likelihood(system: System, mean: Tensor, cov: Tensor) -> Tensor:
    """Log density of the observed entries from the predicted moments."""
    innovation = system.values - system.observation @ mean
    cov = system.observation @ cov @ system.observation.mT + system.observation_cov
    factor = _checked_cholesky(
        cov, "innovation", "Give `observation_cov` (and `transition_cov`) larger diagonals, or use float64."
    )
    white = torch.linalg.solve_triangular(factor, innovation, upper=False).squeeze(-1)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    # a hidden entry has innovation 0 and unit variance, so only the constant must not count it
    constant = system.num_seen * torch.log(mean.new_tensor(2 * torch.pi))
    return -(0.5 * (white.square().sum(-1) + constant) + log_det).sum(-1)


def smoother_gains(system: System, filtered: Filtered) -> tuple[Tensor, Tensor]:
    """The gain from the next state, and what it leaves of the filtered one: G and I - G A."""
    transition = system.after_first("transition")
    # where a coordinate is known exactly the gain meets only differences of 0 in its direction, so jitter is harmless
    cov = filtered.predicted_cov[..., 1:, :, :]
    failed = torch.linalg.cholesky_ex(cov.detach())[1] > 0
    if failed.any():
        cov = torch.where(failed[..., None, None], _jittered(cov), cov)
    factor = _checked_cholesky(cov, "prediction", "Smoothing divides by it: check `transition_cov`, or use float64.")
    gain = torch.cholesky_solve(transition @ filtered.cov[..., :-1, :, :], factor).mT
    identity = torch.eye(gain.shape[-1], dtype=gain.dtype, device=gain.device)
    return gain, identity - gain @ transition


def _checked_cholesky(cov: Tensor, what: str, remedy: str) -> Tensor:
    factor, info = torch.linalg.cholesky_ex(cov)
    if info.any():
        first, *series = info.movedim(-1, 0).nonzero()[0].tolist()
        where = f"First at step {first + (what == 'prediction')}" + (f", series {series}" if series else "")
        raise NumericalError(
            f"The covariance of the {what} must be positive definite. {where}, it is not, or not finite. {remedy}"
        )
    return factor


def square_root(cov: Tensor) -> Tensor:
    """Cholesky factor of a covariance that may be singular."""
    return torch.linalg.cholesky_ex(_jittered(cov))[0]


def _jittered(cov: Tensor) -> Tensor:
    """Lift singular covariances by 8 machine epsilons of their largest variance."""
    limits = torch.finfo(cov.dtype)
    size = cov.diagonal(dim1=-2, dim2=-1).detach().amax(-1, keepdim=True)
    jitter = 8 * limits.eps * size + limits.tiny
    return cov + torch.diag_embed(jitter.expand(*cov.shape[:-1]))


def append(first: Tensor, second: Tensor) -> Tensor:
    """Join along time; leading axes that only one of them has are expanded."""
    batch = torch.broadcast_shapes(first.shape[:-3], second.shape[:-3])
    return torch.cat([part.expand(*batch, *part.shape[-3:]) for part in (first, second)], -3)
