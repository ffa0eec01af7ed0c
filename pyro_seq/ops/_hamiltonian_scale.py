"""The scale of the moves of chains: standard deviations, or a lower triangular matrix."""

from __future__ import annotations

import torch
from torch import Tensor

_TRUST = 5.0  # prior weight of independence, in draws per direction


def along(scale: Tensor, vector: Tensor) -> Tensor:
    r"""Vectors (..., entry) in units of the target, :math:`L u`."""
    return vector * scale if scale.ndim == 1 else vector @ scale.mT


def across(scale: Tensor, gradient: Tensor) -> Tensor:
    r"""Gradients (..., entry) in units of the scale, :math:`L^\top g`."""
    return gradient * scale if scale.ndim == 1 else gradient @ scale


def without(scale: Tensor, vector: Tensor) -> Tensor:
    r"""Vectors (..., entry) in units of the scale, :math:`L^{-1} x`."""
    if scale.ndim == 1:
        return vector / scale
    return torch.linalg.solve_triangular(scale, vector.mT, upper=False).mT


def scale_of(draws: Tensor, *, is_dense: bool) -> Tensor:
    """Scale of draws (draw, entry) from their standard deviations or covariances, shrunk to independence.

    An entry without spread gets 1.
    """
    deviation = draws.std(0)
    deviation = torch.where(deviation.isfinite() & (deviation > 0), deviation, 1.0)
    if not is_dense:
        return deviation
    units = (draws - draws.mean(0)).nan_to_num(0, 0, 0) / deviation
    count, dim = units.shape
    weight = count / (count + _TRUST * dim)
    correlation = weight * units.mT @ units / max(count - 1, 1)
    correlation.diagonal().fill_(1.0)
    return deviation[:, None] * torch.linalg.cholesky(correlation)
