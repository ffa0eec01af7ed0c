"""Trial calls of functions passed by the user, so that unusable ones are refused before training."""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch

from pyro_seq.errors import DataError


def require_optimizer(optimizer: Any, learning_rate: float) -> None:
    """Raise unless it makes a torch optimiser whose steps need no closure.

    Raises:
        DataError: With the message of the first call.
    """
    try:
        made = optimizer([torch.nn.Parameter(torch.ones(1))], lr=learning_rate)
        if not isinstance(made, torch.optim.Optimizer):
            raise TypeError(f"it made a {type(made).__name__}")
        inspect.signature(made.step).bind()
    except Exception as error:
        raise DataError(
            "`optimizer` must be a torch optimiser class, or a callable `(params, lr=...)` that makes one whose "
            f"`step()` needs no closure. Got {optimizer!r}: {error}. Pass `torch.optim.Adam`, or other options of it "
            "by `functools.partial(torch.optim.Adam, betas=(0.95, 0.999))`; those of `pyro.optim` wrap "
            "those of torch of the same name."
        ) from error


def require_schedule(schedule: Any, name: str) -> None:
    """Raise unless it returns a number for the first step.

    Raises:
        DataError: With the message of the first call.
    """
    try:
        value = float(schedule(0))
        if not math.isfinite(value):
            raise ValueError(f"at step 0 it is {value}")
    except Exception as error:
        raise DataError(
            f"`{name}` must be a function of the step that gives a finite number, such as those in "
            f"`pyro_seq.training.schedules`. Got {schedule!r}: {error}. A scheduler of torch or Pyro changes an "
            "optimiser instead: write the rate that it would set as `lambda step: 0.99**step`, a factor on "
            "`learning_rate`."
        ) from error
