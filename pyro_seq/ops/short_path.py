r"""The density of short paths of one variable from their covariance matrix, if that is cheaper than a filter.

In a system with constant matrices, a disturbance of the state has the effect :math:`c_j = C A^j` after j steps. Steps t
and u of the observations have the covariance

.. math::
    V_{tu} = c_t \Sigma c_u^\top + \sum_{j=0}^{u - 1} c_{j + t - u}\, Q\, c_j^\top + R\, [t = u], \qquad t \ge u = 0, 1,
    \dots

and an unknown start a has the effects :math:`Z a`, rows of Z being :math:`c_t`. After subtraction of the mean,

.. math::
    \log p(y) = -\tfrac12 \left[ n \log 2 \pi + \log |V| + \log |Z^\top V^{-1} Z| + y^\top P y \right], \qquad
    P = V^{-1} - V^{-1} Z (Z^\top V^{-1} Z)^{-1} Z^\top V^{-1},

the same limit as that of the filter for a diffuse start. Hidden steps are removed from y, Z and V. A filter takes
hundreds of small sequential operations; this takes a few dozen, each on time squared numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pyro_seq.ops.kalman import LinearGaussianParameters

__all__ = ["short_path_log_density"]

MOST_STEPS = 400  # above, the filter is cheaper, or about as cheap
_MOST_NUMBERS = 2**22  # of all covariance matrices together: 32 MiB
# Measured with gradients on one thread, states of 1 to 13, 50 to 400 steps, 1 and 16 matrices. This costs 1 ms and, for
# each matrix, 5e-5 ms a number, more where they leave the cache; the filter 9 ms and 1e-3 ms a step and number of the
# covariance of a state. In units of a number here:
_OVERHEAD, _STATE_COST = 160_000, 20  # of the filter
_CACHED_STEPS = 200
_LEAST_LEFT = 1e-8  # of the variance of a step given those before it; below, the filter keeps more digits


def short_path_log_density(
    values: Tensor, parameters: LinearGaussianParameters, mask: Tensor | None = None
) -> Tensor | None:
    r"""Log density of the observed steps of short paths, as by `kalman_filter`, or None if the filter must be used.

    The filter must be used for paths that are long, or have several entries per step, inputs, hidden steps that differ
    between paths, or matrices that change over time; in single precision; and if the covariance matrix is so close to
    singular that precision would be lost, or the start is not determined.

    Args:
        values: Observations, ``(*batch, time, 1)``.
        parameters: The model.
        mask: True where observed, ``(*batch, time, 1)``; None when all are.

    Returns:
        Log densities in nats, ``(*batch,)``.

    References:
        Harvey, "Forecasting, structural time series models and the Kalman filter", 1989, section 3.4. Durbin, Koopman,
        "Time series analysis by state space methods", 2nd edition, 2012, section 7.2.

    Example:
        >>> one, values = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
        >>> walk = LinearGaussianParameters(one, one, one, one, one[0], one)
        >>> short_path_log_density(values, walk)  # N(0; 1, 2)
        tensor(-1.5155, dtype=torch.float64)
    """
    num_steps = values.shape[-2]
    if not _is_short(values, parameters):
        return None
    seen = _common_steps(values, mask)
    matrices = [matrix if matrix.ndim == 2 else matrix.squeeze(-3) for matrix in parameters[:4]]
    batch = torch.broadcast_shapes(
        *(matrix.shape[:-2] for matrix in (*matrices, parameters.initial_cov)), parameters.initial_mean.shape[:-1]
    )
    if seen is None or not _is_cheaper(batch.numel(), num_steps, parameters.initial_mean.shape[-1]):
        return None
    transition, transition_cov, observation, observation_cov = matrices
    responses = _responses(transition, observation, num_steps)
    is_known, initial_cov = None, parameters.initial_cov
    if parameters.diffuse is not None:
        is_known = ~parameters.diffuse
        initial_cov = initial_cov * is_known * is_known[:, None]
    cov = _covariance(responses, transition_cov, initial_cov)
    cov = cov + observation_cov * torch.eye(num_steps, dtype=values.dtype, device=values.device)
    centred = values - responses @ parameters.initial_mean[..., None]
    effects = None if is_known is None else responses[..., ~is_known]
    if not bool(seen.all()):
        centred, cov = centred[..., seen, :], cov[..., seen, :][..., seen]
        effects = None if effects is None else effects[..., seen, :]
    return _gaussian(centred, effects, cov)


def _is_short(values: Tensor, parameters: LinearGaussianParameters) -> bool:
    """Whether the routine applies; inconsistent shapes are also left to the filter, which raises."""
    transition, transition_cov, observation, observation_cov = parameters[:4]
    mean, cov = parameters.initial_mean, parameters.initial_cov
    size = mean.shape[-1] if mean.ndim else 0
    sizes = [(transition, size, size), (transition_cov, size, size), (observation, 1, size), (observation_cov, 1, 1)]
    known = (values, mean, cov, *parameters[:4])
    return (
        values.dtype == torch.float64
        and values.shape[-1] == 1
        and 0 < values.shape[-2] <= MOST_STEPS
        and parameters.inputs is None
        and all(one.dtype == values.dtype and one.device == values.device for one in known)
        and all(one.shape[-2:] == (rows, columns) for one, rows, columns in (*sizes, (cov, size, size)))
        and all(one.ndim == 2 or one.shape[-3] == 1 for one, _, _ in sizes)
    )


def _is_cheaper(num_matrices: int, num_steps: int, state_dim: int) -> bool:
    """Whether the routine is cheaper than the filter."""
    more = num_steps * max(1.0, num_steps / _CACHED_STEPS) - _STATE_COST * state_dim**2
    return num_matrices * num_steps * more < _OVERHEAD and num_matrices * num_steps**2 <= _MOST_NUMBERS


def _common_steps(values: Tensor, mask: Tensor | None) -> Tensor | None:
    """True at the steps (time,) observed in all paths; None if paths differ in this or a value is not finite."""
    if mask is None:
        seen = torch.ones(values.shape[-2], dtype=torch.bool, device=values.device)
    else:
        rows = mask[..., 0].reshape(-1, mask.shape[-2])
        seen = rows[0]
        if len(rows) > 1 and not bool((rows == seen).all()):
            return None
    shown = values[..., 0] if bool(seen.all()) else values[..., seen, 0]
    return seen if shown.shape[-1] and bool(shown.isfinite().all()) else None


def _responses(transition: Tensor, observation: Tensor, num_steps: int) -> Tensor:
    r"""Rows :math:`C A^j`, (\*batch, j, state): each round doubles their number."""
    batch = torch.broadcast_shapes(transition.shape[:-2], observation.shape[:-2])
    rows = observation.expand(*batch, 1, -1)
    power = transition
    while rows.shape[-2] < num_steps:
        rows = torch.cat([rows, rows @ power], -2)
        power = power @ power
    return rows[..., :num_steps, :]


def _covariance(responses: Tensor, transition_cov: Tensor, initial_cov: Tensor) -> Tensor:
    r"""The part of V from moves and start, (\*batch, time, time)."""
    # entry (j, j + lag) of the products, summed over j before a step, is the contribution of moves at that lag
    products = _skewed(responses @ transition_cov @ responses.mT)
    sums = functional.pad(products.cumsum(-2)[..., :-1, :], (0, 0, 1, 0))
    upper = _straight(sums)
    start = responses @ initial_cov @ responses.mT
    return start + upper + upper.triu(1).mT


def _skewed(matrix: Tensor) -> Tensor:
    """Entry (j, lag) of the result is entry (j, j + lag), or 0 beyond the last column; by views alone."""
    size = matrix.shape[-1]
    flat = functional.pad(matrix, (0, size - 1)).flatten(-2)
    return functional.pad(flat, (0, size)).unflatten(-1, (size, 2 * size))[..., :size]


def _straight(skewed: Tensor) -> Tensor:
    """Entry (u, u + lag) of the result is entry (u, lag), and 0 below the diagonal: the inverse of `_skewed`."""
    size = skewed.shape[-1]
    flat = functional.pad(skewed, (0, size)).flatten(-2)
    return flat[..., : size * (2 * size - 1)].unflatten(-1, (size, 2 * size - 1))[..., :size]


def _gaussian(centred: Tensor, effects: Tensor | None, cov: Tensor) -> Tensor | None:
    r"""Log density of paths (\*batch, time, 1), free along `effects`; None if precision would be lost."""
    is_shared = cov.ndim == 2 or cov.shape[-3] == 1
    is_single = cov.ndim == 2 and centred.ndim == 2
    if is_shared:  # paths that share a matrix become columns of one
        cov = cov if cov.ndim == 2 else cov.squeeze(-3)
        effects = effects if effects is None or effects.ndim == 2 else effects.squeeze(-3)
        centred = centred if centred.ndim == 2 else centred.squeeze(-1).mT
    effects = cov.new_zeros(cov.shape[-1], 0) if effects is None else effects
    batch = torch.broadcast_shapes(cov.shape[:-2], centred.shape[:-2])
    root = _factor(cov.detach())
    if root is None:
        return None
    directions = torch.linalg.solve_triangular(root, effects.detach(), upper=False)
    unknown = _factor(directions.mT @ directions)
    if unknown is None:
        return None
    centred, effects, cov = (part.expand(*batch, *part.shape[-2:]) for part in (centred, effects, cov))
    density = _Density.apply(centred, effects, cov, root, directions, unknown)
    return density if is_shared and not is_single else density.squeeze(-1)


class _Density(Function):
    r"""Log density of columns y (\*batch, time, path) with its gradient, which is known.

    .. math::
        \frac{\partial}{\partial V} = -\tfrac12 (P - P y y^\top P), \qquad
        \frac{\partial}{\partial y} = -P y, \qquad
        \frac{\partial}{\partial Z} = -V^{-1} Z S^{-1} + P y b^\top,
        \qquad S = Z^\top V^{-1} Z, \quad b = S^{-1} Z^\top V^{-1} y

    `root` and `unknown` are the Cholesky factors of V and S, and `directions` the first one's inverse times Z.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor, effects: Tensor, cov: Tensor, *known: Tensor) -> Tensor:
        root, directions, unknown = known
        white = torch.linalg.solve_triangular(root, columns, upper=False)
        along = torch.linalg.solve_triangular(unknown, directions.mT @ white, upper=False)
        ctx.save_for_backward(root, directions, unknown, white, along)
        log_det = _log_diagonal(root) + _log_diagonal(unknown)
        square = white.square().sum(-2) - along.square().sum(-2)
        return -0.5 * square - log_det[..., None] - 0.5 * cov.shape[-1] * math.log(2 * math.pi)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        root, directions, unknown, white, along = ctx.saved_tensors
        turned = torch.linalg.solve_triangular(unknown, directions.mT, upper=False)
        residual = torch.linalg.solve_triangular(root.mT, white - turned.mT @ along, upper=True)  # P y
        weighed, total = residual * grad[..., None, :], grad.sum(-1)[..., None, None]
        by_effects = by_cov = None
        basis = torch.linalg.solve_triangular(root.mT, turned.mT, upper=True)  # of the part of the inverse that P lacks
        if ctx.needs_input_grad[1]:
            effect = weighed @ along.mT - total * basis
            by_effects = torch.linalg.solve_triangular(unknown, effect, upper=False, left=False)
        if ctx.needs_input_grad[2]:
            precision = torch.cholesky_inverse(root) - basis @ basis.mT
            by_cov = 0.5 * (weighed @ residual.mT - total * precision)
        return -weighed, by_effects, by_cov, None, None, None


def _factor(matrix: Tensor) -> Tensor | None:
    """The Cholesky factor, or None if one of the matrices is so close to singular that precision would be lost."""
    factor, failures = torch.linalg.cholesky_ex(matrix)
    left = factor.diagonal(dim1=-2, dim2=-1).square() / matrix.diagonal(dim1=-2, dim2=-1)
    is_sound = (failures == 0).all() & (left > _LEAST_LEFT).all()  # false if not finite
    return factor if bool(is_sound) else None


def _log_diagonal(factor: Tensor) -> Tensor:
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
