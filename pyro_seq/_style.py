"""The common style of all plots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH = "#222222"
MODEL = "#1f6f9f"
ACCENT = "#d1495b"  # where a forecast begins
MUTED = "#8a8f98"
GRID = "#e3e5e8"
HORIZON = "#f6f1ea"  # behind a forecast
SERIES = ("#1f6f9f", "#d1495b", "#2a9d5c", "#8e5ea2", "#e08e2b", "#3ab0b8", "#7a5c3e", "#5c6670")
_SIZES = {"axes.titlesize": 9, "axes.labelsize": 9, "tick": 8, "legend": 8}


def new_figure(width: float, height: float, *, is_tight: bool = False) -> Figure:
    """A figure without pyplot, so that nothing stays open; its parts do not overlap. Sizes in inches."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # slow to import, so imported only here

    from pyro_seq._picture import Picture

    layout = ConstrainedLayoutEngine()
    if is_tight:
        layout.set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    return Picture(figsize=(width, height), layout=layout, dpi=150)


def tidy(axes: Axes, *, title: str = "", x: str = "", y: str = "", has_grid: bool = True) -> Axes:
    """Thin frame, small type, light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=_SIZES["tick"], color=MUTED, length=3)
    if has_grid:
        axes.grid(color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    axes.set_title(title, fontsize=_SIZES["axes.titlesize"], loc="left")
    axes.set_xlabel(x, fontsize=_SIZES["axes.labelsize"])
    axes.set_ylabel(y, fontsize=_SIZES["axes.labelsize"])
    return axes


def add_legend(axes: Axes, **options: Any) -> None:
    """A small legend without a frame."""
    axes.legend(fontsize=_SIZES["legend"], frameon=False, **options)


def as_numpy(values: Any) -> np.ndarray:
    """A NumPy array of anything array-like."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def time_label(name: str, unit: str) -> str:
    """``time (s)``, or ``time`` without a unit."""
    return f"{name} ({unit})" if unit else name
