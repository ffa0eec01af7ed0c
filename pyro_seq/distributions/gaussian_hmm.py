r"""Conversion between Pyro's ``GaussianHMM`` and the parameters of this library.

Pyro's chain makes a transition before its first observation, multiplies row vectors from the left, and stores
precisions instead of covariances:

.. math::
    z_0 \sim N(m, P), \qquad z_t = z_{t-1} F_t + N(b_t, Q_t), \qquad a_t = z_t H_t + N(d_t, R_t), \qquad t = 1, \dots, T

The first transition is part of the start here, :math:`\mu = F_1^\top m + b_1` and
:math:`\Sigma = F_1^\top P F_1 + Q_1`, and :math:`A_t = F_t^\top, C_t = H_t^\top`. Means of the noise become
effects of an additional state that is always 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pyro.distributions import GaussianHMM, MultivariateNormal
from pyro.ops.gaussian import AffineNormal, Gaussian
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops.kalman import LinearGaussianParameters


class _Noisy(NamedTuple):
    """y = matrix x + N(mean, cov), for column vectors."""

    matrix: Tensor
    mean: Tensor
    cov: Tensor


def from_hmm(hmm: GaussianHMM, num_steps: int | None) -> tuple[LinearGaussianParameters, int]:
    """Parameters of the same distribution of observations, and its number of steps.

    Raises:
        DataError: When `hmm` is not a `GaussianHMM`.
        ShapeError: When the number of steps is unknown, or differs from that of `hmm`.
        UnsupportedError: When `hmm` was updated by observations, so that its factors are not conditional distributions.
    """
    if not isinstance(hmm, GaussianHMM):
        raise DataError(f"`hmm` must be a `pyro.distributions.GaussianHMM`. Got {type(hmm).__name__}.")
    known = hmm.duration
    if len({num_steps, known} - {None}) != 1:
        raise ShapeError(
            f"`num_steps` must be the length of a path. Got {num_steps} for a `GaussianHMM` of "
            f"{'no given length' if known is None else f'{known} steps'}. Pass `num_steps=` here, or `duration=` there."
        )
    move, seen = _conditional(hmm._trans, hmm.hidden_dim), _conditional(hmm._obs, hmm.hidden_dim)
    cov = torch.cholesky_inverse(torch.linalg.cholesky(hmm._init.precision))
    mean = cov @ hmm._init.info_vec[..., None]
    _require_normalised(hmm._init.event_logsumexp(), hmm._init.log_normalizer)
    columns = (move.matrix, move.mean[..., None], move.cov)
    first = _Noisy(*(part[..., 0, :, :] if part.ndim > 2 else part for part in columns))
    mean = (first.matrix @ mean + first.mean).squeeze(-1)
    cov = first.matrix @ cov @ first.matrix.mT + first.cov
    later = move.mean[..., 1:, :] if move.mean.ndim > 1 and move.mean.shape[-2] > 1 else move.mean
    if bool((later != 0).any()) or bool((seen.mean != 0).any()):
        move, seen, mean, cov = _with_constant(move, seen, mean, cov)
    return LinearGaussianParameters(move.matrix, move.cov, seen.matrix, seen.cov, mean, cov), int(num_steps or known)


def to_hmm(parameters: LinearGaussianParameters, num_steps: int, batch_shape: torch.Size) -> GaussianHMM:
    """The same distribution of observations as a Pyro object; its first transition ignores Pyro's start.

    Raises:
        UnsupportedError: When a start is diffuse, or a covariance is singular, because Pyro needs its precision.
    """
    if parameters.diffuse is not None and bool(parameters.diffuse.any()):
        raise UnsupportedError(
            "`GaussianHMM` has no start of which nothing is known. Give `initial_mean` and `initial_cov`, without "
            "`diffuse`."
        )
    A, Q, C, R = (_over_time(matrix, num_steps) for matrix in parameters[:4])
    mean = A.new_zeros(A.shape[:-1])
    if parameters.inputs is not None and parameters.input_matrix is not None:
        mean = mean + (_over_time(parameters.input_matrix, num_steps) @ parameters.inputs[..., None]).squeeze(-1)
    A = _from_second_on(torch.zeros_like(A[..., 0, :, :]), A, 2)
    Q = _from_second_on(parameters.initial_cov, Q, 2)
    mean = _from_second_on(parameters.initial_mean, mean, 1)
    for name, cov in (("initial_cov", Q[..., :1, :, :]), ("transition_cov", Q), ("observation_cov", R)):
        if bool((torch.linalg.cholesky_ex(cov).info > 0).any()):
            raise UnsupportedError(
                f"`GaussianHMM` holds precisions, so that `{name}` must be positive definite at every step. It is "
                "singular. Keep the `LinearGaussian`, or add a little noise."
            )
    start = MultivariateNormal(
        mean.new_zeros(mean.shape[-1]), torch.eye(mean.shape[-1], dtype=A.dtype, device=A.device)
    )
    noise = MultivariateNormal(R.new_zeros(R.shape[:-1]), R)
    return GaussianHMM(start.expand(batch_shape), A.mT, MultivariateNormal(mean, Q), C.mT, noise, duration=num_steps)


def _conditional(factor: Gaussian | AffineNormal, size: int) -> _Noisy:
    """Conditional distribution of the second of two vectors given the first, of size `size`, from a joint factor."""
    if isinstance(factor, AffineNormal):
        return _Noisy(factor.matrix.mT, factor.loc, factor.scale.square().diag_embed())
    cov = torch.cholesky_inverse(torch.linalg.cholesky(factor.precision[..., size:, size:]))
    rest = factor.marginalize(right=factor.dim() - size)
    for part, whole in ((rest.precision, factor.precision), (rest.info_vec, factor.info_vec)):
        _require_normalised(part, whole)
    _require_normalised(rest.log_normalizer, factor.log_normalizer)
    mean = (cov @ factor.info_vec[..., size:, None]).squeeze(-1)
    return _Noisy(-cov @ factor.precision[..., size:, :size], mean, cov)


def _require_normalised(rest: Tensor, whole: Tensor) -> None:
    """Raise if a factor depends on the first vector after marginalising the second, or is not normalised."""
    if bool(rest.abs().max() > torch.finfo(rest.dtype).eps ** 0.5 * (1 + whole.abs().max())):
        raise UnsupportedError(
            "`hmm` must be a law of observations, as `GaussianHMM(...)` makes it. Its factors are those of one that "
            "`conjugate_update` has changed. Convert it before, and give the observations to the `LinearGaussian`."
        )


def _with_constant(move: _Noisy, seen: _Noisy, mean: Tensor, cov: Tensor) -> tuple[_Noisy, _Noisy, Tensor, Tensor]:
    """The same with an additional last state that is always 1 and whose effects are the means of the noise."""
    one = mean.new_ones(1)
    row = torch.cat([torch.zeros_like(move.matrix[..., :1, :]), one.expand(*move.matrix.shape[:-2], 1, 1)], -1)
    matrix = torch.cat([torch.cat([move.matrix, move.mean[..., None]], -1), row], -2)
    moved = _Noisy(matrix, torch.zeros_like(matrix[..., 0]), _padded(move.cov))
    observed = _Noisy(torch.cat([seen.matrix, seen.mean[..., None]], -1), torch.zeros_like(seen.mean), seen.cov)
    return moved, observed, torch.cat([mean, one.expand(*mean.shape[:-1], 1)], -1), _padded(cov)


def _padded(cov: Tensor) -> Tensor:
    return torch.nn.functional.pad(cov, (0, 1, 0, 1))


def _over_time(matrix: Tensor, num_steps: int) -> Tensor:
    matrix = matrix if matrix.ndim > 2 else matrix[None]
    return matrix.expand(*matrix.shape[:-3], num_steps, *matrix.shape[-2:])


def _from_second_on(first: Tensor, values: Tensor, event_dim: int) -> Tensor:
    """`values` (*batch, time, event) with the first step replaced by `first` (*batch, event)."""
    time = -event_dim - 1
    batch = torch.broadcast_shapes(first.shape[: first.ndim - event_dim], values.shape[:time])
    first = first.expand(batch + first.shape[first.ndim - event_dim :]).unsqueeze(time)
    return torch.cat([first, values.expand(batch + values.shape[time:]).narrow(time, 1, values.shape[time] - 1)], time)
