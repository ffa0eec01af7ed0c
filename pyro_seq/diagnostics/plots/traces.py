"""``plot_trace``: draws of chosen variables, by chain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq._style import SERIES, new_figure, tidy
from pyro_seq.diagnostics.convergence import entry_names, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_trace(idata: Any, names: Sequence[str], *, max_entries: int = 6) -> Figure:
    """Density and trace of the first entries of some variables, one line per chain.

    Well-mixed chains overlap and have no trends. Draws of a guide are independent and look like noise, even for a bad
    fit.

    Args:
        idata: The result of `to_arviz`, with either version of ArviZ.
        names: Variables of the posterior.
        max_entries: Total number of entries shown; select with ``idata["posterior"]`` and ``sel`` to see others.

    Returns:
        The figure: two panels for each entry.

    Raises:
        DataError: When a name is unknown.
    """
    from scipy import stats  # slow to import and needed only here

    draws = select(idata, names)
    entries: list[tuple[str, np.ndarray]] = []
    for name in draws.data_vars:
        values = draws[name].transpose("chain", "draw", ...).values
        flat = values.reshape(*values.shape[:2], -1)
        room = max_entries - len(entries)
        labels = entry_names(draws[name])[: max(room, 0)]
        entries += [(label, flat[..., i]) for i, label in enumerate(labels)]
    figure = new_figure(6.6, 0.5 + 1.15 * len(entries))
    grid = figure.subplots(len(entries), 2, squeeze=False, width_ratios=(1, 2))
    for row, (label, chains) in enumerate(entries):
        is_last = row == len(entries) - 1
        density = tidy(grid[row, 0], title=label, x="value" if is_last else "", has_grid=False)
        trace = tidy(grid[row, 1], x="draw" if is_last else "", has_grid=False)
        density.set_yticks([])
        density.spines["left"].set_visible(False)
        for chain, values in enumerate(chains):
            colour = SERIES[chain % len(SERIES)]
            trace.plot(values, color=colour, linewidth=0.6, alpha=0.8)
            if len(values) > 2 and np.ptp(values) > 0:
                margin = 0.1 * np.ptp(values)
                points = np.linspace(values.min() - margin, values.max() + margin, 200)
                density.plot(points, stats.gaussian_kde(values)(points), color=colour, linewidth=1.2)
        trace.tick_params(labelbottom=is_last)
        trace.margins(x=0)
    return figure
