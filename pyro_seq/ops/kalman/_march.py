r"""The filter step by step with a hand-written adjoint, for states too large for the forms over all steps.

A step reads and writes a few matrices for each group, so groups are processed in parts whose matrices stay in the
cache. A group is a set of series that share covariances; the series are its columns, so that products with them are
matrix products. The adjoint is that of docs/derivations.md, (F9) to (F11), combined for one step: (F15).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

CACHED = 2**17  # bytes of one matrix over all groups of a part
Again = Callable[..., tuple[Tensor, ...]]
OFTEN = 8  # steps between checks whether the covariances still change


class Marched(NamedTuple):
    """A system by groups: matrices (group, time, row, column), columns for the series of a group in the last place.

    Axes of groups, time and columns have size 1 for a quantity without them. `offset` may be None.
    """

    transition: Tensor
    transition_cov: Tensor
    observation: Tensor
    observation_cov: Tensor
    offset: Tensor | None
    initial_mean: Tensor
    initial_cov: Tensor
    values: Tensor

    @property
    def num_groups(self) -> int:
        return self.values.shape[0]

    @property
    def num_steps(self) -> int:
        return self.values.shape[1]

    def is_even(self) -> bool:
        """Whether no matrix changes over time."""
        return all(matrix.shape[1] == 1 for matrix in self[:4])


class FilterMarch(torch.autograd.Function):
    """Filtered and predicted moments (time, group, row, column), log densities (group, column), and least pivots.

    The log density lacks its constant. `again` gives the same five results by operations that can be differentiated
    twice; it is used for second derivatives. `counts` is the number of leading rows of an observation with information
    at each step, if known and fewer than all.
    """

    @staticmethod
    def forward(ctx: Any, again: Again, counts: tuple[int, ...] | None, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        system = Marched(*inputs)  # type: ignore[arg-type]
        steps, groups, num_obs, columns = system.num_steps, system.num_groups, *system.values.shape[2:]
        size = system.initial_cov.shape[-1]
        new = system.values.new_empty
        results = [new(steps, groups, size, k) for k in (columns, size, columns, size)]
        kept = [new(steps, groups, num_obs, k) for k in (size, num_obs, columns)]
        if counts is not None:
            kept[0].zero_()
            kept[1].copy_(torch.eye(num_obs).to(kept[1]))
            kept[2].zero_()
        counts = (num_obs,) * steps if counts is None else tuple(max(count, 1) for count in counts)
        failed = torch.zeros(steps, groups, dtype=torch.int32, device=system.values.device)
        for part in parts(groups, size, system.values):
            _filter_part(system, part, counts, (results, kept, failed))
        factors, innovations = kept[1:]
        white = torch.linalg.solve_triangular(factors, innovations, upper=False)
        pivots = factors.diagonal(dim1=-2, dim2=-1)
        log_density = -0.5 * white.square().sum((0, 2)) - pivots.log().sum((0, 2))[:, None]
        pivots = torch.where(failed > 0, torch.nan, pivots.amin(-1).square())
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, *results)
        ctx.kept, ctx.again, ctx.counts = kept, again, counts
        ctx.mark_non_differentiable(pivots)
        return (*results, log_density, pivots)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs, results = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        if torch.is_grad_enabled():
            return (None, None, *differentiable(ctx.again, inputs, cotangents[:5]))
        system = Marched(*inputs)
        needed = ctx.needs_input_grad[2:]
        gradients = [
            _empty(x) if x is not None and is_needed else None for x, is_needed in zip(inputs, needed, strict=True)
        ]
        for part in parts(system.num_groups, system.initial_cov.shape[-1], system.values):
            _adjoint_part(system, part, ctx.counts, (results, ctx.kept), cotangents, gradients)
        covs = (1, 3, 6)  # for these only the symmetric part is defined
        found = [x.transpose(0, 1) if x is not None and k not in (5, 6) else x for k, x in enumerate(gradients)]
        return (None, None, *(symmetric(x) if x is not None and k in covs else x for k, x in enumerate(found)))


def differentiable(again: Again, inputs: Sequence[Tensor | None], cotangents: Sequence[Tensor | None]) -> list[Any]:
    """Gradients of a function of `inputs`, itself differentiable: `again` recomputes the results."""
    with torch.enable_grad():
        results = again(*inputs)
    pairs = [(result, x) for result, x in zip(results, cotangents, strict=True) if x is not None]
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad([r for r, _ in pairs], wanted, [x for _, x in pairs], create_graph=True, allow_unused=True)
    )
    return [next(found) if x is not None and x.requires_grad else None for x in inputs]


def parts(groups: int, size: int, like: Tensor) -> Iterator[slice]:
    """Slices of groups, as even as possible, whose matrices stay in the cache."""
    most = max(1, CACHED // (size * size * like.element_size()))
    number = -(-groups // most)
    length = -(-groups // number)
    for start in range(0, groups, length):
        yield slice(start, min(start + length, groups))


def each_step(quantity: Tensor, part: slice, steps: int) -> list[Tensor]:
    """Matrices (group, row, column) of each step, of a quantity (group, time, row, column)."""
    length = part.stop - part.start
    quantity = quantity.expand(length, *quantity.shape[1:]) if quantity.shape[0] == 1 else quantity[part]
    each = list(quantity.unbind(1))
    return each if len(each) == steps else each * steps


def add_outer(base: Tensor, left: Tensor, right: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """A multiple of a matrix plus one of L R^T; a matrix product is worthwhile from a few columns on."""
    if left.shape[-1] > 1 or right.shape[-1] > 1:
        return torch.baddbmm(base, left, right.mT, beta=beta, alpha=alpha)
    base = base if beta == 1 else base * beta
    return torch.addcmul(base, left, right.mT, value=alpha)


def symmetric(matrix: Tensor, out: Tensor | None = None) -> Tensor:
    """The symmetric part, in one pass."""
    return torch.lerp(matrix, matrix.mT, 0.5, out=out)


def _filter_part(
    system: Marched, part: slice, counts: tuple[int, ...], out: tuple[list[Tensor], list[Tensor], Tensor]
) -> None:
    """Fill in the results of some groups, quantities stored for the adjoint, and failures of factors: (F2) to (F6)."""
    results, kept, failed = out
    steps, length = system.num_steps, part.stop - part.start
    matrices = [each_step(matrix, part, steps) for matrix in system[:4]]
    offsets = None if system.offset is None else each_step(system.offset, part, steps)
    means, covs, predicted_means, predicted_covs = (result[:, part].unbind(0) for result in results)
    gains, factors, innovations = (x[:, part].unbind(0) for x in kept)
    values = each_step(system.values, part, steps)
    columns = means[0].shape[-1]
    is_even, is_steady = system.is_even(), False
    for t in range(steps):
        transition, noise, observation, observation_cov = (matrix[t] for matrix in matrices)
        rows = slice(counts[t])
        observation, observation_cov = observation[:, rows], observation_cov[:, rows, rows]
        gain, factor = gains[t][:, rows], factors[t][:, rows, rows]
        predicted_mean, predicted = predicted_means[t], predicted_covs[t]
        if t == 0:
            predicted_mean.copy_(_of(system.initial_mean, part).expand(length, -1, columns))
            predicted.copy_(_of(system.initial_cov, part).expand(length, -1, -1))
        else:
            torch.bmm(transition, means[t - 1], out=predicted_mean)
            if offsets is not None:
                predicted_mean.add_(offsets[t])
            if not is_steady:
                torch.baddbmm(noise, torch.bmm(transition, covs[t - 1]), transition.mT, out=predicted)
        if not is_steady:
            _observe(predicted, observation, observation_cov, (covs[t], gain, factor, failed[t, part]))
        innovation = torch.baddbmm(values[t][:, rows], observation, predicted_mean, alpha=-1)
        innovations[t][:, rows] = innovation
        torch.baddbmm(predicted_mean, gain.mT, innovation, out=means[t])
        if is_even and not is_steady and t % OFTEN == OFTEN - 1 and steps - t > OFTEN:
            is_steady = is_same(covs[t], covs[t - 1])
            if is_steady:
                for result, k in ((results[3], predicted), (results[1], covs[t])):
                    result[t + 1 :, part] = k
                kept[0][t + 1 :, part], kept[1][t + 1 :, part] = gains[t], factors[t]


def _observe(predicted: Tensor, observation: Tensor, noise: Tensor, out: tuple[Tensor, ...]) -> None:
    """Covariance after the update, transposed gain, factor of S and whether it failed."""
    seen = torch.bmm(observation, predicted)
    factor, failed = torch.linalg.cholesky_ex(torch.baddbmm(noise, seen, observation.mT))  # (F3)
    gain = torch.cholesky_solve(seen, factor)  # (F4)
    back = gain.mT
    # as a product, for a difference of P and K C P leaves rounding errors where an observation without noise leaves 0
    cov = out[0]
    unit = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    rest = torch.bmm(torch.baddbmm(unit, back, observation, alpha=-1), predicted)
    # (F6): subtracting the rounding error of (I - K C) P C^T - K R gives Joseph's form
    left = torch.baddbmm(torch.bmm(back, noise), rest, observation.mT, beta=-1)
    symmetric(torch.baddbmm(rest, left, gain, alpha=-1), out=cov)
    for place, found in zip(out[1:], (gain, factor, failed), strict=True):
        place.copy_(found)


def is_same(cov: Tensor, before: Tensor) -> bool:
    """Whether covariances have stopped changing, up to rounding, in the units of their states."""
    unit = cov.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    bound = torch.finfo(cov.dtype).eps * unit[..., None] * unit[..., None, :]
    return bool(((cov - before).abs() <= bound).all())


def _adjoint_part(
    system: Marched,
    part: slice,
    counts: tuple[int, ...],
    known: tuple[tuple[Tensor, ...], list[Tensor]],
    cotangents: tuple[Tensor | None, ...],
    gradients: list[Tensor | None],
) -> None:
    """Fill in the gradients of some groups, back in time, from the results and the stored quantities."""
    (results, kept), steps = known, system.num_steps
    transitions, _, observations, _ = (each_step(matrix, part, steps) for matrix in system[:4])
    means, covs = results[0][:, part].unbind(0), results[1][:, part].unbind(0)
    gains, factors, innovations = (x[:, part].unbind(0) for x in kept)
    given = [None if x is None else x[:, part].unbind(0) for x in cotangents[:4]]
    density = None if cotangents[4] is None else cotangents[4][part, None]
    mean_adjoint, cov_adjoint = torch.zeros_like(means[0]), torch.zeros_like(covs[0])
    for t in range(steps - 1, -1, -1):
        rows = slice(counts[t])
        if given[0] is not None:
            mean_adjoint = mean_adjoint + given[0][t]
        if given[1] is not None:
            cov_adjoint = cov_adjoint + symmetric(given[1][t])
        mean_adjoint, cov_adjoint, pulls = _step_adjoint(
            (mean_adjoint, cov_adjoint),
            (means[t], covs[t]),
            (observations[t][:, rows], gains[t][:, rows], factors[t][:, rows, rows], innovations[t][:, rows]),
            density,
            gradients[2] is not None,
        )
        if given[2] is not None:
            mean_adjoint = mean_adjoint + given[2][t]
        if given[3] is not None:
            cov_adjoint = cov_adjoint + symmetric(given[3][t])
        missing = observations[t].shape[1] - counts[t]
        for k, pull in zip((2, 3, 7), pulls, strict=True):
            if missing and pull is not None:
                pull = torch.nn.functional.pad(pull, (0, missing if k == 3 else 0, 0, missing))
            _collect(gradients[k], pull, part, t)
        if t == 0:
            _collect_start(gradients[5], mean_adjoint, part)
            _collect_start(gradients[6], cov_adjoint, part)
            break
        _collect(gradients[1], cov_adjoint, part, t)
        _collect(gradients[4], mean_adjoint, part, t)
        moved = torch.bmm(cov_adjoint, transitions[t])
        if gradients[0] is not None:  # (F10)
            pull = torch.baddbmm(moved, moved, covs[t - 1], beta=0, alpha=2)
            _collect(gradients[0], add_outer(pull, mean_adjoint, means[t - 1]), part, t)
        mean_adjoint, cov_adjoint = torch.bmm(transitions[t].mT, mean_adjoint), torch.bmm(transitions[t].mT, moved)


def _step_adjoint(
    adjoint: tuple[Tensor, Tensor],
    state: tuple[Tensor, Tensor],
    seen: tuple[Tensor, ...],
    density: Tensor | None,
    has_observation: bool,
) -> tuple[Tensor, Tensor, tuple[Tensor | None, Tensor, Tensor]]:
    """From adjoints of a filtered state to those of the prediction, and gradients of C, R and the observation: (F15).

    `density` is the cotangent of the log density of each series, (group, 1, column).
    """
    mean_adjoint, cov_adjoint = adjoint
    observation, gain, factor, innovation = seen
    precision = torch.cholesky_inverse(factor)
    white = torch.bmm(precision, innovation)
    pull, pushed = torch.bmm(gain, mean_adjoint), torch.bmm(gain, cov_adjoint)
    noise_pull, value_pull = torch.bmm(pushed, gain.mT), pull
    if density is None:
        noise_pull = add_outer(noise_pull, pull, white, alpha=-1)
    else:
        weighted = density * white
        value_pull = pull - weighted
        noise_pull = add_outer(noise_pull, 0.5 * weighted - pull, white)
        total = density.sum(-1, keepdim=True)
        noise_pull = torch.addcmul(noise_pull, precision, total, value=-0.5)
    noise_pull = symmetric(noise_pull)
    outer = add_outer(pushed, white, mean_adjoint, beta=-2)
    observation_pull = None
    if has_observation:
        observation_pull = add_outer(torch.bmm(outer, state[1]), value_pull, state[0], alpha=-1)
        if density is not None:
            observation_pull = torch.addcmul(observation_pull, gain, total, value=-1)
    half = torch.baddbmm(outer, noise_pull, observation, beta=0.5, alpha=0.5)
    columns, rows = torch.cat([observation, half], 1), torch.cat([half, observation], 1)
    cov_adjoint = torch.baddbmm(cov_adjoint, columns.mT, rows)
    mean_adjoint = torch.baddbmm(mean_adjoint, observation.mT, value_pull, alpha=-1)
    return mean_adjoint, cov_adjoint, (observation_pull, noise_pull, value_pull)


def _of(start: Tensor, part: slice) -> Tensor:
    """Initial values of some groups."""
    return start if start.shape[0] == 1 else start[part]


def _empty(like: Tensor) -> Tensor:
    """Zeros for a gradient, with time before groups, the order in which it is filled."""
    shape = like.shape if like.ndim == 3 else (like.shape[1], like.shape[0], *like.shape[2:])
    return like.new_zeros(shape)


def _collect(gradient: Tensor | None, pull: Tensor | None, part: slice, t: int) -> None:
    """Add a step's part to a gradient (time, group, row, column), summed over axes that the gradient lacks."""
    if gradient is None:
        return
    assert pull is not None
    if gradient.shape[0] > 1 and gradient[t, part].shape == pull.shape:
        gradient[t, part] = pull  # no other step adds to it
    else:
        _collect_start(gradient[t if gradient.shape[0] > 1 else 0], pull, part)


def _collect_start(gradient: Tensor | None, pull: Tensor, part: slice) -> None:
    """The same for one step, (group, row, column)."""
    if gradient is None:
        return
    if gradient.shape[-1] == 1 and pull.shape[-1] > 1:
        pull = pull.sum(-1, keepdim=True)
    if gradient.shape[0] == 1:
        gradient += pull.sum(0, keepdim=True)
    else:
        gradient[part] += pull
