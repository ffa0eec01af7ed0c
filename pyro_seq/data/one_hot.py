"""Classes as entries of an observation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data._validation import as_float
from pyro_seq.errors import DataError


def one_hot(classes: Any, num_classes: int) -> Tensor:
    r"""One-hot coding: class k = 0, 1, 2, ... becomes `num_classes` entries, 1 at place k, else 0; NaN stays NaN.

    Encoders then see no order among classes, and means are probabilities. The entries of a variable are adjacent and
    follow those of the previous variable; join them with other columns by ``torch.cat([...], -1)``.

    Args:
        classes: Whole numbers (series, time, \*obs), NaN where one is missing.
        num_classes: Number of classes.

    Returns:
        Floating numbers (series, time, \*obs), the last axis `num_classes` times as long.

    Raises:
        DataError: When a class is not a whole number from 0 to ``num_classes - 1``.

    Example:
        >>> one_hot(torch.tensor([[[2.0], [torch.nan], [0.0]]]), 3)[0].tolist()
        [[0.0, 0.0, 1.0], [nan, nan, nan], [1.0, 0.0, 0.0]]
    """
    num_classes = whole_number(num_classes, "num_classes", 2)
    numbers = as_float(classes, "classes")
    is_missing = numbers.isnan()
    known = torch.where(is_missing, 0.0, numbers)
    wrong = (known != known.round()) | (known < 0) | (known >= num_classes)
    if bool(wrong.any()):
        where = tuple(wrong.nonzero()[0].tolist())
        raise DataError(
            f"`classes` must be whole numbers from 0 to {num_classes - 1}, NaN where one is missing. Got "
            f"{float(numbers[where]):g} at {where} (series, time, *obs)."
        )
    entries = torch.nn.functional.one_hot(known.long(), num_classes).to(numbers.dtype)
    return torch.where(is_missing[..., None], torch.nan, entries).flatten(-2)
