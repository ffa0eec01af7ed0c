"""Coverage against level, and histograms of ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.diagnostics import (
    calibration_curve,
    plot_calibration,
    plot_ranks,
)
from pyro_seq.errors import DataError
from tests.diagnostics.plots.figures import drawn


def test_calibration_plot():
    samples, truth = torch.randn(20, 50, 3), torch.randn(50, 3)
    curve = calibration_curve(samples, truth)
    figure = drawn(plot_calibration({"a": curve, "b": curve}))
    diagonal, line, _ = figure.axes[0].get_lines()
    assert list(diagonal.get_xdata()) == [0, 1]
    np.testing.assert_allclose(line.get_ydata(), curve.coverage)
    assert figure.axes[0].get_xlim() == (0, 1) and len(figure.axes[0].get_legend().get_texts()) == 2
    assert drawn(plot_calibration(curve)).axes[0].get_legend() is None
    with pytest.raises(DataError):
        plot_calibration({})


@pytest.mark.parametrize(("num_samples", "num_bins"), [(99, 20), (6, 20), (10, 4), (None, 10)])
def test_rank_plot_counts_everything(num_samples, num_bins):
    values = torch.rand(300) if num_samples is None else torch.randint(num_samples + 1, (300,))
    axes = drawn(plot_ranks(values, num_samples=num_samples, num_bins=num_bins)).axes[0]
    bars = axes.patches
    assert sum(bar.get_height() for bar in bars) == 300
    assert len(bars) == min(num_bins, 7 if num_samples == 6 else num_bins)


def test_rank_plot_needs_values():
    with pytest.raises(DataError):
        plot_ranks([])
