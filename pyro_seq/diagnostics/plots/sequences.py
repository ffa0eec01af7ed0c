"""``plot_sequences``: image sequences as strips, one row each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_seq._style import ACCENT, as_numpy, new_figure
from pyro_seq.diagnostics.plots.images import as_rows, value_range
from pyro_seq.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_COLUMNS = 16


def plot_sequences(
    frames: Any,
    *,
    times: Any | None = None,
    num_observed: int | None = None,
    steps: Sequence[int] | None = None,
    limits: tuple[float, float] | None = None,
    own_scale: Collection[str] = ("spread",),
    unit: str = "",
    frame_size: float = 0.7,
) -> Figure:
    r"""Image strips: one row per sequence, one column per step, a mark where the forecast begins.

    Args:
        frames: (time, \*image), or several by row name, such as `frame_rows` gives; an image is (height, width), or
            (channel, height, width) with 1 or 3 channels. NaN and missing last frames stay blank.
        times: Time stamps (time,) or dates, for the titles of the columns; step numbers by default.
        num_observed: Number of seen steps; a line is drawn after them.
        steps: Which steps to show; about 16, evenly spaced, by default.
        limits: Values shown black and white; by default [0, 1] if it contains all numbers, otherwise their range.
        own_scale: Rows with separate colour scales, from 0 to their largest value.
        unit: Unit of the time stamps.
        frame_size: Width of one frame in inches.

    Returns:
        The figure; save it with ``figure.savefig(path)``.

    Raises:
        ShapeError: When rows are not image sequences.
        DataError: When steps do not exist.

    Example:
        >>> figure = plot_sequences(frame_rows(prediction, truth))  # doctest: +SKIP
    """
    rows = as_rows(frames)
    length = max(len(row) for row in rows.values())
    steps = _steps(steps, length)
    stamps = np.arange(length) if times is None else as_numpy(times)
    if stamps.shape != (length,):
        raise DataError(f"`times` must be one stamp a step, ({length},). Got {stamps.shape}. Select one series.")
    shared = [name for name in rows if name not in own_scale] or list(rows)
    limits = value_range(rows, shared, limits)
    aspect = next(iter(rows.values())).shape[1] / next(iter(rows.values())).shape[2]
    width, height = frame_size * len(steps), frame_size * aspect * len(rows)
    has_bars = any(name not in shared for name in rows)
    figure = new_figure(width + 0.1 + 0.075 * max(map(len, rows)) + 0.5 * has_bars, height + 0.19, is_tight=True)
    axes = figure.subplots(len(rows), len(steps), squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        scale = limits if name in shared else (0.0, float(np.nanmax(images)) or 1.0)
        colours = "gray" if name in shared else "magma"
        for column, step in enumerate(steps):
            panel = axes[row, column]
            _bare(panel)
            if step < len(images):
                shown = _show(panel, images[step], scale, colours)
            if num_observed is not None and column > 0 and steps[column - 1] < num_observed <= step:
                _mark(panel)
        axes[row, 0].set_ylabel(name, fontsize=9, rotation=0, ha="right", va="center")
        if name not in shared:
            bar = figure.colorbar(shown, ax=list(axes[row]), fraction=0.02, pad=0.01, aspect=8)
            bar.ax.tick_params(labelsize=7, length=2)
            bar.outline.set_visible(False)
    for column, step in enumerate(steps):
        is_forecast = num_observed is not None and step >= num_observed
        axes[0, column].set_title(
            _title(stamps, step, unit, column == 0), fontsize=8, pad=3, color=ACCENT if is_forecast else "black"
        )
    return figure


def _title(stamps: np.ndarray, step: int, unit: str, is_first: bool) -> str:
    """Title of a column: the day and, if steps are shorter than days, the time of day below it."""
    if stamps.dtype.kind != "M":
        prefix, suffix = ("t = ", f" {unit}" if unit else "") if is_first else ("", "")
        return f"{prefix}{stamps[step]:.4g}{suffix}"
    day, _, hour = str(stamps[step].astype("datetime64[s]")).partition("T")
    is_daily = bool((stamps.astype("datetime64[D]") == stamps).all())
    return day if is_daily else f"{day}\n{hour.removesuffix(':00')}"


def _steps(steps: Sequence[int] | None, length: int) -> list[int]:
    if steps is None:
        return sorted({round(step) for step in np.linspace(0, length - 1, min(length, _MAX_COLUMNS))})
    steps = [int(step) for step in steps]
    if not steps or min(steps) < 0 or max(steps) >= length:
        raise DataError(f"`steps` must lie between 0 and {length - 1}. Got {steps}.")
    return steps


def _bare(panel: Any) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)


def _show(panel: Any, image: np.ndarray, limits: tuple[float, float], colours: str) -> Any:
    """One image; missing pixels are pale."""
    low, high = limits
    if image.ndim == 3:
        scaled = np.clip((image - low) / (high - low), 0.0, 1.0)
        return panel.imshow(np.where(np.isfinite(scaled), scaled, 0.9), interpolation="nearest")
    panel.set_facecolor("#eef0f3")
    panel.patch.set_visible(True)
    return panel.imshow(np.ma.masked_invalid(image), cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def _mark(panel: Any) -> None:
    """The border between seen and forecast: a line along the panel's left side."""
    spine = panel.spines["left"]
    spine.set_visible(True)
    spine.set_color(ACCENT)
    spine.set_linewidth(2.0)
