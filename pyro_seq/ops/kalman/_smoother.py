"""The smoother: gains, the pass back in time, and draws; each operation differentiable, with a hand-written adjoint.

Equations are those of docs/derivations.md, (S1) to (S5).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq._nonfinite import is_chanced
from pyro_seq.ops.kalman._algebra import (
    identity,
    join,
    product,
    require_positive,
    sandwich,
    solve_positive,
    sum_to,
    symmetric,
    to_back,
    to_front,
    transpose,
    zero_step,
)
from pyro_seq.ops.kalman._choice import is_march_faster
from pyro_seq.ops.kalman._filter_gradient import Filtered
from pyro_seq.ops.kalman._groups import Groups
from pyro_seq.ops.kalman._march_back import SmootherMarch
from pyro_seq.ops.kalman._recursion import square_root
from pyro_seq.ops.kalman._scan import Moments, affine_means, affine_states
from pyro_seq.ops.kalman.system import System


class Smoothed(NamedTuple):
    """Moments given all observations, means as columns; leading axes are of size 1 where moments are shared."""

    mean: Tensor
    cov: Tensor
    cross_cov: Tensor
    log_likelihood: Tensor


def smooth_states(system: System, filtered: Filtered, is_parallel: bool) -> Smoothed:
    """The pass back in time, from the filtered states."""
    if not is_parallel and system.num_steps > 1 and is_march_faster(system):
        return _march(system, filtered)
    gain = _gains(system, filtered)
    mean, cov = SmoothedStates.apply(
        len(system.batch_shape),
        is_parallel,
        system.after_first("transition").detach(),
        system.after_first("transition_cov").detach(),
        gain,
        *filtered[:4],
    )
    return Smoothed(mean, cov, gain @ cov[..., 1:, :, :], filtered.log_likelihood)  # (S4)


def _march(system: System, filtered: Filtered) -> Smoothed:
    """Step by step, by groups of series."""
    groups = Groups.of(system)
    mean, cov, cross, pivots = SmootherMarch.apply(
        _march_again,
        groups.matrices(system.transition),
        groups.matrices(system.transition_cov).detach(),
        groups.columns_of_time(filtered.mean),
        groups.matrices_of_time(filtered.cov),
        groups.columns_of_time(filtered.predicted_mean),
        groups.matrices_of_time(filtered.predicted_cov),
    )
    _require_predicted(groups.by_group(pivots))
    return Smoothed(groups.back(mean), groups.covs_back(cov), groups.covs_back(cross), filtered.log_likelihood)


def _march_again(*inputs: Tensor) -> tuple[Tensor, ...]:
    """The results of `SmootherMarch`, by operations whose gradients can be differentiated."""

    def of_series(moments: Tensor) -> Tensor:
        """From (time, group, row, column) to (group, column, time, row, 1)."""
        return moments.permute(1, 3, 0, 2)[..., None]

    def of_groups(moments: Tensor) -> Tensor:
        return moments.movedim(0, 1)[:, None]

    transition, noise = (x[:, None] if x.shape[1] == 1 else x[:, None, 1:] for x in inputs[:2])
    mean, cov, predicted_mean, predicted_cov = (
        of_groups(x) if k % 2 else of_series(x) for k, x in enumerate(inputs[2:])
    )
    gain, _ = SmootherGain.apply(2, transition, cov[..., :-1, :, :], predicted_cov[..., 1:, :, :])
    means, covs = SmoothedStates.apply(2, False, transition, noise, gain, mean, cov, predicted_mean, predicted_cov)
    cross = gain @ covs[..., 1:, :, :]
    return (
        means.squeeze(-1).permute(2, 0, 3, 1),
        covs.squeeze(1).movedim(1, 0),
        cross.squeeze(1).movedim(1, 0),
    )


def draw_states(
    system: System, filtered: Filtered, num_samples: int, generator: torch.Generator | None, is_parallel: bool
) -> Tensor:
    """Paths (sample, *batch, time, state), drawn back in time by (S5)."""
    gain = _gains(system, filtered)
    like = filtered.mean
    noise = torch.randn(
        (2, num_samples, *system.batch_shape, system.num_steps, like.shape[-2], 1),
        dtype=like.dtype,
        device=like.device,
        generator=generator,
    )
    if not is_parallel and system.num_steps > 1 and is_march_faster(system):
        return _march_draws(system, filtered, gain, noise)
    noise = noise.movedim(1, -1).squeeze(-2)  # draws as columns: otherwise a product copies each matrix for each draw
    draw = filtered.mean + square_root(filtered.cov) @ noise[0]
    moved = system.after_first("transition") @ draw[..., :-1, :, :]
    moved = moved + square_root(system.after_first("transition_cov")) @ noise[1][..., 1:, :, :]
    if system.offset is not None:
        moved = moved + system.after_first("offset")
    shift = torch.cat([draw[..., :-1, :, :] - gain @ moved, draw[..., -1:, :, :]], -3)
    return affine_path(gain.flip(-3), shift.flip(-3), is_parallel).flip(-3).movedim(-1, 0)


def _march_draws(system: System, filtered: Filtered, gain: Tensor, noise: Tensor) -> Tensor:
    """The same draws by groups of series, whose draws are columns, so that no matrix is copied for each."""
    groups, drawn = Groups.of(system), Groups.of(system).with_samples(noise.shape[1])
    roots = square_root(groups.matrices_of_time(filtered.cov))
    noise_roots = square_root(groups.matrices_of_time(system.after_first("transition_cov")))
    mean = groups.columns_of_time(filtered.mean)
    draw = _repeated(mean, noise.shape[1]) + roots @ drawn.columns_of_time(noise[0])
    moved = groups.matrices_of_time(system.after_first("transition")) @ draw[:-1]
    moved = moved + noise_roots @ drawn.columns_of_time(noise[1])[1:]
    if system.offset is not None:
        moved = moved + _repeated(groups.columns_of_time(system.after_first("offset")), noise.shape[1])
    gain = groups.matrices_of_time(gain)
    shifts, gains = (draw[:-1] - gain @ moved).unbind(0), gain.unbind(0)
    path = [draw[-1]]
    for shift, move in zip(reversed(shifts), reversed(gains), strict=True):
        path.append(torch.baddbmm(shift, move, path[-1]))
    return drawn.back(torch.stack(path[::-1])).squeeze(-1)


def _repeated(columns: Tensor, num_samples: int) -> Tensor:
    """The columns of a group once for each sample."""
    return columns.repeat(1, 1, 1, num_samples)


def affine_path(gain: Tensor, shift: Tensor, is_parallel: bool) -> Tensor:
    """States x_t = G_t x_{t-1} + s_t from gains (..., time - 1, state, state) and shifts, from x_1 = s_1."""
    num_axes = max(gain.ndim, shift.ndim) - 3
    states: Tensor = AffineStates.apply(num_axes, is_parallel, gain, shift)
    return states


def _gains(system: System, filtered: Filtered) -> Tensor:
    """The gains from the next states, for all but the last step."""
    gain, pivots = SmootherGain.apply(
        len(system.batch_shape),
        system.after_first("transition"),
        filtered.cov[..., :-1, :, :],
        filtered.predicted_cov[..., 1:, :, :],
    )
    _require_predicted(pivots)
    return gain


def _require_predicted(pivots: Tensor) -> None:
    require_positive(pivots, "prediction", "Smoothing divides by it: check `transition_cov`, or use float64.")


class SmootherGain(torch.autograd.Function):
    """The gain G_t from the next state, (S1), from A_{t+1}, the filtered and the predicted covariance; and pivots.

    If the predicted covariance is singular it gets a jitter: a coordinate is then known exactly, and the gain is only
    applied to differences of 0 in its direction.
    """

    @staticmethod
    def forward(ctx: Any, num_axes: int, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        transition, filtered, predicted = (to_front(x, num_axes) for x in inputs)
        moved = product(transition, filtered)
        solution, pivots = solve_positive(predicted, moved)
        jitter = None
        if is_chanced():
            solution = torch.where((pivots > 0).all(0), solution, torch.nan)
        elif not (pivots > 0).all():
            failed = ~(pivots > 0).all(0)
            jitter = to_back(torch.where(failed, relative_jitter(predicted), 0.0))
            solution, pivots = solve_positive(predicted + to_front(jitter, num_axes), moved)
        gain, pivots = to_back(transpose(solution)), pivots.amin(0)
        ctx.num_axes, ctx.jitter = num_axes, jitter
        ctx.save_for_backward(*inputs, gain)
        ctx.mark_non_differentiable(pivots)
        return gain, pivots

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        saved = [to_front(x, ctx.num_axes) for x in ctx.saved_tensors]
        transition, filtered, predicted, gain = saved
        if ctx.jitter is not None:
            predicted = predicted + to_front(ctx.jitter, ctx.num_axes)
        solved, _ = solve_positive(predicted, transpose(to_front(cotangent, ctx.num_axes)))
        parts = (
            product(solved, filtered),
            symmetric(product(transpose(solved), transition)),
            -symmetric(product(transpose(gain), transpose(solved))),
        )
        gradients = (
            to_back(sum_to(part, front.shape)).reshape(original.shape)
            for part, front, original in zip(parts, saved[:3], ctx.saved_tensors[:3], strict=True)
        )
        return (None, *gradients)


def relative_jitter(cov: Tensor) -> Tensor:
    """Diagonal matrices of 8 machine epsilons of the largest variance."""
    limits = torch.finfo(cov.dtype)
    size = torch.diagonal(cov).amax(-1)
    return identity(cov) * (8 * limits.eps * size + limits.tiny)


class SmoothedStates(torch.autograd.Function):
    """Means and covariances given all observations, (S2) and (S3).

    The covariances are by Joseph's form, with A and Q; the gradient is that of the equal P + G (P' - P_predicted) G^T,
    which does not need them.
    """

    @staticmethod
    def forward(
        ctx: Any, num_axes: int, is_parallel: bool, transition: Tensor, noise: Tensor, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        gain, means, covs, predicted_means, _ = (to_front(x, num_axes) for x in inputs)
        transition, noise = to_front(transition, num_axes), to_front(noise, num_axes)
        rest = identity(gain) - product(gain, transition)
        noise = sandwich(rest, covs[:, :, :-1], sandwich(gain, noise))
        shift = means[:, :, :-1] - product(gain, predicted_means[:, :, 1:])
        last = Moments(means[:, :, -1:], covs[:, :, -1:])
        added = Moments(shift, noise).joined(last).flip()
        mean, cov = affine_states(gain.flip(2), added, is_parallel=is_parallel).flip()
        assert mean is not None and cov is not None
        results = to_back(mean), to_back(symmetric(cov))
        ctx.num_axes, ctx.is_parallel = num_axes, is_parallel
        ctx.save_for_backward(*inputs, *results)
        return results

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        gain, _, covs, predicted_means, predicted, smoothed_means, smoothed_covs = (
            to_front(x, ctx.num_axes) for x in ctx.saved_tensors
        )
        mean_part, cov_part = (to_front(x, ctx.num_axes) for x in cotangents)
        back = transpose(gain)
        mean, cov = affine_states(back, Moments(mean_part, symmetric(cov_part)), is_parallel=ctx.is_parallel)
        assert mean is not None and cov is not None
        earlier_mean, earlier_cov = mean[:, :, :-1], cov[:, :, :-1]
        change = smoothed_means[:, :, 1:] - predicted_means[:, :, 1:]
        spread = product(earlier_cov, gain)
        gain_part = sum_to(earlier_mean * transpose(change), gain.shape)
        gain_part = gain_part + 2 * product(spread, smoothed_covs[:, :, 1:] - predicted[:, :, 1:])
        later = -product(back, earlier_mean), -symmetric(product(back, spread))
        parts = (gain_part, mean, cov, *(join([zero_step(part), part], 2) for part in later))
        fronts = (gain, smoothed_means, covs, predicted_means, predicted)
        gradients = (
            to_back(sum_to(part, front.shape)).reshape(original.shape)
            for part, front, original in zip(parts, fronts, ctx.saved_tensors[:5], strict=True)
        )
        return (None, None, None, None, *gradients)


class AffineStates(torch.autograd.Function):
    """States x_t = G_t x_{t-1} + s_t along time from gains (..., time - 1, state, state) and shifts, x_1 = s_1."""

    @staticmethod
    def forward(ctx: Any, num_axes: int, is_parallel: bool, gain: Tensor, shift: Tensor) -> Tensor:
        states = affine_means(to_front(gain, num_axes), to_front(shift, num_axes), is_parallel=is_parallel)
        result = to_back(states)
        ctx.num_axes, ctx.is_parallel = num_axes, is_parallel
        ctx.save_for_backward(gain, shift, result)
        return result

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        gain, shift, states = ctx.saved_tensors
        front = to_front(gain, ctx.num_axes)
        moves = transpose(front).flip(2)
        given = to_front(cotangent, ctx.num_axes).flip(2)
        adjoint = affine_means(moves, given, is_parallel=ctx.is_parallel).flip(2)
        before = to_front(states, ctx.num_axes)[:, :, :-1]
        gain_part = sum_to(product(adjoint[:, :, 1:], transpose(before)), front.shape)
        shift_part = sum_to(adjoint, to_front(shift, ctx.num_axes).shape)
        return None, None, to_back(gain_part).reshape(gain.shape), to_back(shift_part).reshape(shift.shape)
