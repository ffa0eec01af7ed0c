"""``plot_forecast_fan``: predictive intervals of single entries over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pyro_seq._style import new_figure, tidy, time_label
from pyro_seq.data import Sequences
from pyro_seq.data._pictures import axis_values, date_axis, draw_fan, draw_truth
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_PANELS = 6


def plot_forecast_fan(
    prediction: Prediction,
    truth: Sequences | None = None,
    *,
    series: int = 0,
    entries: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    num_observed: int | None = None,
    levels: Sequence[float] = (0.5, 0.9),
    num_paths: int = 0,
    unit: str = "",
    value_label: str = "",
) -> Figure:
    r"""Fans: central intervals, the median and the observations of one series, one panel per entry.

    Dots are observations seen by the model, rings are unseen ones; hidden entries are not drawn.

    Args:
        prediction: Result of a predictive verb, over the horizon or over all steps.
        truth: The series with their observations, over any steps.
        series: Which series.
        entries: Entries of the (flattened) observation; the first six by default.
        names: A title for each of `entries`; the names of the variables by default.
        num_observed: Number of steps of `truth` that the model has seen; all by default. A line marks the border.
        levels: Probabilities of the intervals.
        num_paths: Number of samples drawn as thin lines.
        unit: Unit of the time stamps; not used for dates.
        value_label: Label of the vertical axes, with unit.

    Returns:
        The figure, with `len(entries)` panels.

    Raises:
        ShapeError: When the observations of `truth` and prediction differ in shape.
        DataError: When an entry, a series or a level does not exist.

    Example:
        >>> figure = plot_forecast_fan(forecast(posterior, seen, horizon=20), test, num_observed=30)  # doctest: +SKIP
    """
    samples = prediction.samples
    if truth is not None and truth.obs_shape != tuple(samples.shape[3:]):
        raise ShapeError(
            f"`truth` must have observations like the prediction, {tuple(samples.shape[3:])}. Got {truth.obs_shape}."
        )
    if not 0 <= series < samples.shape[1]:
        raise DataError(f"`series` must lie between 0 and {samples.shape[1] - 1}. Got {series}.")
    if not levels or not all(0 < level < 1 for level in levels):
        raise DataError(f"`levels` must be probabilities between 0 and 1. Got {tuple(levels)}.")
    draws = samples[:, series].flatten(2) if samples.ndim > 3 else samples[:, series, :, None]
    entries = list(range(min(draws.shape[2], _MAX_PANELS))) if entries is None else [int(entry) for entry in entries]
    if not entries or min(entries) < 0 or max(entries) >= draws.shape[2]:
        raise DataError(f"`entries` must lie between 0 and {draws.shape[2] - 1}. Got {entries}.")
    if names is not None and len(names) != len(entries):
        raise DataError(f"`names` must be one for each of {len(entries)} entries. Got {len(names)}.")
    known = prediction.labels.variables or [f"entry {entry}" for entry in range(draws.shape[2])]
    titles = [known[entry] for entry in entries] if names is None else list(names)
    columns = min(len(entries), 3)
    lines = -(-len(entries) // columns)
    figure = new_figure(1.0 + 2.6 * columns, 0.8 + 1.7 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    calendar = prediction.calendar
    times = axis_values(prediction.times[series] if prediction.times.ndim == 2 else prediction.times, calendar)
    for place, (panel, entry) in enumerate(zip(grid.flat, entries, strict=False)):
        tidy(
            panel,
            title=titles[place],
            x=time_label("time", unit) if calendar is None and place + columns >= len(entries) else "",
            y=value_label if place % columns == 0 else "",
        )
        panel.tick_params(labelbottom=place + columns >= len(entries))
        draw_fan(panel, times, draws[:, :, entry], sorted(levels, reverse=True), num_paths)
        if truth is not None:
            draw_truth(panel, truth.seen(), series, entry, num_observed)
        date_axis(panel, calendar)
    for panel in list(grid.flat)[len(entries) :]:
        panel.remove()
    handles, labels = _legend_entries(grid.flat[0])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def _legend_entries(panel: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = panel.get_legend_handles_labels()
    return handles, labels
