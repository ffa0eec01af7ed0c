"""Inputs with missing entries: filled, with indicators of missing entries appended."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq.data import _validation as check
from pyro_seq.errors import ShapeError


def fill_inputs(inputs: Any, *, means: Any | None = None) -> Tensor:
    """Fill missing entries of inputs, and append indicators of missing entries, so that a model can tell them apart.

    A missing entry (NaN) takes the last earlier value of its series, as in online use, or the mean of its input if
    there is none. An input without missing entries gets an indicator column of zeros, so that all data get the same
    number of columns.

    Args:
        inputs: (series, time, input), the horizon included; NaN where missing.
        means: (input,), used where there is no earlier value; the means of the known entries by default. Fill test data
            with the means of the training data, ``torch.nanmean(train_inputs, (0, 1))``.

    Returns:
        Inputs (series, time, 2 * input) for ``Sequences(values, inputs=...)``: the filled inputs, then indicators, 1
        where an entry was missing and 0 elsewhere.

    Raises:
        ShapeError: When axes do not fit.

    Example:
        >>> fill_inputs([[[float("nan")], [2.0], [float("nan")], [4.0]]])[0].T
        tensor([[3., 2., 2., 4.],
                [1., 0., 1., 0.]])
    """
    inputs = check.as_float(inputs, "inputs")
    if inputs.ndim != 3:
        raise ShapeError(f"`inputs` must be (series, time, input). Got {tuple(inputs.shape)}.")
    known = ~inputs.isnan()
    if means is None:
        centre = inputs.nanmean((0, 1)).nan_to_num() if inputs.numel() else inputs.new_zeros(inputs.shape[-1])
    else:
        centre = check.as_float(means, "means").to(inputs)
    if centre.shape != inputs.shape[-1:]:
        raise ShapeError(f"`means` must be (input {inputs.shape[-1]},). Got {tuple(centre.shape)}.")
    steps = torch.arange(1, inputs.shape[1] + 1, device=inputs.device)[:, None]
    last = (known * steps).cummax(1).values
    filled = torch.where(last > 0, inputs.gather(1, (last - 1).clamp(min=0)), centre)
    return torch.cat([filled, (~known).to(filled)], -1)
