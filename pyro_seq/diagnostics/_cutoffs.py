"""Where the forecasts of a backtest begin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq.data import Sequences
from pyro_seq.data._validation import as_times
from pyro_seq.data.calendar import as_dates
from pyro_seq.errors import DataError, UnsupportedError


def cutoff_steps(cutoffs: Any, data: Sequences, horizon: int) -> list[int]:
    """Numbers of seen steps at each origin."""
    last = data.num_steps - horizon
    if last < 1:
        raise DataError(f"`horizon` must be below the {data.num_steps} steps of `data`. Got {horizon}.")
    if not hasattr(cutoffs, "__len__"):
        count = whole_number(cutoffs, "cutoffs", 1)
        ends = torch.linspace(min((data.num_steps + 1) // 2, last), last, count + (count == 1)).round().long()[-count:]
        hint = "Ask for fewer."
    else:
        ends = _given(cutoffs, data)
        hint = "Name each once, in order."
    if not len(ends) or int(ends[0]) < 1 or int(ends[-1]) > last or bool((ends.diff() <= 0).any()):
        raise DataError(
            f"`cutoffs` must increase from at least 1 to at most {last} seen steps, for {horizon} of {data.num_steps} "
            f"come after each. Got {ends.tolist()}. {hint}"
        )
    return ends.tolist()


def _given(cutoffs: Any, data: Sequences) -> Tensor:
    if as_dates(cutoffs, "cutoffs") is None:
        return torch.tensor([whole_number(cutoff, "cutoffs", 1) for cutoff in cutoffs], dtype=torch.int64)
    if data.times.ndim == 2:
        raise UnsupportedError(
            "`cutoffs` must be numbers of steps where series have time stamps of their own. Got dates. Put the series "
            "on a common grid, with hidden steps, for origins of one date."
        )
    dates = as_times(cutoffs, torch.device("cpu"), data.calendar, "cutoffs")
    return torch.searchsorted(data.times.cpu(), dates, right=True)
