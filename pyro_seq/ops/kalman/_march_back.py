"""The smoother step by step with a hand-written adjoint, in the form of `_march`: docs/derivations.md, (S1) to (S4)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_seq.ops.kalman._march import Again, add_outer, differentiable, each_step, parts, symmetric


class Backward(NamedTuple):
    """Input of the pass back in time: moves (group or 1, time or 1, row, column), moments (time, group, row, column).

    The first entry along time of moves that change is not read.
    """

    transition: Tensor
    transition_cov: Tensor
    mean: Tensor
    cov: Tensor
    predicted_mean: Tensor
    predicted_cov: Tensor


class SmootherMarch(torch.autograd.Function):
    """Moments given all observations, (time, group, row, column), covariances with the next state, and least pivots.

    Covariances are by Joseph's form, with A and Q; the gradient is that of the equal P + G (P' - P_predicted) G^T,
    which does not need Q. If a predicted covariance is singular up to rounding, its diagonal gets a jitter: a
    combination of states is then known exactly, and the gain is only applied to differences of 0 in its direction.
    Pivots are (time - 1, group). `again` gives the same three results by operations that can be differentiated twice.
    """

    @staticmethod
    def forward(ctx: Any, again: Again, *inputs: Tensor) -> tuple[Tensor, ...]:
        system = Backward(*inputs)
        steps, groups, size, _ = system.cov.shape
        mean, cov = torch.empty_like(system.mean), torch.empty_like(system.cov)
        cross = cov.new_empty(steps - 1, groups, size, size)
        kept = [torch.empty_like(cross), torch.empty_like(cross)]
        pivots = cov.new_empty(steps - 1, groups)
        mean[-1:], cov[-1:] = system.mean[-1:], system.cov[-1:]
        for part in parts(groups, size, cov):
            pivots[:, part] = _whiten(system.predicted_cov[1:, part], kept[1][:, part])
            _smooth_part(system, part, (mean, cov, cross), kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, mean, cov)
        ctx.kept, ctx.again = kept, again
        ctx.mark_non_differentiable(pivots)
        return mean, cov, cross, pivots

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, (mean, cov) = ctx.saved_tensors[:6], ctx.saved_tensors[6:]
        if torch.is_grad_enabled():
            return (None, *differentiable(ctx.again, inputs, cotangents[:3]))
        system = Backward(*inputs)
        gradients: list[Tensor | None] = [torch.zeros_like(x) for x in inputs]
        gradients[1] = None
        if not ctx.needs_input_grad[1]:
            gradients[0] = None
        for part in parts(cov.shape[1], cov.shape[-1], cov):
            _adjoint_part(system, part, (mean, cov), ctx.kept, cotangents, gradients)
        return (None, *gradients)


def _whiten(covs: Tensor, out: Tensor) -> Tensor:
    """Fill in the inverse Cholesky factors of covariances; their smallest pivots, NaN where one is not positive."""
    factor, failed = torch.linalg.cholesky_ex(covs)
    limits, variances = torch.finfo(covs.dtype), covs.diagonal(dim1=-2, dim2=-1)
    noise = covs.shape[-1] * limits.eps
    is_singular = (failed > 0) | (factor.diagonal(dim1=-2, dim2=-1).square() < noise * variances).any(-1)
    if is_singular.any():
        largest = variances.amax(-1, keepdim=True)
        # Joseph's form leaves the square of a rounding error of a variance that an observation has made 0
        size = torch.where(variances > 64 * limits.eps**2 * largest, variances, largest)
        jitter = torch.where(is_singular[..., None], 8 * limits.eps * size + limits.tiny, 0.0)
        factor, failed = torch.linalg.cholesky_ex(covs + torch.diag_embed(jitter))
    unit = torch.eye(covs.shape[-1], dtype=covs.dtype, device=covs.device)
    out.copy_(torch.linalg.solve_triangular(factor, unit, upper=False))
    return torch.where(failed > 0, torch.nan, factor.diagonal(dim1=-2, dim2=-1).amin(-1))


def _smooth_part(system: Backward, part: slice, results: tuple[Tensor, ...], kept: list[Tensor]) -> None:
    """Fill in the results of some groups, back in time."""
    steps = system.mean.shape[0]
    transitions, noises = each_step(system.transition, part, steps), each_step(system.transition_cov, part, steps)
    filtered_means, filtered_covs, predicted_means, _ = (x[:, part].unbind(0) for x in system[2:])
    means, covs, crosses = (x[:, part].unbind(0) for x in results)
    gains, whiteners = (x[:, part].unbind(0) for x in kept)
    for t in range(steps - 2, -1, -1):
        transition, noise, filtered = transitions[t + 1], noises[t + 1], filtered_covs[t]
        moved = torch.bmm(transition, filtered)
        whitener = whiteners[t]
        back = torch.bmm(whitener.mT, torch.bmm(whitener, moved), out=gains[t])
        gain = back.mT  # (S1)
        cross = torch.bmm(gain, covs[t + 1], out=crosses[t])  # (S4)
        rest = torch.baddbmm(filtered, gain, moved, alpha=-1)
        # Joseph's form of (S3), as in the filter: the rounding error of (I - G A) P A^T - G Q is subtracted
        added = torch.baddbmm(torch.baddbmm(cross, gain, noise), rest, transition.mT, alpha=-1)
        symmetric(torch.baddbmm(rest, added, back), out=covs[t])
        torch.baddbmm(filtered_means[t], gain, means[t + 1] - predicted_means[t + 1], out=means[t])  # (S2)


def _adjoint_part(
    system: Backward,
    part: slice,
    smoothed: tuple[Tensor, Tensor],
    kept: list[Tensor],
    cotangents: tuple[Tensor | None, ...],
    gradients: list[Tensor | None],
) -> None:
    """Fill in the gradients of some groups, forward in time."""
    steps = system.mean.shape[0]
    transitions = each_step(system.transition, part, steps)
    _, filtered_covs, predicted_means, predicted_covs = (x[:, part].unbind(0) for x in system[2:])
    means, covs = (x[:, part].unbind(0) for x in smoothed)
    gains, whiteners = (x[:, part].unbind(0) for x in kept)
    given = [None if x is None else x[:, part].unbind(0) for x in cotangents[:3]]
    mean_out, cov_out, predicted_mean_out, predicted_cov_out = (
        x[:, part].unbind(0) for x in gradients[2:] if x is not None
    )
    mean_adjoint, cov_adjoint = torch.zeros_like(means[0]), torch.zeros_like(covs[0])
    for t in range(steps):
        mean_adjoint = mean_adjoint if given[0] is None else mean_adjoint + given[0][t]
        cov_adjoint = cov_adjoint if given[1] is None else cov_adjoint + symmetric(given[1][t])
        mean_out[t].copy_(mean_adjoint)
        if t == steps - 1:
            cov_out[t].copy_(cov_adjoint)
            break
        back, whitener, transition = gains[t], whiteners[t], transitions[t + 1]
        spread = torch.bmm(cov_adjoint, back.mT)
        pull = torch.baddbmm(spread, spread, covs[t + 1] - predicted_covs[t + 1], beta=0, alpha=2)
        pull = add_outer(pull, mean_adjoint, means[t + 1] - predicted_means[t + 1])
        later = torch.bmm(back, spread)
        if given[2] is not None:
            pull = torch.baddbmm(pull, given[2][t], covs[t + 1])
        solved = torch.bmm(whitener.mT, torch.bmm(whitener, pull.mT))
        if gradients[0] is not None:
            _add(gradients[0], torch.bmm(solved, filtered_covs[t]), part, t + 1)
        torch.baddbmm(cov_adjoint, solved.mT, transition, out=cov_out[t])
        torch.baddbmm(later, back, solved.mT, beta=-1, alpha=-1, out=predicted_cov_out[t + 1])
        mean_adjoint = torch.bmm(back, mean_adjoint)
        torch.neg(mean_adjoint, out=predicted_mean_out[t + 1])
        cov_adjoint = later
        if given[2] is not None:
            cov_adjoint = cov_adjoint + symmetric(torch.bmm(back, given[2][t]))


def _add(gradient: Tensor, pull: Tensor, part: slice, t: int) -> None:
    """Add a step's part to a gradient (group or 1, time or 1, row, column)."""
    at = gradient[:, t if gradient.shape[1] > 1 else 0]
    if gradient.shape[0] == 1:
        at += pull.sum(0, keepdim=True)
    else:
        at[part] += pull
