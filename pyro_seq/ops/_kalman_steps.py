"""One step of the Kalman filter; vectors are columns."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Conditioned(NamedTuple):
    """What an observation does to a covariance, and the gain K by which it moves the mean."""

    gain: Tensor
    cov: Tensor


def symmetrise(matrix: Tensor) -> Tensor:
    """The symmetric part, of which rounding has made the rest."""
    return (matrix + matrix.mT) / 2


def predict(mean: Tensor, cov: Tensor, transition: Tensor, noise: Tensor, offset: Tensor | None) -> tuple[Tensor, ...]:
    """Move a state on by one step."""
    mean = transition @ mean
    return mean if offset is None else mean + offset, symmetrise(transition @ cov @ transition.mT + noise)


def condition(cov: Tensor, observation: Tensor, observation_cov: Tensor) -> Conditioned:
    """Condition on an observation by Joseph's form, which stays positive under rounding."""
    seen = observation @ cov
    # unchecked: the likelihood repeats this factor for all steps at once and names the step that fails
    factor, _ = torch.linalg.cholesky_ex(seen @ observation.mT + observation_cov)
    gain = torch.cholesky_solve(seen, factor).mT
    rest = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device) - gain @ observation
    return Conditioned(gain, symmetrise(rest @ cov @ rest.mT + gain @ observation_cov @ gain.mT))
