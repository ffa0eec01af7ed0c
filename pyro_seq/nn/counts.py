"""What emissions of counts have in common: what they refuse, and rates around those of training."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.nn.units import Standardise
from pyro_seq.nn.values_allowed import require_values

_RARE = 1e-3  # a step: rate of what training never shows


def require_counts(data: Sequences, emission: str) -> None:
    """Refuse observed values that are not 0, 1, 2, ..."""
    values = data.values
    require_values(
        data,
        (values >= 0) & (values == values.round()),
        f"whole numbers from 0 on for a `{emission}`",
        "Hide what was not counted, by NaN or a mask. Pass counts as they are, not rates or shares of them; for other "
        "positive numbers use `LogNormalEmission`.",
    )


def log_rates(decoded: Tensor, units: Standardise) -> Tensor:
    r"""Logarithms of rates, that of training where `decoded` is 0.

    .. math::
        \log \lambda = \log m + \min(c / m, 1)\, g

    with mean m and deviation c of each variable, so that g is about as large as values in standard units: where a count
    varies by a hundredth, so does its rate at g = 1. Beyond c = m, as for rare events, g is the logarithm itself.

    Args:
        decoded: What the decoder wrote, (..., \*obs).
        units: Mean and deviation of the counts of training.
    """
    mean = torch.where(units.centre > 0, units.centre, _RARE)
    return mean.log() + (units.unit / mean).clamp(max=1.0) * decoded
