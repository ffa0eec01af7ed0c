"""Scaling of channels by the range of the training series."""

from __future__ import annotations

import numpy as np


def training_range(rows: np.ndarray, *, divide_by_maximum: bool) -> tuple[np.ndarray, np.ndarray]:
    """Offset to subtract and scale to divide by, each (channel,), from training rows (row, channel).

    NaN entries count as missing. A channel that is constant or never observed is not divided.

    Args:
        rows: Training data.
        divide_by_maximum: Divide by the maximum instead of by maximum minus minimum.
    """
    low, high = (reduce(rows, axis=0, initial=np.nan) for reduce in (np.fmin.reduce, np.fmax.reduce))
    divisor = high if divide_by_maximum else high - low
    return np.nan_to_num(low), np.where(np.isnan(divisor) | (divisor == 0), 1.0, divisor)
