"""Traces: which entries are drawn."""

from __future__ import annotations

import numpy as np

from pyro_seq.diagnostics import (
    plot_trace,
    to_arviz,
)
from tests.diagnostics.plots.figures import drawn


def test_trace_plot(make_posterior, make_data):
    idata = to_arviz(make_posterior(), make_data(), num_samples=20)
    figure = drawn(plot_trace(idata, ["initial"], max_entries=3))
    assert len(figure.axes) == 6
    assert figure.axes[2].get_title(loc="left") == "initial[0, position_1]"
    np.testing.assert_array_equal(
        figure.axes[3].get_lines()[0].get_ydata(), idata["posterior"]["initial"].values[0, :, 0, 1]
    )
