"""The recursions of the Kalman filter and smoother, step by step; vectors are columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops._kalman_system import System


class Update(NamedTuple):
    """A state conditioned on an observation.

    Attributes:
        mean, cov: Moments of the state afterwards.
        rest: I - K C, the part of the state before that remains.
        factor: Cholesky factor of the covariance of the innovation.
    """

    mean: Tensor
    cov: Tensor
    rest: Tensor
    factor: Tensor


class Affine(NamedTuple):
    """Moves x -> gain x + shift + N(0, cov), one a step; `cov` is None where the noise is already in the shift."""

    gain: Tensor
    shift: Tensor
    cov: Tensor | None = None


def symmetrise(matrix: Tensor) -> Tensor:
    """The symmetric part, of which rounding has made the rest."""
    return (matrix + matrix.mT) / 2


def predict(mean: Tensor, cov: Tensor, transition: Tensor, noise: Tensor, offset: Tensor | None) -> tuple[Tensor, ...]:
    """Move a state on by one step."""
    mean = transition @ mean
    return mean if offset is None else mean + offset, symmetrise(transition @ cov @ transition.mT + noise)


def update(mean: Tensor, cov: Tensor, observation: Tensor, observation_cov: Tensor, value: Tensor) -> Update:
    """Condition a state on an observation, by Joseph's form, which stays positive under rounding."""
    seen = observation @ cov
    # unchecked: the likelihood repeats this factor for all steps at once and names the step that fails
    factor, _ = torch.linalg.cholesky_ex(seen @ observation.mT + observation_cov)
    gain = torch.cholesky_solve(seen, factor).mT
    rest = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device) - gain @ observation
    updated = symmetrise(rest @ cov @ rest.mT + gain @ observation_cov @ gain.mT)
    return Update(mean + gain @ (value - observation @ mean), updated, rest, factor)


def filter_by_loop(system: System) -> tuple[Tensor, Tensor]:
    """Filtered means and covariances of all steps, one step after the other."""
    steps = zip(
        *(
            _steps(quantity, system.num_steps)
            for quantity in (
                system.transition,
                system.transition_cov,
                system.offset,
                system.observation,
                system.observation_cov,
                system.values,
            )
        ),
        strict=True,
    )
    mean, cov = system.initial_mean, system.initial_cov
    means, covs = [], []
    for t, (transition, noise, offset, observation, observation_cov, value) in enumerate(steps):
        if t:
            mean, cov = predict(mean, cov, transition, noise, offset)
        mean, cov, _, _ = update(mean, cov, observation, observation_cov, value)
        means.append(mean)
        covs.append(cov)
    return torch.stack(torch.broadcast_tensors(*means), -3), torch.stack(torch.broadcast_tensors(*covs), -3)


def backward_by_loop(moves: Affine) -> tuple[Tensor, Tensor | None]:
    """Means and covariances of all states when each move leads from its successor; the last one has gain 0."""
    gains, shifts = moves.gain.unbind(-3), moves.shift.unbind(-3)
    mean = shifts[-1]
    means = [mean]
    for gain, shift in zip(gains[-2::-1], shifts[-2::-1], strict=True):
        mean = gain @ mean + shift
        means.append(mean)
    stacked = torch.stack(means[::-1], -3)
    if moves.cov is None:
        return stacked, None
    noises = moves.cov.unbind(-3)
    cov = noises[-1]
    covs = [cov]
    for gain, noise in zip(gains[-2::-1], noises[-2::-1], strict=True):
        cov = gain @ cov @ gain.mT + noise
        covs.append(cov)
    return stacked, torch.stack(covs[::-1], -3)


def _steps(quantity: Tensor | None, num_steps: int) -> Sequence[Tensor | None]:
    if quantity is None:
        return [None] * num_steps
    each = list(quantity.unbind(-3))
    return each * num_steps if len(each) == 1 else each
