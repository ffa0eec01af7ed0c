"""Learning curves: which values are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_seq.diagnostics import (
    plot_learning_curve,
)
from pyro_seq.errors import DataError
from tests.diagnostics.plots.figures import drawn

HISTORY = {
    "step": [10, 20, 30, 40],
    "loss": [9.0, 5.0, 3.0, 2.0],
    "validation_loss": [None, 6.0, float("nan"), 4.0],
    "x": [8.0, 4.0, 2.0, 1.0],
    "skipped": [0.0, 0.0, 0.0, 0.0],
}


def test_learning_curve():
    figure = drawn(plot_learning_curve(HISTORY))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "x"]
    training, validation = figure.axes[0].get_lines()
    assert list(training.get_ydata()) == HISTORY["loss"] and list(validation.get_xdata()) == [20, 40]
    assert len(plot_learning_curve(HISTORY, names=["skipped"]).axes) == 1


def test_smoothed_learning_curve_starts_at_the_first_value():
    raw, smooth = plot_learning_curve(HISTORY, names=["loss"], smoothing=0.5).axes[0].get_lines()
    assert list(raw.get_ydata()) == HISTORY["loss"]
    np.testing.assert_allclose(smooth.get_ydata()[:2], [9.0, (9 + 2 * 5) / 3])


def test_learning_curve_refuses():
    for history, options in (
        ({}, {}),
        ({"step": []}, {}),
        (HISTORY, {"names": ["elbo"]}),
        (HISTORY, {"smoothing": 1.0}),
    ):
        with pytest.raises(DataError):
            plot_learning_curve(history, **options)
