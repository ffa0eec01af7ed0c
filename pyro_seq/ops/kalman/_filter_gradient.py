r"""The filter as one differentiable operation, with a hand-written adjoint; axes of matrices in front.

The backward pass needs no tape: with the gains of the forward pass, the adjoints of all filtered means and covariances
follow one affine recursion back in time, of the same kind as the means themselves, and the gradients of all parameters
are then sums over steps: docs/derivations.md, (F9) to (F11). The backward pass is made of differentiable operations on
inputs and outputs alone, so it can be differentiated again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman._algebra import (
    join,
    product,
    require_positive,
    sandwich,
    sum_to,
    symmetric,
    to_back,
    to_front,
    transpose,
    zero_step,
)
from pyro_seq.ops.kalman._choice import is_march_faster
from pyro_seq.ops.kalman._compression import Pulls, compress, expand_gradients, hide
from pyro_seq.ops.kalman._filter import Front, Observed, States, filter_all, observe
from pyro_seq.ops.kalman._groups import Groups
from pyro_seq.ops.kalman._march import FilterMarch
from pyro_seq.ops.kalman._scan import affine_covs, affine_means
from pyro_seq.ops.kalman.system import System

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
    if not is_parallel and is_march_faster(system):
        return _march(system)
    mean, cov, predicted_mean, predicted_cov, log_density, pivots = FilterStates.apply(
        len(system.batch_shape),
        is_parallel and system.num_steps > 1,
        system.is_compressed,
        system.weight,
        system.transition,
        system.transition_cov,
        system.observation,
        system.observation_cov,
        system.offset,
        system.initial_mean[..., None, :, :],
        system.initial_cov[..., None, :, :],
        system.values,
    )
    require_positive(pivots, "innovation", INNOVATION_REMEDY)
    return Filtered(
        mean, cov, predicted_mean, predicted_cov, log_density - system.log_constant(system.num_seen.sum(-1))
    )


def _march(system: System) -> Filtered:
    """Step by step, by groups of series."""
    groups = Groups.of(system)
    *moments, log_density, pivots = FilterMarch.apply(
        _march_again,
        system.counts,
        *(groups.matrices(matrix) for matrix in (system.transition, system.transition_cov)),
        *(groups.matrices(matrix) for matrix in (system.observation, system.observation_cov)),
        None if system.offset is None else groups.columns(system.offset),
        groups.columns(system.initial_mean[..., None, :, :]).squeeze(1),
        groups.matrices(system.initial_cov[..., None, :, :]).squeeze(1),
        groups.columns(system.values),
    )
    require_positive(groups.by_group(pivots), "innovation", INNOVATION_REMEDY)
    mean, cov, predicted_mean, predicted_cov = moments
    constant = system.log_constant(system.num_seen.sum(-1))
    return Filtered(
        groups.back(mean),
        groups.covs_back(cov),
        groups.back(predicted_mean),
        groups.covs_back(predicted_cov),
        groups.by_series(log_density) - constant,
    )


def _march_again(*inputs: Tensor | None) -> tuple[Tensor, ...]:
    """The results of `FilterMarch` except the pivots, by `FilterStates`, whose gradients can be differentiated."""

    def by_series(columns: Tensor | None) -> Tensor | None:
        return None if columns is None else columns.movedim(-1, 1)[..., None]

    def by_columns(series: Tensor) -> Tensor:
        return series.squeeze(-1).expand(*log_density.shape, -1, -1).permute(2, 0, 3, 1)

    matrices = [None if x is None else x[:, None] for x in inputs[:4]]
    offset, start, cov, values = inputs[4:]
    assert start is not None and cov is not None
    vectors = by_series(offset), by_series(start[:, None]), cov[:, None, None], by_series(values)
    *moments, log_density, _ = FilterStates.apply(2, False, False, None, *matrices, *vectors)
    mean, cov, predicted_mean, predicted_cov = moments
    return (
        by_columns(mean),
        cov.squeeze(1).movedim(1, 0),
        by_columns(predicted_mean),
        predicted_cov.squeeze(1).movedim(1, 0),
        log_density,
    )


class FilterStates(torch.autograd.Function):
    """Filtered and predicted moments, log densities summed over time, and pivots of the innovations.

    The log density lacks its constant. All in the usual layout, with the leading axes of covariances, and of means.
    """

    @staticmethod
    def forward(
        ctx: Any,
        num_axes: int,
        is_parallel: bool,
        is_compressed: bool,
        weight: Tensor | None,
        *inputs: Tensor | None,
    ) -> tuple[Tensor, ...]:
        system = _front(inputs, num_axes)
        weight = None if weight is None else to_front(weight, num_axes)
        small = compress(system, weight) if is_compressed else None
        states, seen, log_density = filter_all(system if small is None else small.system, is_parallel)
        if small is not None:
            log_density = log_density + small.log_density.sum(0)
        pivots = seen.pivots.amin(0)
        results = [to_back(x) for x in states]
        ctx.num_axes, ctx.is_parallel = num_axes, is_parallel
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *results)
        ctx.known = system, weight, small, states, seen
        ctx.mark_non_differentiable(pivots)
        return (*results, log_density, pivots)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        inputs, results = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        whole, weight, small, states, seen = ctx.known
        if torch.is_grad_enabled():  # the gradient itself is to be differentiated, so it must depend on its arguments
            whole, states = _front(inputs, ctx.num_axes), States(*(to_front(x, ctx.num_axes) for x in results))
            system = whole if weight is None else hide(whole, weight)
            seen, small = observe(states.predicted, system.observation, system.observation_cov), None
        else:
            system = whole if small is None else small.system
        zero = whole.values.new_zeros((1,) * whole.values.ndim)
        given = [zero if x is None else to_front(x, ctx.num_axes) for x in cotangents[:4]]
        density = zero[0, 0, 0] if cotangents[4] is None else cotangents[4]
        adjoint, spread, moves = _adjoint(system, states, seen, given, density, ctx.is_parallel)
        if small is None:
            pulls = _pulls(system, states, seen, adjoint, spread, density)
            pulls = pulls if weight is None else pulls.masked(weight)
        else:
            pulls = expand_gradients(whole, small, seen, states, adjoint, spread, density)
        parts = (*moves[:2], pulls.observation, pulls.observation_cov, *moves[2:], pulls.values)
        return (None, None, None, None, *(_gradient(*each) for each in zip(inputs, whole, parts, strict=True)))


def _gradient(original: Tensor | None, front: Tensor | None, parts: tuple[Tensor, ...]) -> Tensor | None:
    """Gradient of an input in its original layout, from parts still to be summed over expanded axes."""
    if original is None or front is None:
        return None
    total = sum_to(parts[0], front.shape)
    for part in parts[1:]:
        total = total + sum_to(part, front.shape)
    return to_back(total).reshape(original.shape)


def _front(inputs: tuple[Tensor | None, ...], num_axes: int) -> Front:
    fronts: list[Any] = [None if x is None else to_front(x, num_axes) for x in inputs]
    return Front(*fronts)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left * transpose(right)


def _adjoint(
    system: Front,
    states: States,
    seen: Observed,
    given: list[Tensor],
    density: Tensor,
    is_parallel: bool,
) -> tuple[Tensor, Tensor, tuple[tuple[Tensor, ...], ...]]:
    """Lambda small and large of (F9), and the gradients of A, Q, the offset, the first mean and the first covariance.

    Each gradient is a sum of parts still to be summed over expanded axes. `given` and `density` are the adjoints of the
    results.
    """
    means, covs, predicted_means, predicted = states
    transition, observation = system.after_first(system.transition), system.observation
    white = product(seen.precision, system.values - product(observation, predicted_means))
    force = product(transpose(observation), white)
    squared = 0.5 * density * (_outer(white, white) - seen.precision)
    # through the predictions only, in addition to the part through the filtered states
    mean_part = given[2] + density * force
    rest = transpose(seen.rest)
    moves = transpose(product(seen.rest[:, :, 1:], transition)).flip(2)
    back = transpose(transition)
    shift = given[0] + _before(product(back, mean_part[:, :, 1:]))
    adjoint = affine_means(moves, shift.flip(2), is_parallel=is_parallel).flip(2)  # (F9)
    mean_rest = product(rest, adjoint)
    direct = product(product(transpose(observation), squared), observation) + symmetric(_outer(mean_rest, force))
    cov_part = symmetric(given[3]) + sum_to(direct, predicted.shape)
    shift = symmetric(given[1]) + _before(sandwich(back, cov_part[:, :, 1:]))
    spread = affine_covs(moves, shift.flip(2), is_parallel=is_parallel).flip(2)  # (F9)
    mean_adjoint, cov_adjoint = mean_rest + mean_part, sandwich(rest, spread, cov_part)
    moved_mean, moved_cov = mean_adjoint[:, :, 1:], cov_adjoint[:, :, 1:]  # (F10)
    transition_parts = (
        _outer(moved_mean, means[:, :, :-1]),
        2 * product(moved_cov, product(transition, covs[:, :, :-1])),
    )
    return (
        adjoint,
        spread,
        (
            tuple(_after(part, system.transition) for part in transition_parts),
            (_after(moved_cov, system.transition_cov),),
            () if system.offset is None else (_after(moved_mean, system.offset),),
            (mean_adjoint[:, :, :1],),
            (cov_adjoint[:, :, :1],),
        ),
    )


def _pulls(system: Front, states: States, seen: Observed, adjoint: Tensor, spread: Tensor, density: Tensor) -> Pulls:
    """Gradients of the observation's quantities, (F11)."""
    means, covs, predicted_means, predicted = states
    white = product(seen.precision, system.values - product(system.observation, predicted_means))
    squared = 0.5 * density * (_outer(white, white) - seen.precision)
    pull, pushed = product(transpose(seen.gain), adjoint), product(transpose(seen.gain), spread)
    observation_parts = (
        _outer(white, product(covs, adjoint) + density * predicted_means) - _outer(pull, means),
        2 * product(squared, product(system.observation, predicted)),
        -2 * product(pushed, covs),
    )
    noise_parts = (symmetric(product(pushed, seen.gain)), squared - symmetric(_outer(pull, white)))
    return Pulls(observation_parts, noise_parts, (pull - density * white,))


def _before(moved: Tensor) -> Tensor:
    """Quantities of the moves, at the step before each; 0 at the last step, after which there is none."""
    return join([moved, zero_step(moved)], 2)


def _after(moved: Tensor, like: Tensor) -> Tensor:
    """Quantities of the moves, at the step after each; 0 at the first step."""
    if like.shape[2] == 1:
        return moved.sum(2, keepdim=True)
    return join([zero_step(moved), moved], 2)
