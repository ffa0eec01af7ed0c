"""Plots of calibration: coverage against stated probability, and histograms of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq._style import MODEL, MUTED, SERIES, TRUTH, add_legend, as_numpy, new_figure, tidy
from pyro_seq.diagnostics.calibration import CalibrationCurve
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_calibration(curves: CalibrationCurve | Mapping[str, CalibrationCurve]) -> Figure:
    """Coverage against stated probability; the diagonal is perfect, curves below it are overconfident.

    Bands show two standard errors, with series as the independent units.

    Args:
        curves: One curve, or several by name.
    """
    curves = {"": curves} if isinstance(curves, CalibrationCurve) else dict(curves)
    if not curves:
        raise DataError("`curves` must hold at least one curve. Got none.")
    figure = new_figure(3.6, 3.4)
    axes = tidy(figure.subplots(), x="stated probability of the interval", y="share of the truth inside")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    for (name, curve), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        levels, shares, error = (as_numpy(part) for part in curve)
        axes.fill_between(levels, shares - 2 * error, shares + 2 * error, color=colour, alpha=0.18, linewidth=0)
        axes.plot(levels, shares, color=colour, linewidth=1.5, marker="o", markersize=3, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    if any(curves):
        add_legend(axes, loc="upper left")
    return figure


def plot_ranks(values: Any, *, num_samples: int | None = None, num_bins: int = 20, title: str = "") -> Figure:
    """Histogram of ranks or of PIT values, with a band that contains 99 % of the bins of uniform values.

    Args:
        values: Ranks 0 to `num_samples`, or values in (0, 1).
        num_samples: Number of draws behind each rank; None for values in (0, 1).
        num_bins: Number of bins.
        title: Title of the panel.
    """
    from scipy import stats  # slow to import and needed only here

    values = as_numpy(values).ravel()
    if not values.size:
        raise DataError("`values` must hold at least one. Got none.")
    width = 1.0 if num_samples is None else num_samples + 1.0
    num_bins = num_bins if num_samples is None else min(num_bins, num_samples + 1)
    # edges lie between whole ranks; bins may hold one rank more or less, and the band accounts for it
    edges = (
        np.linspace(0.0, 1.0, num_bins + 1)
        if num_samples is None
        else np.ceil(np.linspace(0, width, num_bins + 1)) - 0.5
    )
    counts, _ = np.histogram(values, edges)
    low, high = stats.binom.interval(0.99, values.size, np.diff(edges) / width)
    expected = values.size * np.diff(edges) / width
    figure = new_figure(4.0, 2.4)
    label = "probability integral transform" if num_samples is None else "rank of the truth among draws"
    axes = tidy(figure.subplots(), title=title, x=label, y="count", has_grid=False)
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=MODEL, edgecolor="white", linewidth=0.6)
    axes.fill_between(
        edges, np.append(low, low[-1]), np.append(high, high[-1]), step="post", color=TRUTH, alpha=0.14, lw=0
    )
    axes.step(edges, np.append(expected, expected[-1]), where="post", color=TRUTH, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.1 * max(counts.max(), high.max()))
    return figure


def _cycle(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]
