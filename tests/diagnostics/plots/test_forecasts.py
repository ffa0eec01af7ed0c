"""Fans of forecasts: quantiles, what was seen and what was held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq._style import ACCENT
from pyro_seq.data import Labels, Sequences
from pyro_seq.diagnostics import (
    plot_forecast_fan,
)
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import Prediction
from pyro_seq.predict.verbs import forecast, reconstruct
from tests.diagnostics.plots.figures import drawn


def straight(num_samples=200) -> Prediction:
    levels = torch.linspace(-1, 1, num_samples)[:, None, None, None] * torch.tensor([1.0, 2.0])
    samples = (levels + torch.arange(4.0)[:, None]).expand(-1, 2, -1, -1)
    return Prediction(samples, samples, {}, torch.arange(6.0, 10.0))


def test_fan_shows_quantiles():
    figure = drawn(plot_forecast_fan(straight(), levels=[0.5], names=["a", "b"], unit="s", value_label="height (m)"))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b"]
    for width, axes in zip([0.5, 1.0], figure.axes, strict=True):
        band = axes.collections[0].get_paths()[0].vertices
        assert (band[:, 0].min(), band[:, 0].max()) == (6, 9)
        heights = band[np.isclose(band[:, 0], 6), 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [-width, width], rtol=1e-6)
        assert axes.get_xlabel() == "time (s)"
    assert figure.axes[0].get_ylabel() == "height (m)" and figure.axes[1].get_ylabel() == ""


def test_fan_tells_seen_from_held_out_and_skips_hidden():
    values = torch.arange(20.0).reshape(1, 10, 2).expand(2, 10, 2)
    mask = torch.ones(2, 10, 2, dtype=torch.bool)
    mask[1, 3, 0] = False
    figure = drawn(plot_forecast_fan(straight(), Sequences(values, mask=mask), series=1, num_observed=6))
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert list(lines["seen"].get_xdata()) == [0, 1, 2, 4, 5] and list(lines["held out"].get_xdata()) == [6, 7, 8, 9]
    assert list(lines["seen"].get_ydata()) == [0, 2, 4, 8, 10]
    border = next(line for line in figure.axes[0].get_lines() if line.get_color() == ACCENT)
    assert border.get_xdata()[0] == 5.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["90 %", "50 %", "median", "seen", "held out"]


def test_fan_of_a_posterior(make_posterior, make_data):
    data = make_data(4, 8, (7,))
    posterior = make_posterior((7,))
    figure = drawn(plot_forecast_fan(forecast(posterior, data, horizon=3, num_samples=9), data, series=2, num_paths=4))
    assert len(figure.axes) == 6
    assert len(plot_forecast_fan(reconstruct(posterior, data, num_samples=2), data, entries=[6]).axes) == 1


def test_fan_refuses(make_data):
    for options in (
        {"series": 2},
        {"entries": [2]},
        {"entries": []},
        {"names": ["a"]},
        {"levels": [90]},
        {"levels": []},
    ):
        with pytest.raises(DataError):
            plot_forecast_fan(straight(), **options)
    with pytest.raises(ShapeError, match="`truth`"):
        plot_forecast_fan(straight(), make_data())


def test_fan_has_the_names_and_the_dates_of_the_data():
    days = pd.date_range("2024-01-01", periods=10, freq="D")
    data = Sequences(torch.zeros(2, 10, 2), times=days, labels=Labels(variables=["pulse", "pressure"]))
    named = replace(straight(), times=data.times[6:], labels=data.labels, calendar=data.calendar)
    figure = drawn(plot_forecast_fan(named, data, num_observed=6))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["pulse", "pressure"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", ""]
    seen = next(line for line in figure.axes[0].get_lines() if line.get_label() == "seen")
    assert list(pd.to_datetime(seen.get_xdata())) == list(days[:6])
