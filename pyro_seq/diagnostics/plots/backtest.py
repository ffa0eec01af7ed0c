"""``plot_backtest``: forecasts from several origins against the truth, and their scores by steps ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyro_seq._arguments import require
from pyro_seq._style import MUTED, SERIES, add_legend, new_figure, tidy, time_label
from pyro_seq.data._pictures import LEVELS, axis_values, date_axis, draw_fan, draw_truth
from pyro_seq.diagnostics.backtest import Backtest
from pyro_seq.predict._tally import SCORES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS = {"coverage_50": 0.5, "coverage_90": 0.9}


def plot_backtest(
    result: Backtest, *, score: str = "crps", series: int = 0, entry: int = 0, unit: str = "", value_label: str = ""
) -> Figure:
    """Two panels: fans from each origin for one series, and a score of every predictor by steps ahead.

    Args:
        result: Result of `backtest`.
        score: ``"rmse"``, ``"mae"``, ``"crps"``, ``"coverage_50"`` or ``"coverage_90"``, averaged over all series,
            entries and cutoffs.
        series: Series whose forecasts are drawn.
        entry: Entry of the (flattened) observation.
        unit: Unit of the time stamps.
        value_label: Label of the values, with unit; the name of the variable by default.

    Returns:
        The figure.

    Raises:
        DataError: When the score, the series or the entry does not exist.

    Example:
        >>> figure = plot_backtest(backtest(factory, data, method, horizon=12), score="rmse")  # doctest: +SKIP
    """
    data = result.data
    num_entries = data.values[0, 0].numel()
    require(score in SCORES, "score", f"one of {SCORES}", score)
    require(0 <= series < len(data), "series", f"from 0 to {len(data) - 1}", series)
    require(0 <= entry < num_entries, "entry", f"from 0 to {num_entries - 1}", entry)
    figure = new_figure(9.0, 3.0)
    fans, curves = figure.subplots(1, 2, width_ratios=(3, 2))
    tidy(fans, x=time_label("time", unit) if data.calendar is None else "", y=value_label or _name(result, entry))
    _draw_fans(fans, result, series, entry)
    date_axis(fans, data.calendar)
    tidy(curves, x="steps ahead", y=score.replace("_", " "))
    for number, (name, rows) in enumerate(result.table().groupby("predictor", sort=False)):
        if rows[score].notna().any():
            colour = SERIES[number % len(SERIES)]
            curves.plot(rows["horizon"], rows[score], color=colour, linewidth=1.4, marker=".", label=name)
    if score in _LEVELS:
        curves.axhline(_LEVELS[score], color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    curves.xaxis.get_major_locator().set_params(integer=True)
    add_legend(curves)
    return figure


def _name(result: Backtest, entry: int) -> str:
    names = result.data.labels.variables
    return names[entry] if names else ""


def _draw_fans(panel: Axes, result: Backtest, series: int, entry: int) -> None:
    """The forecast from each origin, in the style of `plot_forecast_fan`, with a legend for the first."""
    draw_truth(panel, result.data, series, entry, None)
    for prediction in result.predictions:
        draws = prediction.samples[:, series].reshape(*prediction.samples[:, series].shape[:2], -1)[..., entry]
        times = prediction.times[series] if prediction.times.ndim == 2 else prediction.times
        if not bool(draws.isnan().any()):
            draw_fan(panel, axis_values(times, prediction.calendar), draws, LEVELS)
    handles, labels = panel.get_legend_handles_labels()
    first = dict(zip(reversed(labels), reversed(handles), strict=True))
    add_legend(panel, handles=list(first.values()), labels=list(first), ncols=4, loc="best")
