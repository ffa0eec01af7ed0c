"""The Kalman filter over all steps, as in docs/derivations.md; axes of matrices in front.

Covariances do not depend on observations, so they come first: one step after the other, (F2) to (F6), or by a scan,
(P3) to (P5). The gains of all steps then follow together, (F4), the means by one affine recursion, (F8), and the
density as a sum, (F7).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman._algebra import (
    along_time,
    common_shape,
    identity,
    join,
    plus,
    product,
    sandwich,
    solve_positive,
    symmetric,
    to_back,
    to_front,
    transpose,
)
from pyro_seq.ops.kalman._recursion import condition, predict_cov
from pyro_seq.ops.kalman._scan import Span, affine_means, riccati_states


class Front(NamedTuple):
    """The system with axes of matrices in front; `offset` may be None. Moves include their unread first entry."""

    transition: Tensor
    transition_cov: Tensor
    observation: Tensor
    observation_cov: Tensor
    offset: Tensor | None
    initial_mean: Tensor
    initial_cov: Tensor
    values: Tensor

    @property
    def num_steps(self) -> int:
        return self.values.shape[2]

    def moves(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """A, Q and the offset without the entry at the first step, which has no move."""
        offset = None if self.offset is None else self.after_first(self.offset)
        return self.after_first(self.transition), self.after_first(self.transition_cov), offset

    def after_first(self, quantity: Tensor) -> Tensor:
        """Without the first step."""
        return quantity if quantity.shape[2] == 1 and self.num_steps > 1 else quantity[:, :, 1:]


class Observed(NamedTuple):
    """The update of a prediction by an observation.

    Attributes:
        gain: K, (F4).
        rest: I - K C.
        precision: Inverse of the covariance S of the innovation, (F3).
        pivots: Pivots of S; all positive if and only if it is positive definite.
    """

    gain: Tensor
    rest: Tensor
    precision: Tensor
    pivots: Tensor

    def cov(self, predicted: Tensor, observation_cov: Tensor) -> Tensor:
        """Covariance after the update, by Joseph's form, (F6)."""
        moved = product(product(self.rest, predicted), transpose(self.rest))
        added = product(product(self.gain, observation_cov), transpose(self.gain))
        return symmetric(plus(moved, added))


def observe(cov: Tensor, observation: Tensor, observation_cov: Tensor) -> Observed:
    """From the predicted covariance: (F3) and (F4), of many steps at once."""
    seen = product(observation, cov)
    innovation_cov = plus(symmetric(product(seen, transpose(observation))), observation_cov)
    unit = identity(innovation_cov).expand_as(innovation_cov)
    right = join([seen.expand(*seen.shape[:2], *unit.shape[2:]), unit], 1)
    solution, pivots = solve_positive(innovation_cov, right)
    gain = transpose(solution[:, : cov.shape[0]])
    return Observed(gain, identity(cov) - product(gain, observation), symmetric(solution[:, cov.shape[0] :]), pivots)


class States(NamedTuple):
    """Means and covariances of all states, filtered and predicted."""

    means: Tensor
    covs: Tensor
    predicted_means: Tensor
    predicted: Tensor


def filter_all(system: Front, is_parallel: bool) -> tuple[States, Observed, Tensor]:
    """The states, the updates by observations, and the log density summed over time, without its constant."""
    transition, noise, offset = system.moves()
    covs = _covs_by_scan(system) if is_parallel else _covs_by_loop(system)
    start = system.initial_cov.expand(*covs.shape[:2], 1, *covs.shape[3:])
    predicted = join([start, sandwich(transition, covs[:, :, :-1], noise)], 2)  # (F2)
    seen = observe(predicted, system.observation, system.observation_cov)  # (F3), (F4)

    pulled, rest = product(seen.gain, system.values), seen.rest[:, :, 1:]
    first = pulled[:, :, :1] + product(seen.rest[:, :, :1], system.initial_mean)
    later = pulled[:, :, 1:] if offset is None else pulled[:, :, 1:] + product(rest, offset)
    means = affine_means(product(rest, transition), along_time(first, later), is_parallel=is_parallel)  # (F8)
    moved = product(transition, means[:, :, :-1])
    predicted_means = along_time(system.initial_mean, moved if offset is None else moved + offset)  # (F2)

    innovation = system.values - product(system.observation, predicted_means)  # (F3)
    distance = (innovation * product(seen.precision, innovation)).sum((0, 1))
    log_density = -0.5 * (distance + seen.pivots.log().sum(0)).sum(0)  # (F7)
    return States(means, covs, predicted_means, predicted), seen, log_density


def _covs_by_loop(system: Front) -> Tensor:
    """Covariances of all filtered states, one after the other."""
    # for a single step, axes in front are not worthwhile
    matrices = (system.transition, system.transition_cov, system.observation, system.observation_cov)
    each = [to_back(matrix).unbind(-3) for matrix in matrices]
    steps = zip(*(list(m) * system.num_steps if len(m) == 1 else m for m in each), strict=True)
    cov = to_back(system.initial_cov).squeeze(-3)
    covs = []
    for t, (transition, noise, observation, observation_cov) in enumerate(steps):
        if t:
            cov = predict_cov(cov, transition, noise)  # (F2)
        cov = condition(cov, observation, observation_cov).cov  # (F3), (F4), (F6)
        covs.append(cov)
    stacked = torch.stack(torch.broadcast_tensors(*covs), -3)
    return to_front(stacked, stacked.ndim - 3)


def _covs_by_scan(system: Front) -> Tensor:
    """The same from spans of one step, (P4); step by step if C Q C^T + R is not positive definite."""
    observation, observation_cov = system.observation, system.observation_cov
    transition, noise, _ = system.moves()
    start = observe(system.initial_cov, observation[:, :, :1], observation_cov[:, :, :1])
    first = start.cov(system.initial_cov, observation_cov[:, :, :1])
    observation, observation_cov = system.after_first(observation), system.after_first(observation_cov)
    step = observe(noise, observation, observation_cov)
    if not (step.pivots > 0).all():
        return _covs_by_loop(system)
    seen = product(observation, transition)
    spans = Span(
        product(step.rest, transition),
        step.cov(noise, observation_cov),
        sandwich(transpose(seen), step.precision),
    )  # (P4)
    steps = system.num_steps - 1
    batch = common_shape(*(part.shape[3:] for part in (*spans, first)))
    spans = Span(*(part.expand(*part.shape[:2], steps, *batch) for part in spans))
    return riccati_states(first.expand(*first.shape[:3], *batch), spans)
