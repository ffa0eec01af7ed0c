"""Inputs that were not always recorded: filled, and with a word of where."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq.data import _validation as check
from pyro_seq.errors import ShapeError


def fill_inputs(inputs: Any, *, means: Any | None = None) -> Tensor:
    """Fill missing entries of inputs, and append where they were missing, so that a model may tell.

    A missing entry (NaN) takes the last value of its series before it, as one must who works on-line, and the mean of
    its input where there is none. An input that never lacks has a column of zeros, so that other data get as many.

    Args:
        inputs: (series, time, input), the horizon included; NaN where missing.
        means: (input,), for what has no value before it; the means of the known entries when absent. Fill test data
            with those of the training data, ``torch.nanmean(train_inputs, (0, 1))``.

    Returns:
        Inputs (series, time, 2 * input) for ``Sequences(values, inputs=...)``: the filled ones, then 1 for each entry
        that was missing and 0 for the others.

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
