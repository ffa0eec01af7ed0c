r"""The filter as one differentiable operation, with its adjoint by hand; axes of matrices in front.

Backward needs no tape: with the gains of the forward pass, the adjoints of all filtered means and covariances follow
one affine recursion back in time, of the same kind as the means themselves, and the gradients of all parameters are
then sums over steps. For :math:`m_t = M_t m_{t-1} + \dots` with :math:`M_t = (I - K_t C_t) A_t`,

.. math::
    \lambda_{t-1} = M_t^T \lambda_t + \dots, \qquad \Lambda_{t-1} = M_t^T \Lambda_t M_t + \dots

because Joseph's form is stationary in the gain. The backward pass is made of differentiable operations on inputs and
outputs alone, so that it may be differentiated again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops._kalman_algebra import (
    along_time,
    common_shape,
    identity,
    join,
    plus,
    product,
    sandwich,
    solve_positive,
    sum_to,
    symmetric,
    to_back,
    to_front,
    transpose,
    zero_step,
)
from pyro_seq.ops._kalman_recursions import Span, affine_covs, affine_means, riccati_states
from pyro_seq.ops._kalman_steps import condition, symmetrise


class Front(NamedTuple):
    """The system with axes of matrices in front; `offset` may be None. Moves keep their unread first entry."""

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
        """A, Q and the offset without their entry at the first step, where there is no move."""
        offset = None if self.offset is None else self.after_first(self.offset)
        return self.after_first(self.transition), self.after_first(self.transition_cov), offset

    def after_first(self, quantity: Tensor) -> Tensor:
        """Without the first step."""
        return quantity if quantity.shape[2] == 1 and self.num_steps > 1 else quantity[:, :, 1:]


class Observed(NamedTuple):
    """What an observation does to a prediction.

    Attributes:
        gain: K.
        rest: I - K C.
        precision: Inverse of the covariance of the innovation.
        pivots: Of that covariance; all positive if and only if it is.
    """

    gain: Tensor
    rest: Tensor
    precision: Tensor
    pivots: Tensor

    def cov(self, predicted: Tensor, observation_cov: Tensor) -> Tensor:
        """Covariance afterwards, by Joseph's form."""
        moved = product(product(self.rest, predicted), transpose(self.rest))
        added = product(product(self.gain, observation_cov), transpose(self.gain))
        return symmetric(plus(moved, added))


def observe(cov: Tensor, observation: Tensor, observation_cov: Tensor) -> Observed:
    """From the predicted covariance."""
    seen = product(observation, cov)
    innovation_cov = plus(symmetric(product(seen, transpose(observation))), observation_cov)
    unit = identity(innovation_cov).expand_as(innovation_cov)
    right = join([seen.expand(*seen.shape[:2], *unit.shape[2:]), unit], 1)
    solution, pivots = solve_positive(innovation_cov, right)
    gain = transpose(solution[:, : cov.shape[0]])
    return Observed(gain, identity(cov) - product(gain, observation), symmetric(solution[:, cov.shape[0] :]), pivots)


def filtered_covs(system: Front, is_parallel: bool) -> Tensor:
    """Covariances of all filtered states."""
    observation, observation_cov = system.observation, system.observation_cov
    transition, noise, _ = system.moves()
    if not is_parallel:
        return _covs_by_loop(system)
    start = observe(system.initial_cov, observation[:, :, :1], observation_cov[:, :, :1])
    first = start.cov(system.initial_cov, observation_cov[:, :, :1])
    if observation.shape[2] > 1:
        observation = observation[:, :, 1:]
    if observation_cov.shape[2] > 1:
        observation_cov = observation_cov[:, :, 1:]
    step = observe(noise, observation, observation_cov)
    seen = product(observation, transition)
    spans = Span(product(step.rest, transition), step.cov(noise, observation_cov), _weighted(seen, step.precision))
    steps = system.num_steps - 1
    batch = common_shape(*(part.shape[3:] for part in (*spans, first)))
    spans = Span(*(part.expand(*part.shape[:2], steps, *batch) for part in spans))
    return riccati_states(first.expand(*first.shape[:3], *batch), spans)


def _weighted(outer: Tensor, weight: Tensor) -> Tensor:
    return sandwich(transpose(outer), weight)


def _covs_by_loop(system: Front) -> Tensor:
    # a single step is too short for axes in front to pay
    matrices = (system.transition, system.transition_cov, system.observation, system.observation_cov)
    each = [to_back(matrix).unbind(-3) for matrix in matrices]
    steps = zip(*(list(m) * system.num_steps if len(m) == 1 else m for m in each), strict=True)
    cov = to_back(system.initial_cov).squeeze(-3)
    covs = []
    for t, (transition, noise, observation, observation_cov) in enumerate(steps):
        if t:
            cov = symmetrise(transition @ cov @ transition.mT + noise)
        cov = condition(cov, observation, observation_cov).cov
        covs.append(cov)
    stacked = torch.stack(torch.broadcast_tensors(*covs), -3)
    return to_front(stacked, stacked.ndim - 3)


class FilterStates(torch.autograd.Function):
    """Filtered and predicted moments, log densities summed over time, and pivots of the innovations.

    The log density lacks its constant. All in the usual layout, with the leading axes of covariances, and of means.
    """

    @staticmethod
    def forward(ctx: Any, num_axes: int, is_parallel: bool, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        system = _front(inputs, num_axes)
        covs = filtered_covs(system, is_parallel)
        transition, noise, offset = system.moves()
        moved = sandwich(transition, covs[:, :, :-1], noise)
        predicted = join([system.initial_cov.expand(*covs.shape[:2], 1, *covs.shape[3:]), moved], 2)
        seen = observe(predicted, system.observation, system.observation_cov)
        start = system.initial_mean
        rest = seen.rest[:, :, 1:]
        shift = product(seen.gain, system.values)
        first = shift[:, :, :1] + product(seen.rest[:, :, :1], start)
        later = shift[:, :, 1:] if offset is None else shift[:, :, 1:] + product(rest, offset)
        shift = along_time(first, later)
        means = affine_means(product(rest, transition), shift, is_parallel=is_parallel)
        predicted_means = product(transition, means[:, :, :-1])
        predicted_means = along_time(start, predicted_means if offset is None else predicted_means + offset)
        innovation = system.values - product(system.observation, predicted_means)
        distance = (innovation * product(seen.precision, innovation)).sum((0, 1))
        log_density = -0.5 * (distance + seen.pivots.log().sum(0)).sum(0)
        pivots = seen.pivots.amin(0)
        results = [to_back(x) for x in (means, covs, predicted_means, predicted)]
        ctx.num_axes, ctx.is_parallel = num_axes, is_parallel
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *results)
        ctx.known = system, [means, covs, predicted_means, predicted], seen
        ctx.mark_non_differentiable(pivots)
        return (*results, log_density, pivots)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        inputs, results = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated, so it must depend on its arguments
            system, states = _front(inputs, ctx.num_axes), [to_front(x, ctx.num_axes) for x in results]
            seen = observe(states[3], system.observation, system.observation_cov)
        else:
            system, states, seen = ctx.known
        zero = system.values.new_zeros((1,) * system.values.ndim)
        given = [zero if x is None else to_front(x, ctx.num_axes) for x in cotangents[:4]]
        density = zero[0, 0, 0] if cotangents[4] is None else cotangents[4]
        gradients = _adjoint(system, states, seen, given, density, ctx.is_parallel)
        found: list[Tensor | None] = []
        for original, front, parts in zip(inputs, system, gradients, strict=True):
            if original is None or front is None:
                found.append(None)
            else:
                whole = sum_to(parts[0], front.shape)
                for part in parts[1:]:
                    whole = whole + sum_to(part, front.shape)
                found.append(to_back(whole).reshape(original.shape))
        return (None, None, *found)


def _front(inputs: tuple[Tensor | None, ...], num_axes: int) -> Front:
    fronts: list[Any] = [None if x is None else to_front(x, num_axes) for x in inputs]
    return Front(*fronts)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left * transpose(right)


def _adjoint(
    system: Front,
    states: list[Tensor],
    seen: Observed,
    given: list[Tensor],
    density: Tensor,
    is_parallel: bool,
) -> tuple[tuple[Tensor, ...], ...]:
    """Gradients of all inputs, each as a sum of parts that are still to be summed over expanded axes."""
    means, covs, predicted_means, predicted = states
    transition, observation = system.after_first(system.transition), system.observation
    innovation = system.values - product(observation, predicted_means)
    white = product(seen.precision, innovation)
    force = product(transpose(observation), white)
    squared = 0.5 * density * (_outer(white, white) - seen.precision)
    # by the predictions alone, besides what comes through the filtered states
    mean_part = given[2] + density * force
    rest = transpose(seen.rest)
    moves = transpose(product(seen.rest[:, :, 1:], transition)).flip(2)
    back = transpose(transition)
    shift = given[0] + _before(product(back, mean_part[:, :, 1:]))
    adjoint = affine_means(moves, shift.flip(2), is_parallel=is_parallel).flip(2)
    mean_rest = product(rest, adjoint)
    direct = product(product(transpose(observation), squared), observation) + symmetric(_outer(mean_rest, force))
    cov_part = symmetric(given[3]) + sum_to(direct, predicted.shape)
    shift = symmetric(given[1]) + _before(sandwich(back, cov_part[:, :, 1:]))
    spread = affine_covs(moves, shift.flip(2), is_parallel=is_parallel).flip(2)
    mean_adjoint, cov_adjoint = mean_rest + mean_part, sandwich(rest, spread, cov_part)
    pull = product(transpose(seen.gain), adjoint)
    pushed = product(transpose(seen.gain), spread)
    observation_parts = (
        _outer(white, product(covs, adjoint) + density * predicted_means) - _outer(pull, means),
        2 * product(squared, product(observation, predicted)),
        -2 * product(pushed, covs),
    )
    noise_parts = (symmetric(product(pushed, seen.gain)), squared - symmetric(_outer(pull, white)))
    moved_mean, moved_cov = mean_adjoint[:, :, 1:], cov_adjoint[:, :, 1:]
    transition_parts = (
        _outer(moved_mean, means[:, :, :-1]),
        2 * product(moved_cov, product(transition, covs[:, :, :-1])),
    )
    return (
        tuple(_after(part, system.transition) for part in transition_parts),
        (_after(moved_cov, system.transition_cov),),
        observation_parts,
        noise_parts,
        () if system.offset is None else (_after(moved_mean, system.offset),),
        (mean_adjoint[:, :, :1],),
        (cov_adjoint[:, :, :1],),
        (pull - density * white,),
    )


def _before(moved: Tensor) -> Tensor:
    """What belongs to the moves, at the step before each; 0 at the last step, after which there is none."""
    return join([moved, zero_step(moved)], 2)


def _after(moved: Tensor, like: Tensor) -> Tensor:
    """What belongs to the moves, at the step after each; 0 at the first step."""
    if like.shape[2] == 1:
        return moved.sum(2, keepdim=True)
    return join([zero_step(moved), moved], 2)
