"""``plot_forecast_fan``: predictive intervals of single entries over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyro_seq.data import Sequences
from pyro_seq.diagnostics.plots.style import ACCENT, MODEL, TRUTH, as_numpy, new_figure, tidy, time_label
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
    r"""Fans: central intervals, the median and the observations of one series, a panel for each entry.

    Dots are observations that the model has seen, rings those it has not; hidden entries are not drawn.

    Args:
        prediction: What a predictive verb returned; over the horizon, or over all steps.
        truth: The series with their observations, over any steps.
        series: Which series.
        entries: Entries of the (flattened) observation; the first six when absent.
        names: A title for each of `entries`.
        num_observed: Number of steps of `truth` that the model has seen; all when absent. A line marks the border.
        levels: Probabilities of the intervals.
        num_paths: Number of samples drawn as thin lines.
        unit: Of the time stamps.
        value_label: Of the vertical axes, with its unit.

    Returns:
        The figure, with `len(entries)` panels.

    Raises:
        ShapeError: When `truth` has other observations than the prediction.
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
    titles = [f"entry {entry}" for entry in entries] if names is None else list(names)
    columns = min(len(entries), 3)
    lines = -(-len(entries) // columns)
    figure = new_figure(1.0 + 2.6 * columns, 0.8 + 1.7 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    times = as_numpy(prediction.times[series] if prediction.times.ndim == 2 else prediction.times)
    for place, (panel, entry) in enumerate(zip(grid.flat, entries, strict=False)):
        tidy(
            panel,
            title=titles[place],
            x=time_label("time", unit) if place + columns >= len(entries) else "",
            y=value_label if place % columns == 0 else "",
        )
        panel.tick_params(labelbottom=place + columns >= len(entries))
        draw_fan(panel, times, draws[:, :, entry], sorted(levels, reverse=True), num_paths)
        if truth is not None:
            draw_truth(panel, truth, series, entry, num_observed)
    for panel in list(grid.flat)[len(entries) :]:
        panel.remove()
    handles, labels = _legend_entries(grid.flat[0])
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=8, frameon=False)
    return figure


def draw_fan(panel: Axes, times: np.ndarray, draws: torch.Tensor, levels: list[float], num_paths: int) -> None:
    """Intervals of one entry's draws (sample, time), widest first, the median, and the first few draws."""
    draws = draws.double()
    for place, level in enumerate(levels):
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype, device=draws.device)
        low, high = as_numpy(torch.quantile(draws, ends, dim=0))
        opacity = 0.18 + 0.22 * place
        panel.fill_between(times, low, high, color=MODEL, alpha=opacity, linewidth=0, label=f"{100 * level:.3g} %")
    for path in as_numpy(draws[:num_paths]):
        panel.plot(times, path, color=MODEL, linewidth=0.5, alpha=0.6)
    panel.plot(times, as_numpy(draws.median(0).values), color=MODEL, linewidth=1.4, label="median")


def draw_truth(panel: Axes, truth: Sequences, series: int, entry: int, num_observed: int | None) -> None:
    """Dots for what was seen of an entry, rings for what was held out, and a line between the two."""
    truth = truth.seen()
    times = as_numpy(truth.times[series] if truth.times.ndim == 2 else truth.times)
    shape = (truth.num_steps, -1)
    values = as_numpy(truth.values[series].reshape(shape)[:, entry])
    seen = as_numpy(truth.entry_mask[series].reshape(shape)[:, entry])
    border = truth.num_steps if num_observed is None else num_observed
    before = seen & (np.arange(truth.num_steps) < border)
    after = seen & ~before
    size = 3.0 if truth.num_steps <= 60 else 2.0
    options: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": size, "color": TRUTH}
    panel.plot(times[before], values[before], label="seen", **options)
    if border < truth.num_steps:
        panel.plot(
            times[after], values[after], markerfacecolor="white", markeredgewidth=0.7, label="held out", **options
        )
        if border:
            panel.axvline((times[border - 1] + times[border]) / 2, color=ACCENT, linewidth=1.0, linestyle=(0, (4, 3)))


def _legend_entries(panel: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = panel.get_legend_handles_labels()
    return handles, labels
