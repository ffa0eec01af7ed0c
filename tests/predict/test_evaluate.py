"""Tasks and their scores: what is shown, what is scored, and scores of predictions whose error is known."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.posterior import GuidePosterior, Posterior, Prediction, StoredPosterior
from pyro_seq.predict.evaluate import (
    Forecasting,
    Imputation,
    Reconstruction,
    Task,
    baselines,
    evaluate,
    evaluate_baselines,
    score,
)

module = sys.modules[evaluate.__module__]


def make_data(num_series: int = 4, num_steps: int = 6) -> Sequences:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(num_series, num_steps, 2, generator=generator)
    return Sequences(values, mask=torch.rand(values.shape, generator=generator) < 0.8)


def test_a_forecast_is_given_the_first_steps_and_the_times_and_inputs_of_the_rest() -> None:
    times, inputs = torch.tensor([0.0, 1.0, 4.0, 5.0, 9.0, 9.5]), torch.randn(4, 6, 3)
    data = make_data()
    data = Sequences(data.values, mask=data.mask, times=times, inputs=inputs)
    given = Forecasting(4).given(data.extend(times=[20.0], inputs=torch.zeros(4, 1, 3)))
    assert torch.equal(given.values, data.values[:, :4]) and given.times.tolist() == times.tolist()
    assert torch.equal(given.inputs, inputs)
    assert torch.equal(Forecasting(4).scored(data), data.entry_mask[:, 4:])


def test_a_reconstruction_is_given_and_scored_on_all_that_was_seen() -> None:
    data = make_data()
    assert torch.equal(Reconstruction().given(data.extend(horizon=2)).values, data.values)
    assert torch.equal(Reconstruction().scored(data), data.entry_mask)


@pytest.mark.parametrize("fraction", [0.2, 0.9])
def test_an_imputation_hides_the_share_that_it_says(fraction: float) -> None:
    data = Sequences(torch.zeros(500, 9, 1))
    hidden = Imputation(fraction, num_kept=1).scored(data)[..., 0]
    assert not bool(hidden[:, 0].any())
    # a binomial share of 4000 steps
    assert abs(float(hidden[:, 1:].float().mean()) - fraction) < 4.5 * (fraction * (1 - fraction) / 4000) ** 0.5
    assert not torch.equal(Imputation(fraction, seed=1).scored(data), Imputation(fraction).scored(data))


def test_scores_of_an_error_that_is_known() -> None:
    """Off by 3 at every scored entry: squared error 9, and 3 for draws that all agree; none is covered."""
    data, task = make_data(), Forecasting(2)
    mean = data.values[:, 2:] + 3.0
    scores = score("off", mean, mean.expand(99, -1, -1, -1), data, task)
    torch.testing.assert_close(scores.mse, torch.full((4,), 9.0))
    torch.testing.assert_close(scores.crps, torch.full((4,), 3.0))
    assert scores.coverage_50.tolist() == scores.coverage_90.tolist() == [0.0] * 4
    point = score("point", mean, None, data, task)
    assert torch.equal(point.crps, scores.crps) and bool(point.coverage_50.isnan().all())
    assert point.means()["mse"] == pytest.approx(9.0)


def test_a_series_without_anything_to_score_does_not_count_in_the_mean() -> None:
    data = make_data()
    mask = data.mask.clone()
    mask[1, 2:] = False
    data = Sequences(data.values, mask=mask)
    scores = score("off", data.values[:, 2:] + torch.arange(4.0)[:, None, None], None, data, Forecasting(2))
    assert bool(scores.mse[1].isnan())
    assert scores.means()["mse"] == pytest.approx((0 + 4 + 9) / 3)


def test_a_mean_that_is_no_number_needs_a_reason() -> None:
    data, task = make_data(), Forecasting(2)
    mean = torch.where(torch.arange(4)[:, None, None] == 1, torch.nan, data.values[:, 2:])
    with pytest.raises(DataError, match="finite where it is scored"):
        score("off", mean, None, data, task)
    assert bool(score("off", mean, None, data, task, note="one is missing").mse[1].isnan())


def test_the_nearest_training_series_needs_a_grid_as_long() -> None:
    data, task = make_data(), Forecasting(2)
    names = set(baselines(Sequences(make_data(7, 6).values), data, task))
    assert names == {"training mean", "last frame", "nearest training series"}
    short = baselines(make_data(7, 4), data, task)
    assert set(short) == {"training mean", "last frame"}
    assert all(values.shape == (4, 4, 2) for values in short.values())


@pytest.mark.parametrize("num_observed", [0, 6, 7])
def test_a_forecast_needs_steps_on_both_sides(num_observed: int) -> None:
    expected = "`num_observed` must (leave steps to forecast: 1 to 5|be a whole number from 1)"
    with pytest.raises(DataError, match=expected):
        Forecasting(num_observed).given(make_data())


# ---------------------------------------------------------------- in bounded memory


class Spied:
    """A task that notes the size of each prediction, and which series it was for."""

    def __init__(self, task: Task) -> None:
        self.task, self.predictions, self.seeds = task, [], []
        self.given, self.scored = task.given, task.scored

    def predict(self, posterior: Posterior, given: Sequences, **options: Any) -> Prediction:
        self.predictions.append(self.task.predict(posterior, given, **options))
        self.seeds.append(options["seed"])
        return self.predictions[-1]


SINGLE = Imputation(0.4, num_kept=2, is_by_entry=True)
TASKS = pytest.mark.parametrize(
    "task", [Reconstruction(), Forecasting(6), Imputation(0.4, num_kept=2), SINGLE], ids=str
)


def test_entries_are_hidden_each_by_itself():
    values = torch.randn(50, 40, 3)
    data = Sequences(values).hide(torch.arange(40).expand(50, 40) == 7)
    hidden, given = SINGLE.scored(data), SINGLE.given(data)
    assert not bool(hidden[:, :2].any()) and not bool(hidden[:, 7].any())
    assert torch.equal(given.entry_mask, data.entry_mask & ~hidden)
    count = 50 * 37 * 3
    # five standard errors of a share of 0.4, and of the share of steps that hide all three
    assert abs(float(hidden.sum() / count) - 0.4) < 5 * (0.24 / count) ** 0.5
    assert abs(float(hidden.all(-1).sum() / (50 * 37)) - 0.4**3) < 5 * (0.06 / (50 * 37)) ** 0.5


@TASKS
def test_draws_are_made_for_some_series_at_a_time(task: Task, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data(7)
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 1000)  # 20 draws of 9 steps of 2 entries: two series
    spied = Spied(task)
    scores = evaluate(posterior, data, spied, num_samples=20)
    assert [prediction.samples.shape[1] for prediction in spied.predictions] == [2, 2, 2, 1]
    assert max(prediction.samples.numel() for prediction in spied.predictions) <= 1000
    assert len(set(spied.seeds)) == 4
    again = evaluate(posterior, data, task, num_samples=20)
    assert all(torch.equal(one, other) for one, other in zip(scores[1:5], again[1:5], strict=True))
    # the same entries are scored as at once, with what was drawn
    means = torch.cat([prediction.mean for prediction in spied.predictions])
    samples = torch.cat([prediction.samples for prediction in spied.predictions], 1)
    whole = score(type(posterior.model).__name__, means, samples, data, task)
    for one, other in zip(scores[1:5], whole[1:5], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


@TASKS
def test_what_fits_at_once_is_one_prediction(task: Task, toy: Any) -> None:
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data(7)
    spied = Spied(task)
    scores = evaluate(posterior, data, spied, num_samples=20, seed=3)
    assert spied.seeds == [3]
    prediction = task.predict(posterior, task.given(data), num_samples=20, chunk_size=None, seed=3)
    assert torch.equal(spied.predictions[0].samples, prediction.samples)
    assert torch.equal(scores.crps, score("", prediction.mean, prediction.samples, data, task).crps)


@pytest.mark.parametrize(("patience", "is_shown"), [(0.0, True), (60.0, False)], ids=["at once", "later"])
def test_a_long_evaluation_shows_how_far_it_is(
    toy: Any, patience: float, is_shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data(7)
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 1000)
    monkeypatch.setattr(module, "_PATIENCE", patience)
    evaluate(posterior, data, Reconstruction(), num_samples=20)
    assert ("evaluate" in capsys.readouterr().err) == is_shown


def test_rounds_are_as_good_as_one_prediction(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The continuous ranked probability score of the same model, up to the noise of 400 draws a series."""
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data(40)
    one = evaluate(posterior, data, Forecasting(6), num_samples=400).crps
    monkeypatch.setattr(module, "CHUNK_ENTRIES", 400 * 9 * 2 * 3)
    rounds = evaluate(posterior, data, Forecasting(6), num_samples=400).crps
    # both have a deviation of about their spread over seeds, which two more seeds measure
    others = torch.stack([evaluate(posterior, data, Forecasting(6), num_samples=400, seed=s).crps for s in range(1, 5)])
    assert 0 < float((rounds - one).abs().mean()) < 3 * float(others.std(0).mean())


@pytest.mark.parametrize("fraction", ["half", None, float("nan"), 0])
def test_a_fraction_is_a_number(fraction: Any) -> None:
    with pytest.raises(DataError, match="`fraction` must be a share"):
        Imputation(fraction)


def test_squares_that_single_precision_does_not_hold_are_refused() -> None:
    """Masses of stars in kilograms; in double precision they are scored."""
    stars, mean = Sequences(2e30 * torch.rand(4, 6, 1)), torch.zeros(4, 6, 1)
    with pytest.raises(NumericalError, match=r"errors in `data`.*float32 holds.*double"):
        score("", mean, None, stars, Reconstruction())
    scores = score("", mean, None, stars.to(dtype=torch.float64), Reconstruction())
    torch.testing.assert_close(scores.mse, stars.values.double().square().mean((1, 2)))


def test_baselines_need_training_series_alike() -> None:
    with pytest.raises(ShapeError, match="`train` must have observations like `data`"):
        evaluate_baselines(Sequences(torch.ones(2, 6, 7)), make_data(), Reconstruction())


def test_intervals_by_a_guide_that_hold_far_too_little_are_named(toy: Any) -> None:
    data, model = toy.make_data(6), toy.make_lines()
    far = Sequences(30 * data.values)
    with torch.no_grad():
        model.encoder.weight.zero_()
    with pytest.warns(UserWarning, match=r"90 % intervals of this Lines hold 0\.\d\d \+- 0\.\d\d.*refine.*recalibrate"):
        evaluate(GuidePosterior(model), far, Reconstruction())
    sites = GuidePosterior(model).draws(far, 100)
    stored = StoredPosterior(
        model, far, {"line": sites["line"][None], "drift": sites["drift"][None, :, 0]}, frozenset({"drift"})
    )
    evaluate(stored, far, Reconstruction())  # draws of chains have no guide that could be refined
    evaluate(GuidePosterior(model), far, Reconstruction(), num_samples=1)  # an interval of one draw is a point
    with torch.no_grad():
        model.emit.weight.zero_()
    evaluate(GuidePosterior(model), Sequences(0.1 * data.values), Reconstruction())
