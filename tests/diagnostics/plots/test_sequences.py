"""Strips of frames: panels, data limits and marks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq._style import ACCENT
from pyro_seq.diagnostics import (
    plot_sequences,
)
from pyro_seq.errors import DataError, ShapeError
from tests.diagnostics.plots.figures import drawn, images


def test_strips_have_a_panel_for_each_row_and_step():
    frames = images()
    figure = drawn(plot_sequences({"truth": frames, "mean": frames[:6]}, steps=[0, 3, 9], num_observed=4))
    assert len(figure.axes) == 6
    first, last = figure.axes[0], figure.axes[2]
    np.testing.assert_array_equal(first.images[0].get_array(), frames[0, 0])
    np.testing.assert_array_equal(last.images[0].get_array(), frames[9, 0])
    assert not figure.axes[5].images, "a row that ends earlier stays blank"
    assert first.images[0].get_clim() == (0.0, 1.0)
    assert first.get_ylabel() == "truth" and [axes.get_title() for axes in figure.axes[:3]] == ["t = 0", "3", "9"]
    marked = [axes.spines["left"].get_visible() for axes in figure.axes]
    assert marked == [False, False, True, False, False, True], "the first forecast column that is shown"
    assert [axes.title.get_color() == ACCENT for axes in figure.axes[:3]] == [False, False, True]


def test_strips_choose_steps_and_show_times():
    figure = plot_sequences(images(100), times=torch.arange(100) / 4, unit="s")
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 16 and titles[0] == "t = 0 s" and titles[-1] == "24.75"


def test_strips_of_colour_and_of_missing_frames():
    frames = images(4, 3)
    frames[2] = torch.nan
    shown = [axes.images[0].get_array() for axes in plot_sequences(frames).axes]
    np.testing.assert_allclose(shown[1], frames[1].movedim(0, -1))
    np.testing.assert_allclose(shown[2], 0.9)
    grey = images(4)
    grey[2] = torch.nan
    assert plot_sequences(grey).axes[2].images[0].get_array().mask.all()


def test_spread_has_a_scale_of_its_own():
    figure = drawn(plot_sequences({"mean": images(3), "spread": 0.1 * images(3)}))
    assert figure.axes[3].images[0].get_clim()[1] == pytest.approx(float(0.1 * images(3).max()))
    assert len(figure.axes) == 7, "six panels and a colour bar"


def test_values_beyond_one_set_the_limits():
    figure = plot_sequences({"a": 3 * images(2), "b": -images(2)})
    low, high = figure.axes[0].images[0].get_clim()
    assert low == pytest.approx(-float(images(2).max())) and high == pytest.approx(3 * float(images(2).max()))
    assert plot_sequences(images(2), limits=(-1, 2)).axes[0].images[0].get_clim() == (-1, 2)


def test_strips_refuse(make_data):
    with pytest.raises(ShapeError, match="Select one series"):
        plot_sequences(torch.rand(2, 5, 1, 8, 8))
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        plot_sequences(torch.rand(5, 2, 8, 8))
    with pytest.raises(DataError, match="`steps`"):
        plot_sequences(images(4), steps=[4])
    with pytest.raises(DataError, match="`times`"):
        plot_sequences(images(4), times=torch.arange(5))
    with pytest.raises(DataError, match="`limits`"):
        plot_sequences(images(4), limits=(1, 0))
    with pytest.raises(DataError, match="at least one row"):
        plot_sequences({})


@pytest.mark.parametrize(
    ("step", "second"), [("D", "2024-01-02"), ("6h", "2024-01-01\n06:00"), ("7s", "2024-01-01\n00:00:07")]
)
def test_titles_are_dates_where_these_are_given(step, second):
    dates = pd.date_range("2024-01-01", periods=3, freq=step)
    figure = drawn(plot_sequences(images(3), times=dates))
    assert figure.axes[1].get_title() == second
