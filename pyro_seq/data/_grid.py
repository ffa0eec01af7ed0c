"""Series with uneven times on an even grid, with hidden steps between the seen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_seq._arguments import is_positive, real_number, require
from pyro_seq.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from pyro_seq.data.sequences import Sequences

_MOST = 100_000  # steps of a grid: more suggest a wrong `step`


def on_grid(  # noqa: D417 - a method of `data`
    data: Sequences, step: float | None = None, *, tolerance: float = 1e-3
) -> Sequences:
    r"""Put the steps on an even grid, with hidden steps between them, for models that count steps.

    Such a model then accounts for the length of gaps: noise that is added once per step is added for each hidden step
    too, so the variance of a state grows over a gap as over the same number of seen steps. The grid of each series
    starts at its first step, so series with separate times keep them; steps after their last one are hidden. Cost:
    memory for all steps of the grid.

    Args:
        step: Step length of the grid, in the unit of `times`; the shortest gap in the data by default.
        tolerance: How far times may be off the grid, as a fraction of a step, below 0.5; they are moved onto it. 0.49
            accepts any times, provided that no two steps of a series fall on one grid step.

    Returns:
        The same series; the horizon is dropped, add one with `extend`.

    Raises:
        DataError: When `step` is not positive, times are off the grid, two steps of a series fall on one grid step, or
            the grid is longer than 100 000 steps.
        UnsupportedError: When the data have inputs, which are unknown at new steps.

    Example:
        >>> from pyro_seq.data import Sequences
        >>> Sequences(torch.ones(1, 3, 1), times=[0.0, 0.5, 2.0]).on_grid().mask
        tensor([[ True,  True, False, False,  True]])
    """
    data = data.seen()
    if data.inputs is not None:
        raise UnsupportedError(
            "`on_grid` knows no inputs at the steps that it adds. Got data with inputs. Build the grid with "
            "`inputs` at all of its steps, and NaN in `values` between."
        )
    tolerance = real_number(tolerance, "tolerance", 0.0, 0.499)
    if data.num_steps < 2:
        return data
    origin = data.times[..., :1]
    step = float(data.times.diff(dim=-1).min()) if step is None else step
    require(is_positive(step), "step", "a positive number", step)
    place = _places(data, (data.times - origin) / step, step, tolerance)
    length = int(place.max()) + 1
    times = origin + step * torch.arange(length, dtype=origin.dtype, device=origin.device)
    rows = torch.arange(len(data), device=data.device)[:, None]
    place = place.expand(len(data), -1)

    def spread(part: Tensor) -> Tensor:
        empty = part.new_zeros(len(data), length, *part.shape[2:])
        return empty.index_put((rows, place), part)

    values, mask = spread(data.values), spread(data.mask)
    return data._with(values=values, mask=mask, times=times, context=None)


def _places(data: Sequences, position: Tensor, step: float, tolerance: float) -> Tensor:
    """Grid step of each position, shaped as `position`."""
    place = position.round()
    allowed = tolerance + 4 * torch.finfo(torch.float64).eps * float(data.times.abs().max()) / step
    off = (position - place).abs()
    if float(off.max()) > allowed:
        raise DataError(
            f"`times` must lie on a grid of `step` = {step:g}, up to {tolerance:g} of a step. Got one that is "
            f"{float(off.max()):.2g} of a step off. Pass a `step` that all gaps are multiples of, or allow a greater "
            "`tolerance`."
        )
    if bool((place.diff(dim=-1) < 1).any()):
        raise DataError(
            f"`step` must keep the steps of a series apart. Got {step:g}, where the shortest gap is "
            f"{float(data.times.diff(dim=-1).min()):g}. Pass a shorter one."
        )
    if int(place.max()) >= _MOST:
        raise DataError(
            f"`step` must give a grid of at most {_MOST} steps. Got {step:g}, which gives {int(place.max()) + 1}. "
            "Pass a longer one, with a greater `tolerance`."
        )
    return place.long()
