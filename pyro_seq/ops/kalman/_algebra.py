"""Linear algebra of many small matrices, their axes in front: (row, column, time, *batch).

A kernel then runs along time and batch, which are long, instead of once per matrix: five times faster at size 4.
Matrices larger than `UNROLLED` use batched routines and stay last in memory. Everything here is differentiable.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_seq._nonfinite import is_chanced
from pyro_seq.errors import NumericalError

UNROLLED = 8
# up to this size one product and one sum cost less than a chain of fused products
SMALL = 2**15


@functools.lru_cache(maxsize=1024)
def common_shape(*shapes: torch.Size) -> torch.Size:
    """The broadcast shape; cached, because `torch.broadcast_shapes` is slow Python and the same few shapes recur."""
    return torch.broadcast_shapes(*shapes)


def to_front(matrix: Tensor, num_axes: int) -> Tensor:
    """From (*batch, time, row, column) to (row, column, time, *batch) with `num_axes` batch axes, also in memory."""
    matrix = matrix.reshape((1,) * (num_axes + 3 - matrix.ndim) + matrix.shape)
    if not _is_large(matrix.shape[-2:]):
        return matrix.permute(-2, -1, -3, *range(num_axes)).contiguous()
    return to_first(matrix.permute(-3, *range(num_axes), -2, -1).contiguous())


def _is_large(sizes: torch.Size) -> bool:
    return max(sizes) > UNROLLED


def to_first(matrix: Tensor) -> Tensor:
    """View with the matrix axes first, without a copy, for large matrices, which stay last in memory."""
    return matrix.movedim((-2, -1), (0, 1))


def to_last(matrix: Tensor) -> Tensor:
    """Inverse of `to_first`."""
    return matrix.movedim((0, 1), (-2, -1))


def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    """Concatenate along rows, columns or time (0 to 2), and keep the order in memory."""
    if not any(_is_large(part.shape[:2]) for part in parts):
        return torch.cat(list(parts), axis)
    return to_first(torch.cat([to_last(part) for part in parts], (-2, -1, 0)[axis]))


def layers(steps: Sequence[Tensor]) -> Tensor:
    """Stack single steps along time."""
    steps = torch.broadcast_tensors(*steps)
    if not _is_large(steps[0].shape[:2]):
        return torch.stack(list(steps), 2)
    return to_first(torch.stack([to_last(step) for step in steps]))


def interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """Steps of two sequences in alternation."""
    batch = common_shape(even.shape[3:], odd.shape[3:])
    sizes, steps = even.shape[:2], even.shape[2] + odd.shape[2]
    is_large = _is_large(sizes)
    result = to_first(even.new_empty(steps, *batch, *sizes)) if is_large else even.new_empty(*sizes, steps, *batch)
    result[:, :, 0::2], result[:, :, 1::2] = even, odd
    return result


def append(first: Tensor, second: Tensor) -> Tensor:
    """Join (*batch, time, row, column) along time; leading axes present in only one of them are expanded."""
    batch = common_shape(first.shape[:-3], second.shape[:-3])
    return torch.cat([part.expand(*batch, *part.shape[-3:]) for part in (first, second)], -3)


def to_back(matrix: Tensor) -> Tensor:
    """Inverse of `to_front`."""
    return matrix.permute(*range(3, matrix.ndim), 2, 0, 1).contiguous()


def sum_to(matrix: Tensor, shape: torch.Size) -> Tensor:
    """Sum over the axes along which a tensor of the given shape was expanded."""
    return matrix if matrix.shape == shape else matrix.sum_to_size(shape)


def along_time(first: Tensor, later: Tensor) -> Tensor:
    """Join along time; batch axes are expanded."""
    batch = common_shape(first.shape[3:], later.shape[3:])
    return join([part.expand(*part.shape[:3], *batch) for part in (first, later)], 2)


def zero_step(like: Tensor) -> Tensor:
    """One step of zeros, to be joined to others."""
    return like.new_zeros(*like.shape[:2], 1, *like.shape[3:])


def transpose(matrix: Tensor) -> Tensor:
    """Rows and columns exchanged."""
    return matrix.transpose(0, 1)


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part of a matrix."""
    return (matrix + transpose(matrix)).mul_(0.5)


def plus(fresh: Tensor, term: Tensor) -> Tensor:
    """A sum, in place in the first tensor if its shape is large enough; no other code may hold that tensor."""
    fits = common_shape(fresh.shape, term.shape) == fresh.shape
    return fresh.add_(term) if fits else fresh + term


def identity(like: Tensor) -> Tensor:
    """Identity of the size of a matrix, which broadcasts against it."""
    eye = torch.eye(like.shape[0], dtype=like.dtype, device=like.device)
    return eye[(...,) + (None,) * (like.ndim - 2)]


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product."""
    size = left.shape[1]
    if size > UNROLLED:
        return to_first(to_last(left) @ to_last(right))
    if max(left.numel() * right.shape[1], right.numel() * left.shape[0]) <= SMALL:
        return (left.unsqueeze(2) * right.unsqueeze(0)).sum(1)
    result = left[:, 0, None] * right[None, 0]
    for i in range(1, size):
        result = result.addcmul_(left[:, i, None], right[None, i])
    return result


def sandwich(outer: Tensor, inner: Tensor, *terms: Tensor) -> Tensor:
    """The symmetric matrix B A B^T of a symmetric A, plus symmetric terms."""
    result = symmetric(product(product(outer, inner), transpose(outer)))
    for term in terms:
        result = plus(result, term)
    return result


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve A X = B with pivoting."""
    solution = to_first(torch.linalg.solve_ex(to_last(matrix), to_last(right))[0])
    return solution if _is_large(matrix.shape[:2]) else solution.contiguous()


def solve_positive(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solve A X = B with A positive definite, by elimination.

    Returns:
        X, and the pivots (row, time, *batch): all positive if and only if A is, and their product is its determinant.
    """
    size = matrix.shape[0]
    if size > UNROLLED:
        factor = torch.linalg.cholesky_ex(to_last(matrix))
        solution = torch.cholesky_solve(to_last(right), factor.L)
        pivots = factor.L.diagonal(dim1=-2, dim2=-1).square().movedim(-1, 0)
        pivots = torch.where(factor.info > 0, torch.nan, pivots)
        return to_first(solution), pivots
    rest, rows = _joined(matrix, right), []
    for _ in range(size):
        rows.append(rest[0])
        scaled = rest[1:, 0] / rest[0, 0]
        rest = torch.addcmul(rest[1:, 1:], scaled[:, None], rest[None, 0, 1:], value=-1)
    solution = rows[-1][None, 1:] / rows[-1][0]
    for row in rows[-2::-1]:
        known = solution.shape[0]
        top = row[1 + known :] - (row[1 : 1 + known, None] * solution).sum(0)
        solution = torch.cat([(top / row[0])[None], solution])
    return solution, torch.stack([row[0] for row in rows])


def require_positive(pivots: Tensor, what: str, remedy: str) -> None:
    """Raise unless the pivots (time, *batch) of the covariances of an `innovation` or a `prediction` are positive.

    Skipped if a caller handles failure itself: it sees the logarithms of pivots, or gains that depend on them.
    """
    if is_chanced():
        return
    wrong = ~(pivots > 0)
    if wrong.any():
        first, *series = wrong.nonzero()[0].tolist()
        is_shared = wrong[0].numel() == 1
        where = f"First at step {first + (what == 'prediction')}" + ("" if is_shared else f", series {series}")
        raise NumericalError(
            f"The covariance of the {what} must be positive definite. {where}, it is not, or not finite. {remedy}"
        )


def _joined(matrix: Tensor, right: Tensor) -> Tensor:
    shape = common_shape(matrix.shape[2:], right.shape[2:])
    return join([part.expand(*part.shape[:2], *shape) for part in (matrix, right)], 1)
