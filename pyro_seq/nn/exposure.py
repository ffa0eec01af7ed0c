"""Exposure of counts: a column of the known inputs that multiplies the rate, not standardised."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyro_seq._arguments import described
from pyro_seq.data import Sequences
from pyro_seq.data._horizon import is_padding
from pyro_seq.data._validation import widen
from pyro_seq.distributions.counts import NegativeBinomialCounts, PoissonCounts
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.units import Standardise

Counts = TypeVar("Counts", PoissonCounts, NegativeBinomialCounts)
_LEAST = torch.finfo(torch.float64).tiny


def keep_exposure(part: Any, exposure: str | int | None) -> None:
    """Give an emission its attribute `exposure`: the name of an input, or its number.

    Without one, the class attribute None applies, so that the part has no option unknown to files of earlier versions.

    Raises:
        DataError: When it is neither a name nor a number.
    """
    if exposure is None:
        return
    is_number = isinstance(exposure, int) and not isinstance(exposure, bool) and exposure >= 0
    if not is_number and not (isinstance(exposure, str) and exposure):
        raise DataError(
            f"`exposure` must be the name of an input or its number, counted from 0. Got {described(exposure)}. Pass "
            "the exposures as a column of `inputs=` of the data, and say here which it is."
        )
    part.exposure = exposure


def column_of(exposure: str | int, data: Sequences) -> int:
    """The number of the column of ``data.inputs`` that holds the exposures.

    Raises:
        ShapeError: When the data have no such input.
    """
    size, names = 0 if data.inputs is None else data.inputs.shape[-1], data.labels.inputs
    if isinstance(exposure, int) and exposure < size:
        return exposure
    if isinstance(exposure, str) and size and names is not None and exposure in names:
        return list(names).index(exposure)
    there = f"those called {list(names)}" if names is not None and size else f"{size} without names"
    raise ShapeError(
        f"`data.inputs` must have the exposure {exposure!r} of the emission. Got {there}. Pass it as a column of "
        "`inputs=`, over the horizon too, with `labels=Labels(inputs=[...])` where it goes by its name."
    )


def exposures_of(exposure: str | int, data: Sequences) -> Tensor:
    """Exposures at all of ``data.times``, (series, time), not standardised.

    The zeros with which `Sequences.from_list` pads the end of a series count as 1.

    Raises:
        ShapeError: When the data have no such input.
    """
    column = column_of(exposure, data)
    assert data.inputs is not None
    found = data.inputs[..., column]
    return torch.where((found == 0) & is_padding(data), torch.ones_like(found), found)


def require_exposures(exposure: str | int, data: Sequences) -> None:
    """Refuse exposures that are not positive.

    Raises:
        DataError: With the first one, its series and time, and the number of such entries.
        ShapeError: When the data have no such input.
    """
    found = exposures_of(exposure, data)
    wrong = ~((found > 0) & found.isfinite())
    if not bool(wrong.any()):
        return
    series, step = wrong.nonzero()[0].tolist()
    time = data.times.expand(len(data), -1)[series, step]
    stamp = f"{float(time):g}" if data.calendar is None else str(data.calendar.dates(time[None])[0])
    who = series if data.labels.series is None else repr(data.labels.series[series])
    raise DataError(
        f"`data.inputs` must have positive exposures in column {exposure!r}. Got {float(found[series, step]):g} in "
        f"series {who} at time {stamp}, one of {int(wrong.sum())} such values. Pass exposures as they are, not their "
        "logarithms; where nothing was at risk nothing could be counted: hide the count, with any positive exposure."
    )


def under_raw_inputs(model: nn.Module, law: TorchDistribution, data: Sequences, steps: slice) -> TorchDistribution:
    """The law of a model's emission under its raw inputs, if it reads any."""
    emission: Any = getattr(model, "emission", None)
    return emission.under_inputs(law, data, steps) if getattr(emission, "raw_inputs", ()) else law


def under_exposure(law: Counts, exposure: str | int | None, data: Sequences, steps: slice) -> Counts:
    """The law of counts at the exposures of some steps, from the law at exposure 1; unchanged without an exposure."""
    if exposure is None:
        return law
    logs = exposures_of(exposure, data)[:, steps].log().to(data.dtype)
    return law.multiplied(logs.reshape(*logs.shape, *(1,) * len(data.obs_shape)))


def take_rates(units: Standardise, data: Sequences, exposure: str | int | None) -> None:
    r"""Set `units` to the mean and deviation of rates, weighted by exposure.

    Without an exposure, these are the mean and deviation of counts.

    .. math::
        m = \frac{\sum x}{\sum e}, \qquad c^2 = \frac{\sum e\, (x / e - m)^2}{\sum e}

    so that counts with little exposure, whose rates are noisy, have little weight.
    """
    units.adapt(data)
    if exposure is None:
        return
    at_risk = exposures_of(exposure, data)[:, : data.num_steps].double()
    weights = widen(at_risk, data.values).expand_as(data.values) * data.entry_mask
    rates = torch.where(data.entry_mask, data.values / widen(at_risk, data.values), 0.0)

    def mean(entries: Tensor) -> Tensor:
        """Weighted mean, in the shape of the units."""
        total, weight = ((weights * part).sum((0, 1)).sum_to_size(units.unit.shape) for part in (entries, 1.0))
        return total / weight.clamp(min=_LEAST)

    centre = mean(rates)
    deviation = mean((rates - centre).square()).sqrt()
    units.centre.copy_(centre)
    units.unit.copy_(torch.where(deviation > 0, deviation, units.unit.double()))
