"""One step of the Kalman filter as in docs/derivations.md, (F2) to (F7); vectors are columns, matrices last."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Conditioned(NamedTuple):
    """The update of a state by an observation.

    Attributes:
        gain: K, by which the innovation moves the mean.
        cov: Covariance after the update.
        factor: Cholesky factor of the covariance S of the innovation.
        failed: Nonzero where S is not positive definite.
    """

    gain: Tensor
    cov: Tensor
    factor: Tensor
    failed: Tensor


def symmetrise(matrix: Tensor) -> Tensor:
    """Symmetrise; removes asymmetry due to rounding."""
    return (matrix + matrix.mT) / 2


def predict(mean: Tensor, cov: Tensor, transition: Tensor, noise: Tensor, offset: Tensor | None) -> tuple[Tensor, ...]:
    """Move a state on by one step, (F2): A m + B u and A P A^T + Q."""
    mean = transition @ mean
    return mean if offset is None else mean + offset, predict_cov(cov, transition, noise)


def predict_cov(cov: Tensor, transition: Tensor, noise: Tensor) -> Tensor:
    """The covariance alone."""
    return symmetrise(transition @ cov @ transition.mT + noise)


def condition(cov: Tensor, observation: Tensor, observation_cov: Tensor) -> Conditioned:
    """Condition on an observation, which is (F3), (F4) and (F6); the mean then moves by the gain, (F5)."""
    seen = observation @ cov
    # unchecked: the computation of the density names the step that fails
    factor, failed = torch.linalg.cholesky_ex(seen @ observation.mT + observation_cov)  # (F3)
    gain = torch.cholesky_solve(seen, factor).mT  # (F4)
    rest = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device) - gain @ observation
    # Joseph's form stays positive under rounding
    cov = symmetrise(rest @ cov @ rest.mT + gain @ observation_cov @ gain.mT)  # (F6)
    return Conditioned(gain, cov, factor, failed)


def log_density(innovation: Tensor, factor: Tensor) -> Tensor:
    """A term of (F7) without its constant, from an innovation and the factor of its covariance."""
    white = torch.linalg.solve_triangular(factor, innovation, upper=False).squeeze(-1)
    return -0.5 * white.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def square_root(cov: Tensor) -> Tensor:
    """Cholesky factor of a covariance that may be singular: a relative jitter of 8 machine epsilons."""
    limits = torch.finfo(cov.dtype)
    size = cov.diagonal(dim1=-2, dim2=-1).detach().amax(-1, keepdim=True)
    jitter = 8 * limits.eps * size + limits.tiny
    return torch.linalg.cholesky_ex(cov + torch.diag_embed(jitter.expand(*cov.shape[:-1])))[0]
