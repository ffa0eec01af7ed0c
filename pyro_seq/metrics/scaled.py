"""Absolute errors scaled by the past of each series, so that variables in different units can be averaged."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.errors import ShapeError
from pyro_seq.metrics._scoring import Axes, as_mask, as_pair, average


def naive_error(past: Any, period: int = 1, *, mask: Any | None = None) -> Tensor:
    r"""Mean absolute error of the seasonal naive forecast on the seen steps, the scale of `mase`.

    .. math::
        e = \frac1{T - m} \sum_{t > m} |x_t - x_{t - m}|

    Args:
        past: The seen values (series, time, \*obs).
        period: Season length m in steps, on an even grid; with 1 the forecast is the previous value.
        mask: True where seen, over leading axes of `past`; pairs with a hidden value are left out.

    Returns:
        The error (series, \*obs); NaN without any pair.

    Example:
        >>> naive_error(torch.tensor([[[1.0], [5.0], [2.0], [8.0]]]), period=2)
        tensor([[2.]])
    """
    past, _ = as_pair(past, past)
    period, seen = whole_number(period, "period", 1), as_mask(mask, past)
    size = max(past.shape[1] - period, 0)
    pairs = seen[:, :size] & seen[:, past.shape[1] - size :]
    moves = (past[:, past.shape[1] - size :] - past[:, :size]).abs()
    return torch.where(pairs, moves, 0.0).sum(1) / pairs.sum(1)


def mase(
    prediction: Any,
    truth: Any,
    past: Any,
    *,
    period: int = 1,
    mask: Any | None = None,
    past_mask: Any | None = None,
    keep: Axes = (),
) -> Tensor:
    r"""Mean absolute scaled error: relative to the naive forecast's error in the past of the series; 1 is equally good.

    Entries that do not vary in `past`, or have too few seen values, have no scale and are left out.

    Args:
        prediction: (series, time, \*obs); the median is the best.
        truth: (series, time, \*obs).
        past: Earlier seen values of the same series, (series, time, \*obs).
        period: Season length in steps of the naive forecast, see `naive_error`.
        mask: True where scored, over leading axes of `truth`.
        past_mask: True where seen, over leading axes of `past`.
        keep: Axes of `truth` that are not averaged.

    Returns:
        The error, a scalar unless axes are kept; NaN where no entry has a scale.

    Raises:
        ShapeError: When shapes do not fit.

    References:
        Hyndman, Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting, 2006.
    """
    prediction, truth = as_pair(prediction, truth)
    scale = naive_error(past, period, mask=past_mask)[:, None].to(truth)
    if scale.shape[:1] != truth.shape[:1] or scale.shape[2:] != truth.shape[2:]:
        raise ShapeError(
            f"`past` must have the series and entries of `truth` {tuple(truth.shape)}. Got "
            f"{tuple(torch.as_tensor(past).shape)}."
        )
    errors = (prediction - truth).abs() / scale
    return average(errors, as_mask(mask, truth) & (scale > 0), keep)
