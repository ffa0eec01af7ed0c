"""How well each observation is predicted from all others, from one smoother run."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.ops.kalman.routines import SmootherResult
from pyro_seq.ops.kalman.system import LinearGaussianParameters, prepare

__all__ = ["leave_one_out_log_density"]


def leave_one_out_log_density(
    values: Tensor, parameters: LinearGaussianParameters, smoothed: SmootherResult, mask: Tensor | None = None
) -> Tensor:
    r"""Log density of each observation given those of all other steps, before and after it.

    With the smoothing error :math:`u_t` of the observation and its precision :math:`D_t`,

    .. math::
        u_t = R_t^{-1} (a_t - C_t m_{t|T}), \qquad
        D_t = R_t^{-1} - R_t^{-1} C_t P_{t|T} C_t^T R_t^{-1}, \qquad
        a_t \mid a_{-t} \sim N(a_t - D_t^{-1} u_t,\; D_t^{-1})

    Averaged over draws of the parameters with weights :math:`1 / p(a_t \mid a_{-t}, \theta)` this is the leave-one-out
    predictive density of a Bayesian fit; ``az.loo`` smooths these weights. Needs noise in every observation. A step
    with hidden entries is scored by its observed ones. Derived in docs/derivations.md, (S6).

    Args:
        values: Observations, ``(*batch, time, obs)``.
        parameters: The model.
        smoothed: Moments by :func:`pyro_seq.ops.kalman.kalman_smoother` for the same arguments.
        mask: True where observed, ``(*batch, time)`` or ``(*batch, time, obs)``; None when all are.

    Returns:
        Log densities in nats, ``(*batch, time)``; 0 at hidden steps.

    Raises:
        ShapeError: If `smoothed` belongs to other data.

    Example:
        >>> from pyro_seq.ops.kalman import kalman_smoother
        >>> one, values = torch.ones(1, 1), torch.zeros(1, 1)
        >>> walk = LinearGaussianParameters(one, one, one, one, torch.zeros(1), one)
        >>> leave_one_out_log_density(values, walk, kalman_smoother(values, walk))  # N(0; 0, 2)
        tensor([-1.2655])

    References:
        de Jong, "A cross-validation filter for time series models", Biometrika, 1988. Buerkner, Gabry, Vehtari,
        "Efficient leave-one-out cross-validation for Bayesian non-factorized normal and Student-t models",
        Computational Statistics, 2021.
    """
    system = prepare(values, parameters, mask)
    if smoothed.smoothed_means.shape[-2] != system.num_steps:
        raise ShapeError(
            f"`smoothed` must have as many steps as `values`, {system.num_steps}. "
            f"Got {smoothed.smoothed_means.shape[-2]}. Smooth the same data."
        )
    noise = torch.linalg.cholesky(system.observation_cov)
    loading = torch.cholesky_solve(system.observation, noise)
    error = system.values - system.observation @ smoothed.smoothed_means[..., None]
    error = torch.cholesky_solve(error, noise.expand(*error.shape[:-2], *noise.shape[-2:]))
    precision = torch.cholesky_inverse(noise) - loading @ smoothed.smoothed_covs @ loading.mT
    factor = torch.linalg.cholesky(precision)
    white = torch.linalg.solve_triangular(factor, error, upper=False).squeeze(-1)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    density = log_det - 0.5 * white.square().sum(-1) - system.log_constant(system.num_seen)
    return density.expand(*system.batch_shape, -1)
