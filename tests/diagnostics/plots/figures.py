"""Frames to draw, and a figure drawn to the end."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure


def drawn(figure: Figure) -> Figure:
    """Lay the figure out and draw all its parts, which raises when labels do not fit."""
    figure.draw_without_rendering()
    return figure


def images(num_steps: int = 10, channels: int = 1, size: int = 8) -> torch.Tensor:
    return torch.rand(num_steps, channels, size, size + 2, generator=torch.Generator().manual_seed(0))
