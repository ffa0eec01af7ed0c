"""Shared by emissions of counts: the check of values, and rates around those of training."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.nn.units import Standardise
from pyro_seq.nn.values_allowed import require_values

_RARE = 1e-3  # per step: rate of counts that are always 0 in training


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
    r"""Logarithms of rates; the rate of training where `decoded` is 0.

    .. math::
        \log \lambda = \log m + \min(c / m, 1)\, g

    with mean m and deviation c of each variable, so that g has the scale of standardised values: where c is a hundredth
    of m, g = 1 changes the rate by a hundredth. From c = m on, as for rare events, g is the change of the logarithm
    itself.

    Args:
        decoded: Output of the decoder, (..., \*obs).
        units: Mean and deviation of the counts of training.
    """
    mean = torch.where(units.centre > 0, units.centre, _RARE)
    return mean.log() + (units.unit / mean).clamp(max=1.0) * decoded
