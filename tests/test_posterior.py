"""Posteriors: draws of a guide and stored ones; predictions; models that are only read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Labels, Sequences
from pyro_seq.errors import DataError
from pyro_seq.posterior import (
    GuidePosterior,
    PointPosterior,
    Prediction,
    StoredPosterior,
    prediction_context,
    reading,
)
from pyro_seq.testing import assert_close_mc

DATES = pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-05"])


def test_mean_and_quantiles_of_a_prediction() -> None:
    samples, means = torch.randn(101, 3, 4, 2), torch.randn(101, 3, 4, 2)
    prediction = Prediction(samples, means, {}, torch.arange(4.0))
    assert torch.equal(prediction.mean, means.mean(0))
    ordered = samples.sort(0).values
    torch.testing.assert_close(prediction.quantile(0.5), ordered[50])
    torch.testing.assert_close(prediction.quantile([0.1, 0.9]), ordered[[10, 90]])


def test_draws_of_a_guide_are_its_own_law(toy, assert_rng_untouched) -> None:
    model, data = toy.make_lines(), toy.make_data(3)
    posterior = GuidePosterior(model)
    with assert_rng_untouched():
        draws, again, other = (posterior.draws(data.extend(horizon=2), 4000, seed=seed) for seed in (1, 1, 2))
    assert draws["line"].shape == (4000, 3, 2) and draws["drift"].shape == (4000, 1, 1)
    assert torch.equal(draws["line"], again["line"]) and not torch.equal(draws["line"], other["line"])
    loc, log_scale = model.encoder(data.values[:, : toy.SEEN].flatten(1)).detach().chunk(2, -1)
    assert_close_mc(draws["line"], loc)
    assert_close_mc((draws["line"] - loc) ** 2, (2 * log_scale).exp())


def stored(toy, num_series: int = 3, **options) -> StoredPosterior:
    """Two chains of five draws that count 0 to 9."""
    numbers = torch.arange(10.0).reshape(2, 5)
    sites = {
        "line": numbers[..., None, None].expand(-1, -1, num_series, 2),
        "drift": numbers[..., None],
    }
    return StoredPosterior(toy.make_lines(), toy.make_data(num_series), sites, frozenset({"drift"}), **options)


def test_stored_draws_are_thinned_evenly_and_stay_together(toy) -> None:
    posterior = stored(toy)
    draws = posterior.draws(posterior.data.extend(horizon=2), 4)
    assert draws["line"].shape == (4, 3, 2) and draws["drift"].shape == (4, 1, 1)
    assert draws["drift"].flatten().tolist() == draws["line"][:, 0, 0].tolist() == [0, 3, 6, 9]


def test_more_draws_than_are_stored_are_drawn_again(toy) -> None:
    posterior = stored(toy)
    draws, again = (posterior.draws(posterior.data, 5000, seed=3)["line"][:, 0, 0] for _ in range(2))
    assert torch.equal(draws, again)
    counts = draws.int().bincount(minlength=10).double()
    # binomial counts of 5000 draws of a tenth each: the largest of ten is beyond 4.5 deviations once in 15 000 seeds
    assert float((counts - 500).abs().max()) < 4.5 * (5000 * 0.1 * 0.9) ** 0.5


def test_a_point_is_drawn_again_and_again_for_any_data(toy) -> None:
    posterior = PointPosterior(toy.make_lines(), {"drift": torch.tensor([3.0])})
    draws = posterior.draws(toy.make_data(2), 4)
    assert draws["drift"].shape == (4, 1, 1) and bool((draws["drift"] == 3.0).all())


def test_stored_draws_belong_to_the_fitted_series(toy) -> None:
    posterior = stored(toy)
    draws = posterior.draws(posterior.data, 3)["line"]
    assert torch.equal(posterior.draws(posterior.data[:2], 3)["line"], draws[:, :2])  # a part has its own draws
    with pytest.raises(DataError, match="must be series that were fitted"):
        posterior.draws(toy.make_data(7, seed=5), 3)
    shared = StoredPosterior(posterior.model, posterior.data, {"drift": posterior.sites["drift"]}, frozenset({"drift"}))
    assert shared.draws(toy.make_data(7, seed=5), 3)["drift"].shape == (3, 1, 1)


@pytest.mark.parametrize("context", [prediction_context, reading])
def test_a_model_that_is_read_comes_back_as_it_was(toy, context) -> None:
    model = toy.make_lines().train()
    model.encoder.eval()
    model.emit.requires_grad_(False)
    modes = [part.training for part in model.modules()]
    with pytest.raises(ZeroDivisionError), context(model):
        assert not any(part.training for part in model.modules())
        value = torch.ones(1, requires_grad=True)
        assert (value * model.drift_loc).requires_grad == (context is reading)
        raise ZeroDivisionError
    assert [part.training for part in model.modules()] == modes
    assert [p.requires_grad for p in model.emit.parameters()] == [False, False] and model.drift_loc.requires_grad


def test_parameters_get_no_gradient_while_a_model_is_read(toy) -> None:
    model, value = toy.make_lines(), torch.ones(1, requires_grad=True)
    with reading(model):
        (value * model.drift_loc).sum().backward()
    assert model.drift_loc.grad is None and value.grad is not None


def test_a_guide_sees_no_horizon(toy) -> None:
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data(3)
    longer = Sequences(data.values, times=torch.arange(12.0))
    assert torch.equal(posterior.draws(data, 5)["line"], posterior.draws(longer, 5)["line"])


@pytest.mark.parametrize("levels", [2.0, [0.1, -0.1], "median", float("nan"), None])
def test_levels_are_shares(levels) -> None:
    prediction = Prediction(torch.zeros(3, 2, 4, 1), torch.zeros(3, 2, 4, 1), {}, torch.arange(4.0))
    with pytest.raises(DataError, match="`levels` must be numbers from 0 to 1"):
        prediction.quantile(levels)


def test_a_prediction_is_shown_by_its_sizes() -> None:
    prediction = Prediction(
        torch.zeros(3, 2, 4, 1), torch.zeros(3, 2, 4, 1), {"initial": torch.zeros(3, 2)}, torch.arange(4.0)
    )
    assert repr(prediction) == "Prediction((sample 3, series 2, time 4, obs 1), latents initial)"
    assert repr(Prediction(prediction.samples, prediction.samples, {}, prediction.times)).endswith("obs 1))")


def test_posteriors_are_shown_in_short(toy) -> None:
    history = {"step": list(range(1000)), "loss": [0.1] * 1000}
    assert repr(GuidePosterior(toy.make_lines(), history)) == (
        "GuidePosterior(Lines, completed, history of 1000 entries: step, loss)"
    )
    assert repr(GuidePosterior(toy.make_lines())) == "GuidePosterior(Lines, completed)"
    assert repr(PointPosterior(toy.make_lines(), {"drift": torch.zeros(1)})) == "PointPosterior(Lines, sites drift)"
    assert repr(stored(toy)) == (
        "StoredPosterior(Lines, (chain 2, draw 5), sites line, drift, "
        "Sequences((series 3, time 9, obs 2), 0 % missing, total 3))"
    )


def named_prediction(num_draws: int = 41) -> Prediction:
    """Draws of two series at three dates of their own, and means that are not those of the draws."""
    data = Sequences(torch.zeros(2, 3, 2), times=np.array([DATES, DATES + pd.Timedelta(days=9)]))
    samples = torch.randn(num_draws, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    labels = Labels(variables=["pulse", "pressure"], series=["a", "b"])
    return Prediction(samples, samples + 5, {}, data.times, labels, data.calendar)


def test_an_interval_holds_its_share_of_the_draws() -> None:
    prediction = named_prediction()
    lower, upper = prediction.interval(0.9)
    ordered = prediction.samples.sort(0).values
    torch.testing.assert_close(lower, ordered[2])  # 5 % of 40 gaps between 41 draws
    torch.testing.assert_close(upper, ordered[38])
    for probability in (1.1, -0.1, None):
        with pytest.raises(DataError, match="`probability` must be"):
            prediction.interval(probability)


def test_a_prediction_is_a_long_table() -> None:
    prediction = named_prediction()
    table = prediction.to_dataframe(interval=0.5, has_draws=True)
    assert len(table) == 2 * 3 * 2
    assert list(table)[:8] == ["series", "time", "variable", "mean", "median", "lower", "upper", "draw_0"]
    row = table.set_index(["series", "variable", "time"]).loc[("b", "pressure", DATES[1] + pd.Timedelta(days=9))]
    draws = prediction.samples[:, 1, 1, 1]
    expected = [float(draws.mean() + 5), *(float(draws.sort().values[place]) for place in (20, 10, 30))]
    assert row[["mean", "median", "lower", "upper"]].tolist() == pytest.approx(expected, abs=1e-5)
    assert row.filter(like="draw_").tolist() == draws.tolist()
    assert list(prediction.to_dataframe()) == list(table)[:7]
    with pytest.raises(DataError, match="`has_draws` must be True or False"):
        prediction.to_dataframe(has_draws=3)


def test_a_prediction_is_a_labelled_array() -> None:
    prediction = named_prediction()
    dataset = prediction.to_xarray()
    for name in ("samples", "emission_means"):
        found = dataset[name].sel(series="b", variable="pulse").values
        assert np.array_equal(found, getattr(prediction, name)[:, 1, :, 0].numpy())
    assert (dataset["time_stamp"].sel(series="a").values == DATES.values).all()


def test_a_notebook_shows_the_first_steps_of_a_prediction() -> None:
    page = named_prediction()._repr_html_()
    assert page.count("<tr") == 1 + 6
    assert "<td>b</td>" not in page
    images = torch.zeros(4, 1, 2, 3, 3)
    assert "<tr" not in Prediction(images, images, {}, torch.arange(2.0))._repr_html_()
