"""Pictures: panels, data limits and marks; no figure left open; animations that Pillow reads back."""

from __future__ import annotations

import matplotlib.colors as colors
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from pyro_seq.data import Sequences
from pyro_seq.diagnostics import (
    calibration_curve,
    frame_rows,
    plot_calibration,
    plot_forecast_fan,
    plot_learning_curve,
    plot_phase_portrait,
    plot_ranks,
    plot_sequences,
    plot_trace,
    save_gif,
    to_arviz,
)
from pyro_seq.diagnostics.plots.style import ACCENT
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.nn.flow import Flow
from pyro_seq.posterior import Prediction
from pyro_seq.predict.verbs import forecast, reconstruct
from tests.toy import make_lines

pytestmark = pytest.mark.usefixtures("no_pyplot_figures")


def drawn(figure: Figure) -> Figure:
    """Lay the figure out and render it, which raises when labels do not fit."""
    figure.canvas.draw()
    return figure


def images(num_steps=10, channels=1, size=8):
    return torch.rand(num_steps, channels, size, size + 2, generator=torch.Generator().manual_seed(0))


def panels(figure, name=None):
    return [axes for axes in figure.axes if name is None or axes.get_label() == name]


# ---------------------------------------------------------------------- strips


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


def test_rows_of_a_prediction(make_posterior, make_data):
    data = make_data(3, 6, (1, 8, 8))
    data = data.hide(torch.arange(6).expand(3, 6) == 2)
    prediction = reconstruct(make_posterior((1, 8, 8)), data, num_samples=5)
    rows = frame_rows(prediction, data, series=1, num_samples=2)
    assert list(rows) == ["truth", "mean", "sample 1", "sample 2", "spread"]
    torch.testing.assert_close(rows["mean"], prediction.mean[1])
    torch.testing.assert_close(rows["spread"], prediction.emission_means[:, 1].std(0))
    assert rows["truth"][2].isnan().all() and torch.equal(rows["truth"][1], data.values[1, 1])
    assert len(drawn(plot_sequences(rows)).axes) == 5 * 6 + 1
    with pytest.raises(ShapeError, match="take_steps"):
        frame_rows(prediction, data.first(4))


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


# ---------------------------------------------------------------------- animations


def test_gif_has_all_frames(tmp_path):
    frames = images(7)
    path = save_gif(tmp_path / "new" / "clip.gif", {"truth": frames, "mean": frames[:5]}, fps=10, num_observed=4)
    with Image.open(path) as picture:
        assert picture.n_frames == 7 and picture.info["duration"] == 100 and picture.info["loop"] == 0
        assert picture.size[0] == 2 * 10 * 14 + 3 * 8  # zoom 14 for the shorter side of 8 pixels
    assert [file.name for file in path.parent.iterdir()] == ["clip.gif"]


def test_gif_shows_the_pixels(tmp_path):
    frames = images(3)
    with Image.open(save_gif(tmp_path / "grey.gif", frames, zoom=4)) as picture:
        for step in range(3):
            picture.seek(step)
            shown = np.asarray(picture.convert("RGB"), dtype=float)[4 : 4 + 32, 8 : 8 + 40] / 255
            assert np.abs(shown[2::4, 2::4] - frames[step, 0].numpy()[..., None]).max() < 0.02  # palette and rounding


def test_gif_in_colour_with_a_time_bar(tmp_path):
    with Image.open(save_gif(tmp_path / "colour.gif", images(4, 3), num_observed=2, zoom=4)) as picture:
        accent = np.array(colors.to_rgb(ACCENT)) * 255
        reds = []
        for step in range(4):
            picture.seek(step)
            bar = np.asarray(picture.convert("RGB"), dtype=float)[-6]
            reds.append(int((np.abs(bar - accent).max(-1) < 24).sum()))
    assert reds[0] == reds[1] == 0 < reds[2] < reds[3]


def test_gif_refuses(tmp_path):
    for options in ({"fps": 0}, {"fps": 60}, {"zoom": 0}, {"zoom": 1.5}):
        with pytest.raises(DataError):
            save_gif(tmp_path / "x.gif", images(2), **options)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------- forecasts


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


# ---------------------------------------------------------------------- latent paths


@pytest.mark.parametrize("is_principal", [True, False])
def test_phase_portrait(make_posterior, make_data, is_principal):
    posterior, data = make_posterior(), make_data()
    prediction = reconstruct(posterior, data, num_samples=4)
    figure = drawn(plot_phase_portrait(posterior.model, prediction, series=[0, 3], is_principal=is_principal))
    assert len(figure.axes) == 2
    for axes in figure.axes:
        paths = [line for line in axes.get_lines() if len(line.get_xdata()) == data.num_steps]
        assert len(paths) == 2 * (4 + 1)
        assert axes.get_xlabel().endswith(("position 0", "position 1")) and "velocity" in axes.get_ylabel()
        ends = np.array([[line.get_xdata().min(), line.get_xdata().max()] for line in paths])
        low, high = axes.get_xlim()
        assert low <= ends.min() and high >= ends.max()
        assert axes.collections, "streamlines"


def test_phase_portrait_without_turning_shows_the_coordinates(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=4)
    axes = plot_phase_portrait(posterior.model, prediction, components=[1], is_principal=False, series=[2]).axes[0]
    path = prediction.latents["path"][0, 2]
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), path[:, 1], rtol=1e-6)
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), path[:, 3], rtol=1e-6)


def test_phase_portrait_turns_to_the_largest_variance(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=400)
    states = prediction.latents["path"].reshape(-1, 4)
    angle = torch.tensor(0.7)
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()]).reshape(2, 2)
    states = torch.randn(len(states), 2) * torch.tensor([1.0, 5.0]) @ turn
    path = torch.cat([states, states], -1).reshape(400, 5, 6, 4)
    latents = {**prediction.latents, "path": path}
    turned = Prediction(prediction.samples, prediction.emission_means, latents, prediction.times)
    figure = plot_phase_portrait(posterior.model, turned, series=[0], num_paths=400)
    widths = [np.concatenate([line.get_xdata() for line in axes.get_lines()[:400]]).std() for axes in figure.axes]
    np.testing.assert_allclose(widths, [5.0, 1.0], rtol=0.1)  # 2400 points: 1.5 % standard error


def test_phase_portrait_of_first_order_and_of_one_position(make_posterior, make_data):
    from pyro_seq.nn.bayesian import BayesianMLP

    first = make_posterior(flow=Flow(3, order=1), vector_field=BayesianMLP(3, 3, (4,)))
    figure = plot_phase_portrait(first.model, reconstruct(first, make_data(), num_samples=2))
    assert [axes.get_ylabel() for axes in drawn(figure).axes] == ["principal component 1", "principal component 2"]
    single = make_posterior(state_dim=1)
    assert len(drawn(plot_phase_portrait(single.model, reconstruct(single, make_data(), num_samples=2))).axes) == 1


def test_phase_portrait_refuses(make_posterior, make_data):
    posterior = make_posterior()
    prediction = reconstruct(posterior, make_data(), num_samples=2)
    for options in ({"site": "walk"}, {"series": [5]}, {"series": []}, {"components": [2]}, {"components": [-1]}):
        with pytest.raises(DataError):
            plot_phase_portrait(posterior.model, prediction, **options)
    flat = make_posterior(flow=Flow(1, order=1), vector_field=None)
    with pytest.raises(DataError, match="components"):
        plot_phase_portrait(flat.model, reconstruct(flat, make_data(), num_samples=2))
    with pytest.raises(UnsupportedError, match="vector field"):
        plot_phase_portrait(make_lines(), prediction)


# ---------------------------------------------------------------------- figures of a fit


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


def test_trace_plot(make_posterior, make_data):
    idata = to_arviz(make_posterior(), make_data(), num_samples=20)
    figure = drawn(plot_trace(idata, ["initial"], max_entries=3))
    assert len(figure.axes) == 6
    assert figure.axes[2].get_title(loc="left") == "initial[0, position_1]"
    np.testing.assert_array_equal(
        figure.axes[3].get_lines()[0].get_ydata(), idata["posterior"]["initial"].values[0, :, 0, 1]
    )
