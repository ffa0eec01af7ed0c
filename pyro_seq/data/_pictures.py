"""Plots of data and predictions: intervals, observations, and dates if there is a calendar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_seq._arguments import require
from pyro_seq._style import ACCENT, HORIZON, MODEL, TRUTH, as_numpy, new_figure, tidy
from pyro_seq.data._frames import naive, stamps
from pyro_seq.data.calendar import Calendar
from pyro_seq.data.labels import Labels
from pyro_seq.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyro_seq.data.sequences import Sequences

LEVELS = (0.9, 0.5)
_MOST_SERIES, _MOST_VARIABLES = 3, 4


def plot_prediction(
    samples: Tensor,
    times: Tensor,
    labels: Labels,
    calendar: Calendar | None,
    data: Sequences | None,
    series: Sequence[int | str] | None,
    variables: Sequence[int | str] | None,
) -> Figure:
    r"""Plot draws (sample, series, time, \*obs), with one row per series and one column per variable."""
    if data is not None and (len(data), *data.obs_shape) != (samples.shape[1], *samples.shape[3:]):
        raise ShapeError(
            f"`data` must have the series and the observations of the prediction, {samples.shape[1]} series of "
            f"{tuple(samples.shape[3:])}. Got {len(data)} of {data.obs_shape}. Select the series of both alike."
        )
    rows = _places(series, labels.of("series", samples.shape[1:2]), "series", _MOST_SERIES)
    columns = _places(variables, labels.of("variables", samples.shape[3:]), "variables", _MOST_VARIABLES)
    draws = samples.reshape(*samples.shape[:3], -1)
    figure = new_figure(0.9 + (3.0 if len(columns) > 1 else 5.0) * len(columns), 0.8 + 1.7 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex="row")
    for line, (row, series_name) in zip(grid, rows.items(), strict=True):
        own = times[row] if times.ndim == 2 else times
        for panel, (column, name) in zip(line, columns.items(), strict=True):
            tidy(
                panel,
                title=name if panel in grid[0] else "",
                y=_of_series(series_name) if panel is line[0] else "",
                x="time" if calendar is None and panel in grid[-1] else "",
            )
            border = None if data is None else _start_of_horizon(data, row, own)
            draw_fan(panel, axis_values(own, calendar), draws[:, row, :, column], LEVELS)
            if data is not None:
                draw_truth(panel, data, row, column, border)
            if border is not None:
                _shade(panel, own, calendar)
            date_axis(panel, calendar, has_year=panel in grid[-1])
    handles, names = _legend(grid)
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), fontsize=8, frameon=False)
    return figure


def draw_fan(panel: Axes, times: np.ndarray, draws: Tensor, levels: Sequence[float], num_paths: int = 0) -> None:
    """Intervals of one entry's draws (sample, time), widest first, the median, and the first few draws."""
    draws = draws.double()
    for place, level in enumerate(levels):
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype, device=draws.device)
        low, high = as_numpy(torch.quantile(draws, ends, dim=0))
        opacity = 0.18 + 0.22 * place
        panel.fill_between(times, low, high, color=MODEL, alpha=opacity, linewidth=0, label=f"{100 * level:.3g} %")
    for path in as_numpy(draws[:num_paths]):
        panel.plot(times, path, color=MODEL, linewidth=0.5, alpha=0.6)
    marker = "_" if len(times) == 1 else None
    panel.plot(times, as_numpy(draws.median(0).values), color=MODEL, linewidth=1.4, marker=marker, label="median")


def draw_truth(panel: Axes, truth: Sequences, series: int, entry: int, num_observed: int | None) -> None:
    """Dots for seen values of an entry, rings for held-out ones, and a vertical line where seen steps end."""
    own = truth.times[series] if truth.times.ndim == 2 else truth.times
    times = axis_values(own, truth.calendar)
    shape = (truth.num_steps, -1)
    values = as_numpy(truth.values[series].reshape(shape)[:, entry])
    seen = as_numpy(truth.entry_mask[series].reshape(shape)[:, entry])
    border = truth.num_steps if num_observed is None else num_observed
    before = seen & (np.arange(truth.num_steps) < border)
    after = seen & ~before
    size = 3.0 if truth.num_steps <= 60 else 2.0
    options: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": size, "color": TRUTH}
    panel.plot(times[: len(seen)][before], values[before], label="seen", **options)
    if border < truth.num_steps:
        panel.plot(
            times[: len(seen)][after],
            values[after],
            markerfacecolor="white",
            markeredgewidth=0.7,
            label="held out",
            **options,
        )
        if border:
            middle = axis_values(own[border - 1 : border + 1].mean(0, keepdim=True), truth.calendar)[0]
            panel.axvline(middle, color=ACCENT, linewidth=1.0, linestyle=(0, (4, 3)))


# ---------------------------------------------------------------------- axes


def axis_values(times: Tensor, calendar: Calendar | None) -> np.ndarray:
    """Time stamps (time,) for matplotlib: dates, in UTC, if there is a calendar."""
    if calendar is not None and calendar.freq is not None:  # between its steps there are no dates
        low, high = (stamps(part, calendar, 1) for part in (times.floor(), times.ceil()))
        return naive(low + (high - low) * as_numpy(times - times.floor()))
    return naive(stamps(times, calendar, 1))


def _shade(panel: Axes, times: Tensor, calendar: Calendar | None) -> None:
    """Shade the horizon, extended by half a step at both ends."""
    half = times.diff().median() / 2 if len(times) > 1 else torch.zeros_like(times[0])
    start, end = axis_values(torch.stack([times[0] - half, times[-1] + half]), calendar)
    panel.axvspan(start, end, color=HORIZON, linewidth=0, zorder=0)


def date_axis(panel: Axes, calendar: Calendar | None, *, has_year: bool = True) -> None:
    """A few short dates along the axis, in the time zone of the data."""
    if calendar is not None:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(tz=calendar.tz, minticks=3, maxticks=8)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=calendar.tz))
        panel.xaxis.get_offset_text().set(fontsize=8, visible=has_year)


def _start_of_horizon(data: Sequences, series: int, times: Tensor) -> int | None:
    """Number of steps of `data` before a prediction; None if the prediction covers all steps."""
    own = data.times[series] if data.times.ndim == 2 else data.times
    earlier = int((own[: data.num_steps] < times[:1].to(own)).sum())
    return earlier or None


def _places(chosen: Sequence[int | str] | None, names: list[Any], argument: str, most: int) -> dict[int, str]:
    """Numbers and display names of the chosen items, which are given by name or number."""
    if chosen is None:
        return {place: str(name) for place, name in enumerate(names[:most])}
    found = {}
    for choice in [chosen] if isinstance(chosen, int | str) else chosen:
        is_place = isinstance(choice, int) and 0 <= choice < len(names)
        known = isinstance(choice, str) and choice in names
        require(known or is_place, argument, f"names or numbers of {argument}, from 0 to {len(names) - 1}", choice)
        place = names.index(choice) if known else int(choice)
        found[place] = str(names[place])
    require(bool(found), argument, f"at least one of {len(names)}", chosen)
    return found


def _of_series(name: str) -> str:
    return f"series {name}" if name.isdecimal() else name


def _legend(grid: np.ndarray) -> tuple[list[Any], list[str]]:
    """One legend entry per kind of mark, from any panel that has it."""
    found: dict[str, Any] = {}
    for panel in grid.flat:
        found |= {name: handle for handle, name in zip(*panel.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)
