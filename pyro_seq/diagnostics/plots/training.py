"""``plot_learning_curve``: the logged figures of a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq._style import ACCENT, MODEL, add_legend, new_figure, tidy
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_learning_curve(
    history: Mapping[str, Sequence[float | None]], *, names: Sequence[str] | None = None, smoothing: float = 0.0
) -> Figure:
    """Loss, its terms and the validation loss over steps.

    Args:
        history: ``posterior.history``: ``step`` and figures by name, with NaN or None where nothing was logged.
            ``validation_loss`` shares the panel of ``loss``.
        names: Figures to draw; by default all that are not constant.
        smoothing: Weight of the past in a running mean, 0 to below 1; the raw figures are drawn behind.

    Returns:
        The figure: one panel for the loss, and one per other figure.

    Raises:
        DataError: When the history is empty or a name is unknown.
    """
    if not 0 <= smoothing < 1:
        raise DataError(f"`smoothing` must lie in [0, 1). Got {smoothing}.")
    known, is_default = [name for name in history if name != "step"], names is None
    names = known if names is None else list(names)
    unknown = [name for name in names if name not in known]
    if "step" not in history or not len(history["step"]) or unknown or not names:
        raise DataError(
            f"`history` must hold `step` and figures, and `names` some of them, {known}. Got names {names!r}. "
            "Pass `posterior.history` of a fit with at least one logged step."
        )
    steps = _numbers(history["step"])
    panels = _panels([name for name in names if _varies(history[name])] or names if is_default else names)
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure = new_figure(0.6 + 2.8 * columns, 0.3 + 2.0 * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for place, (panel, members) in enumerate(zip(grid.flat, panels, strict=False)):
        is_last = place + columns >= len(panels)
        tidy(panel, title=members[0].replace("_", " "), x="step" if is_last else "")
        panel.tick_params(labelbottom=is_last)
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
        for member in members:
            _draw(panel, steps, _numbers(history[member]), member, smoothing)
        if len(members) > 1:
            add_legend(panel)
    for panel in list(grid.flat)[len(panels) :]:
        panel.remove()
    return figure


def _panels(names: list[str]) -> list[list[str]]:
    """Training and validation figures of one name together, the loss first."""
    panels: dict[str, list[str]] = {}
    for name in sorted(
        names, key=lambda name: (name.removeprefix("validation_") != "loss", name.startswith("validation_"))
    ):
        panels.setdefault(name.removeprefix("validation_"), []).append(name)
    return list(panels.values())


def _draw(panel: Axes, steps: np.ndarray, values: np.ndarray, name: str, smoothing: float) -> None:
    logged = np.isfinite(values)
    steps, values = steps[logged], values[logged]
    if not len(values):
        return
    is_validation = name.startswith("validation_")
    colour, label = (ACCENT, "validation") if is_validation else (MODEL, "training")
    if smoothing and not is_validation:
        panel.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        values = _running_mean(values, smoothing)
    marker = "o" if is_validation or len(values) == 1 else None
    panel.plot(steps, values, color=colour, linewidth=1.2, marker=marker, markersize=2.5, label=label)


def _running_mean(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential running mean, corrected for its bias towards zero at the start."""
    total, norm, means = 0.0, 0.0, []
    for value in values:
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        means.append(total / norm)
    return np.array(means)


def _varies(values: Any) -> bool:
    numbers = _numbers(values)
    logged = numbers[np.isfinite(numbers)]
    return len(logged) == 1 or bool((logged != logged[:1]).any())


def _numbers(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in values])
