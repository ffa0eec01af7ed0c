"""Pictures of predictions: which panels, what is drawn in them, and dates along the axis."""

from __future__ import annotations

import dataclasses

import matplotlib.dates
import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq._style import ACCENT, HORIZON
from pyro_seq.data import Labels, Sequences
from pyro_seq.data.calendar import Calendar
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import Prediction
from tests.diagnostics.plots.figures import drawn

LABELS = Labels(variables=["pulse", "pressure"], series=["Ann", "Bob"])


def prediction(**options) -> Prediction:
    """Of two series by two variables over times 6 to 9: evenly spread draws around the time, wider for the second."""
    levels = torch.linspace(-1, 1, 201)[:, None, None, None] * torch.tensor([1.0, 2.0])
    samples = (levels + torch.arange(6.0, 10.0)[:, None]).expand(-1, 2, -1, -1)
    return Prediction(samples, samples, {}, **{"times": torch.arange(6.0, 10.0), "labels": LABELS, **options})


def truth(num_steps: int = 10, **options) -> Sequences:
    values = torch.arange(10.0)[:, None].expand(2, 10, 2)[:, :num_steps].clone()
    values[1, 3, 0] = torch.nan
    return Sequences(values, labels=LABELS, **options)


def shade(panel) -> tuple[float, float] | None:
    """Ends of the horizon."""
    spans = [patch for patch in panel.patches if patch.get_facecolor() == matplotlib.colors.to_rgba(HORIZON)]
    return (spans[0].get_x(), spans[0].get_x() + spans[0].get_width()) if spans else None


def test_panels_are_series_by_variables_under_their_names():
    figure = drawn(prediction().plot())
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["pulse", "pressure", "", ""]
    assert [panel.get_ylabel() for panel in figure.axes] == ["Ann", "", "Bob", ""]
    only = drawn(prediction().plot(series=["Bob"], variables=[1, "pulse"]))
    assert [panel.get_title(loc="left") for panel in only.axes] == ["pressure", "pulse"]
    nameless = drawn(prediction(labels=Labels()).plot())
    assert [panel.get_title(loc="left") for panel in nameless.axes][:2] == ["x_0", "x_1"]
    assert nameless.axes[0].get_ylabel() == "series 0"


def test_bands_hold_their_share_of_the_draws():
    wide, inner = drawn(prediction().plot()).axes[1].collections
    for band, share in ((wide, 0.9), (inner, 0.5)):
        path = band.get_paths()[0].vertices
        heights = path[np.isclose(path[:, 0], 6), 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [6 - 2 * share, 6 + 2 * share], rtol=1e-6)


def test_what_came_later_is_rings_over_a_shade_and_what_is_hidden_nothing():
    panel = drawn(prediction().plot(truth(), series=["Bob"])).axes[0]
    lines = {line.get_label(): line for line in panel.get_lines()}
    assert list(lines["seen"].get_xdata()) == [0, 1, 2, 4, 5] and list(lines["held out"].get_xdata()) == [6, 7, 8, 9]
    border = next(line for line in panel.get_lines() if line.get_color() == ACCENT)
    assert border.get_xdata()[0] == 5.5 and shade(panel) == (5.5, 9.5)
    past = drawn(prediction().plot(truth(6))).axes[0]
    assert "held out" not in [line.get_label() for line in past.get_lines()] and shade(past) == (5.5, 9.5)


def test_a_prediction_of_all_steps_has_no_horizon():
    whole = dataclasses.replace(prediction(), times=torch.arange(4.0))
    panel = drawn(whole.plot(truth(4))).axes[0]
    assert shade(panel) is None and "held out" not in [line.get_label() for line in panel.get_lines()]


def test_one_step_of_each_series_at_its_own_time():
    one = prediction(times=torch.tensor([[6.0], [7.5]]))
    one = dataclasses.replace(one, samples=one.samples[:, :, :1], emission_means=one.samples[:, :, :1])
    figure = drawn(one.plot(truth(6), variables=["pulse"]))
    medians = [next(line for line in panel.get_lines() if line.get_label() == "median") for panel in figure.axes]
    assert [line.get_xdata()[0] for line in medians] == [6.0, 7.5]


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_dates_are_along_the_axis_in_their_time_zone(tz):
    dates = pd.date_range("2024-03-29 12:00", periods=10, freq="6h", tz=tz)  # clocks change on the 31st
    seen = truth(times=dates)
    assert float(seen.times[0]) > 1.7e9
    figure = drawn(prediction(times=seen.times[6:], calendar=seen.calendar).plot(seen))
    panel = figure.axes[0]
    low, high = matplotlib.dates.num2date(panel.get_xlim())
    first = dates[0] if tz else dates[0].tz_localize("UTC")
    assert abs(pd.Timestamp(low) - first) < pd.Timedelta("6h") and pd.Timestamp(high).year == 2024
    texts = [label.get_text() for label in figure.axes[2].get_xticklabels()]
    assert {"30", "31"} <= {text.removeprefix("Mar-") for text in texts} and not any("e9" in text for text in texts)


def test_steps_of_a_calendar_are_dates_and_the_border_lies_between_two():
    calendar = Calendar("2024-01-01", freq="MS")
    seen = truth(times=torch.arange(10.0), calendar=calendar)
    panel = drawn(prediction(calendar=calendar).plot(seen)).axes[0]
    border = next(line for line in panel.get_lines() if line.get_color() == ACCENT)
    assert pd.Timestamp(border.get_xdata()[0]) == pd.Timestamp("2024-06-16")


def test_images_are_drawn_pixel_by_pixel():
    samples = torch.rand(5, 1, 3, 1, 2, 2)
    figure = drawn(Prediction(samples, samples, {}, torch.arange(3.0)).plot(variables=["x_0_1_0"]))
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["x_0_1_0"]


def test_a_notebook_shows_it():
    assert prediction().plot()._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"series": ["Cem"]}, "`series` must be names or numbers of series, from 0 to 1. Got 'Cem'"),
        ({"series": []}, "`series` must be at least one of 2"),
        ({"variables": [2]}, "`variables` must be names or numbers of variables, from 0 to 1. Got 2"),
    ],
)
def test_what_is_not_there_is_refused(options, text):
    with pytest.raises(DataError, match=text):
        prediction().plot(**options)


def test_data_of_other_series_are_refused():
    with pytest.raises(ShapeError, match="`data` must have the series .* 2 series of .* Got 1 of"):
        prediction().plot(truth()[:1])
