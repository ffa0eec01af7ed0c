"""The predictive verbs and `evaluate`: shapes, equal draws, scores by hand, errors at the door."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from pyro_seq.data import Labels, Sequences
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.evaluate import Forecasting, Imputation, Reconstruction, evaluate, evaluate_baselines
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import assert_close_mc


@pytest.fixture
def posterior(toy):
    return GuidePosterior(toy.make_lines())


def test_forecast_follows_the_line_that_was_drawn(toy, posterior):
    """Means over the horizon are the emission of level + (slope + drift) t, from the draws in `latents`."""
    data = toy.make_data()
    prediction = forecast(posterior, data, times=[20.0, 30.0], num_samples=3)
    line, drift = prediction.latents["line"], prediction.latents["drift"][:, None]
    states = line[..., :1] + (line[..., 1:] + drift) * torch.tensor([20.0, 30.0])
    expected = posterior.model.emit(states[..., None]).detach()
    torch.testing.assert_close(prediction.emission_means, expected, rtol=1e-5, atol=1e-5)
    assert prediction.times.tolist() == [20.0, 30.0]


def test_samples_scatter_around_the_means_with_the_noise_of_the_emission(toy, posterior):
    prediction = reconstruct(posterior, toy.make_data(2), num_samples=4000)
    residuals = prediction.samples - prediction.emission_means
    assert_close_mc(residuals, torch.zeros_like(residuals[0]))
    assert_close_mc(residuals**2, torch.full_like(residuals[0], toy.NOISE**2))


def test_the_same_seed_gives_the_same_draws_to_every_verb(toy, posterior):
    data = toy.make_data()
    latents = [
        verb(posterior, data, num_samples=4, seed=3).latents["line"]
        for verb in (reconstruct, impute, lambda *a, **k: forecast(*a, horizon=2, **k))
    ]
    assert torch.equal(latents[0], latents[1])
    assert torch.equal(latents[0], latents[2])
    other = reconstruct(posterior, data, num_samples=4, seed=4).latents["line"]
    assert not torch.equal(latents[0], other)


def test_chunks_do_not_change_what_is_drawn_of_the_latents(toy, posterior):
    data = toy.make_data()
    whole = forecast(posterior, data, horizon=3, num_samples=5)
    parts = forecast(posterior, data, horizon=3, num_samples=5, chunk_size=2)
    torch.testing.assert_close(parts.emission_means, whole.emission_means, rtol=1e-6, atol=1e-6)
    assert parts.samples.shape == whole.samples.shape


@pytest.mark.parametrize(
    "verb",
    [
        lambda *arguments: forecast(*arguments, horizon=2),
        impute,
        lambda *arguments: impute(*arguments, is_causal=True),
        reconstruct,
        sample,
    ],
    ids=["forecast", "impute", "causal", "reconstruct", "sample"],
)
def test_labels_and_dates_come_back(toy, posterior, verb):
    labels = Labels(variables=["pulse", "pressure"], series=["a", "b"])
    days = pd.date_range("2024-01-01", periods=9)
    data = Sequences(toy.make_data(2).values, times=days, labels=labels)
    data = data.hide((torch.arange(9) == 4).expand(2, 9))
    prediction = verb(posterior, data)
    assert prediction.labels == labels
    table = prediction.to_dataframe()
    assert table["series"].unique().tolist() == ["a", "b"]
    assert table["variable"].tolist()[:2] == ["pulse", "pressure"]
    assert set(table["time"]) <= set(pd.date_range("2024-01-01", periods=11))


def ragged(lengths, **fields):
    values = torch.rand(len(lengths), max(lengths), 2, generator=torch.Generator().manual_seed(1))
    data = Sequences(values, **fields)
    return data.hide(torch.arange(data.num_steps) >= torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_a_horizon_begins_at_the_end_of_each_series(toy, posterior, chunk_size):
    """The line of each series at the steps after its last one, whatever the others are."""
    lengths = torch.tensor([9, 4, 0, 7])
    prediction = forecast(posterior, ragged(lengths.tolist()), horizon=3, num_samples=5, chunk_size=chunk_size)
    steps = lengths[:, None] + torch.arange(3)
    assert prediction.times.tolist() == steps.tolist()
    line, drift = prediction.latents["line"], prediction.latents["drift"][:, None]
    states = line[..., :1] + (line[..., 1:] + drift) * steps
    expected = posterior.model.emit(states[..., None]).detach()
    torch.testing.assert_close(prediction.emission_means, expected, rtol=1e-5, atol=1e-5)
    assert prediction.samples.shape == prediction.emission_means.shape == (5, 4, 3, 2)


def test_a_short_series_is_forecast_as_if_alone(toy, posterior):
    data = ragged([8, 5], times=torch.arange(8.0) / 2 + torch.tensor([[0.0], [7.0]]))
    together = forecast(posterior, data, horizon=4, num_samples=4000)
    alone = forecast(posterior, data[1].first(5), horizon=4, num_samples=4000, seed=1)
    assert torch.equal(together.times[1], alone.times[0])
    assert_close_mc(together.samples[:, 1] - alone.samples[:, 0], torch.zeros(4, 2))


def test_series_that_end_with_the_grid_share_their_horizon(toy, posterior):
    data = toy.make_data()
    by_steps = forecast(posterior, data, horizon=3, num_samples=5)
    by_times = forecast(posterior, data, times=by_steps.times, num_samples=5)
    assert torch.equal(by_steps.samples, by_times.samples) and by_steps.times.ndim == 1


def test_times_are_a_horizon_that_all_series_share(toy, posterior):
    data = ragged([9, 4])
    for prediction in (
        forecast(posterior, data, times=[9.0, 10.0], num_samples=2),
        forecast(posterior, data.extend(horizon=2), num_samples=2),
    ):
        assert prediction.times.tolist() == [9.0, 10.0] and prediction.samples.shape == (2, 2, 2, 2)


def test_no_steps_after_the_end_are_none(toy, posterior):
    assert forecast(posterior, ragged([9, 4]), horizon=0, num_samples=2).samples.shape == (2, 2, 0, 2)


def test_ragged_series_with_inputs_have_no_common_horizon(toy, posterior):
    posterior.model.has_inputs = True
    data = ragged([9, 5], inputs=torch.zeros(2, 9, 1))
    with pytest.raises(UnsupportedError, match=r"`inputs` over the horizon would be given twice.*one length at a time"):
        forecast(posterior, data, horizon=2, inputs=torch.zeros(2, 2, 1), num_samples=2)
    short = data[1].first(5)
    assert forecast(posterior, short, horizon=2, inputs=torch.zeros(1, 2, 1), num_samples=2).times.tolist() == [5, 6]


def test_a_horizon_may_be_dates(toy, posterior):
    days = pd.date_range("2024-01-01", periods=12, tz="Europe/Berlin")
    data = Sequences(toy.make_data().values, times=days[:9])
    prediction = forecast(posterior, data, times=days[9:], num_samples=2)
    assert data.calendar.dates(prediction.times).tolist() == days[9:].tolist()
    assert torch.equal(prediction.times, forecast(posterior, data, horizon=3, num_samples=2).times)
    with pytest.raises(DataError, match="without a time zone"):
        forecast(posterior, data, times=days[9:].tz_localize(None), num_samples=2)


def test_sample_draws_series_from_the_prior_and_globals_from_the_posterior(toy, posterior):
    with torch.no_grad():
        posterior.model.drift_loc.fill_(7.0)
    prediction = sample(posterior, toy.make_data(3), num_samples=3000)
    assert_close_mc(prediction.latents["line"], torch.zeros(3, 2))
    assert_close_mc(prediction.latents["line"] ** 2, torch.ones(3, 2))
    assert_close_mc(prediction.latents["drift"], torch.tensor([7.0]))


def test_conditional_models_have_no_prior_draws(toy, posterior):
    class Conditional(toy.Lines):
        is_conditional = True

    with pytest.raises(UnsupportedError, match="Use `forecast`"):
        sample(GuidePosterior(Conditional()), toy.make_data())


def test_imputation_keeps_what_was_observed(toy, posterior):
    data = toy.make_data()
    hidden = torch.zeros(data.values.shape, dtype=torch.bool)
    hidden[:, 3, 1] = True
    filled = impute(posterior, data.hide(hidden), num_samples=6)
    kept = ~hidden.expand_as(filled.samples)
    assert torch.equal(filled.samples[kept], data.values.expand_as(filled.samples)[kept])
    assert float(filled.samples[:, hidden].std()) > 0


def test_scores_are_those_of_the_prediction(toy, posterior):
    data = toy.make_data()
    prediction = forecast(posterior, Forecasting(6).given(data), num_samples=50)
    scores = evaluate(posterior, data, Forecasting(6), num_samples=50)
    expected = (prediction.mean - data.values[:, 6:]).square().flatten(1).mean(1)
    torch.testing.assert_close(scores.mse, expected)
    assert scores.means()["mse"] == pytest.approx(float(expected.mean()))


def test_hidden_truth_is_not_scored(toy, posterior):
    data = toy.make_data()
    holes = torch.zeros(data.mask.shape, dtype=torch.bool)
    holes[:, 7] = True
    spoiled = data.values.clone()
    spoiled[:, 7] = 1e6
    first = evaluate(posterior, data.hide(holes), Forecasting(6), num_samples=5)
    second = evaluate(posterior, Sequences(spoiled, mask=~holes), Forecasting(6), num_samples=5)
    assert torch.equal(first.mse, second.mse)


def test_imputation_scores_only_what_it_hid(toy, posterior):
    data, task = toy.make_data(), Imputation(0.4, num_kept=2)
    given = task.given(data)
    scored = task.scored(data)
    assert not bool((scored & given.entry_mask).any())
    assert not bool(scored[:, :2].any())
    assert 0.1 < float(scored[:, 2:].float().mean()) < 0.7
    assert torch.equal(task.scored(data), scored)
    assert evaluate(posterior, data, task, num_samples=4).mse.shape == (8,)


def test_baselines_by_hand():
    train = Sequences(torch.tensor([[[0.0], [1.0], [2.0]], [[10.0], [10.0], [10.0]]]))
    test = Sequences(torch.tensor([[[1.0], [2.0], [4.0]]]))
    scores = {row.name: float(row.mse) for row in evaluate_baselines(train, test, Forecasting(2))}
    mean = (0 + 1 + 2 + 30) / 6
    expected = {"training mean": (4 - mean) ** 2, "last frame": 4.0, "nearest training series": 4.0}
    expected |= {"drift": 1.0, "exponential smoothing": 4.0}
    assert scores == pytest.approx(expected)


def test_last_frame_of_an_imputation_is_the_last_one_seen():
    train = Sequences(torch.zeros(1, 4, 1))
    data = Sequences(torch.tensor([[[1.0], [2.0], [3.0], [4.0]]]))

    class Fixed(Imputation):
        def _hidden(self, data):
            return torch.tensor([[False, False, True, True]])

    scores = {row.name: float(row.mse) for row in evaluate_baselines(train, data, Fixed(0.5))}
    assert scores["last frame"] == pytest.approx(((3 - 2) ** 2 + (4 - 2) ** 2) / 2)


@pytest.mark.parametrize("verb", [forecast, impute, reconstruct, sample])
def test_verbs_refuse_at_the_door(toy, posterior, verb):
    data = toy.make_data()
    with pytest.raises(DataError, match="`posterior` must be what `fit` returned"):
        verb(posterior.model, data)
    with pytest.raises(DataError, match="`data` must be a `Sequences`"):
        verb(posterior, data.values)
    with pytest.raises(DataError, match="`num_samples`"):
        verb(posterior, data, num_samples=0)
    with pytest.raises(DataError, match="`chunk_size`"):
        verb(posterior, data, chunk_size=-1)


def test_tasks_refuse_impossible_sizes(toy, posterior):
    data = toy.make_data()
    with pytest.raises(DataError, match="`num_observed` must leave steps to forecast"):
        evaluate(posterior, data, Forecasting(data.num_steps))
    with pytest.raises(DataError, match="`fraction`"):
        Imputation(1.5)
    nothing = data.hide(torch.ones(data.mask.shape, dtype=torch.bool))
    with pytest.raises(DataError, match="leaves nothing to score"):
        evaluate(posterior, nothing, Reconstruction(), num_samples=2)
