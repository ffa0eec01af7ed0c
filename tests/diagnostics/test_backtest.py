"""`backtest`: nothing later has any influence, scores are those of the forecasts, and it can be stopped and resumed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq import diagnostics
from pyro_seq.data import Labels
from pyro_seq.diagnostics.backtest import Backtest, backtest

NAN = math.nan
QUIET = ps.Trainer(progress=False)


class Slope(ps.SequenceModel):
    """Normal around a level, the mean of training, plus the input; no latents."""

    has_inputs = True
    obs_shape = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.zeros(()))

    def model(self, data: ps.Sequences) -> None:
        self.bind()
        shift = torch.zeros(len(data), data.times.shape[-1], 1) if data.inputs is None else data.inputs
        with self.series(data):
            self.observe(lambda path: dist.Normal(self.level + path, 0.5), shift, data)

    def guide(self, data: ps.Sequences) -> None:
        self.bind()


class Mean:
    """Takes the mean of the training data for the level, and remembers the data."""

    def __init__(self, status: str = "completed") -> None:
        self.seen: list[ps.Sequences] = []
        self.status = status

    def run(self, model, data, *, validation, seed, trainer):
        self.seen.append(data)
        model.take_units(data)
        model.level.copy_(data.values.sum() / data.entry_mask.sum())
        model.start = torch.rand(())  # part of the fit's own random state
        return ps.GuidePosterior(model, status=self.status)


def make_data(num_series: int = 3, num_steps: int = 24, *, seed: int = 0) -> ps.Sequences:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_series, num_steps, 1, generator=generator).cumsum(1)
    mask = torch.rand(num_series, num_steps, generator=generator) < 0.8
    inputs = torch.randn(num_series, num_steps, 1, generator=generator)
    return ps.Sequences(values, mask=mask, inputs=inputs)


def with_other_future(data: ps.Sequences, step: int, *, inputs_too: bool = False) -> ps.Sequences:
    """The same data with other values, gaps and times from `step` on; other inputs too where these are later still."""
    generator = torch.Generator().manual_seed(99)
    later = torch.arange(data.num_steps) >= step
    values = torch.where(later[:, None], torch.randn(data.values.shape, generator=generator), data.values)
    mask = torch.where(later, torch.rand(data.mask.shape, generator=generator) < 0.9, data.mask)
    inputs = data.inputs
    if inputs_too and inputs is not None:
        inputs = torch.where(later[:, None], 7.0, inputs)
    return ps.Sequences(values, mask=mask, inputs=inputs, times=data.times)


@pytest.mark.parametrize("refit", [True, False])
def test_no_later_value_has_any_influence(refit: bool) -> None:
    """Bit-equal forecasts from an origin whatever comes after it, and bit-equal scores whatever follows its horizon."""
    torch.manual_seed(0)
    data = ps.Sequences(make_data().values, mask=make_data().mask)
    method = ps.SVI(num_steps=3, learning_rate=0.05)

    def run(data: ps.Sequences) -> Backtest:
        factory = lambda: ps.DynamicFactors((1,), num_factors=2)  # noqa: E731
        options = {"horizon": 3, "cutoffs": [10, 15], "num_samples": 8, "trainer": QUIET}
        return backtest(factory, data, method, refit=refit, period=4, **options)

    found = run(data)
    for number, cutoff in enumerate(found.cutoffs):
        other = run(with_other_future(data, cutoff))
        for k in range(number + 1):
            assert torch.equal(found.predictions[k].samples, other.predictions[k].samples)
            assert torch.equal(found.predictions[k].emission_means, other.predictions[k].emission_means)
        if number == 0:  # and a past that differs is seen
            assert not torch.equal(found.predictions[1].samples, other.predictions[1].samples)
    later = run(with_other_future(data, found.cutoffs[0] + 3))
    for name, tally in found.tallies.items():
        for part, same in zip(tally, later.tallies[name], strict=True):
            assert torch.equal(part[:, 0], same[:, 0])


def test_inputs_are_known_over_the_horizon_and_no_further() -> None:
    data, method = make_data(), Mean()
    found = backtest(Slope, data, method, horizon=4, cutoffs=[9, 14], num_samples=50)
    assert [part.num_steps for part in method.seen] == [9, 14]
    for prediction, cutoff in zip(found.predictions, (9, 14), strict=True):
        past = data.first(cutoff)
        level = past.values.sum() / past.entry_mask.sum()
        expected = level + data.inputs[:, cutoff : cutoff + 4]
        torch.testing.assert_close(prediction.mean, expected)
    later = backtest(
        Slope, with_other_future(data, 13, inputs_too=True), Mean(), horizon=4, cutoffs=[9], num_samples=50
    )
    assert torch.equal(later.predictions[0].samples, found.predictions[0].samples)


def test_scores_are_those_of_the_forecasts() -> None:
    """Every figure of the table against loops over cutoffs, steps ahead and seen entries; one series is late."""
    data = make_data(4)
    data = data.hide((torch.arange(24) < 12) & (torch.arange(4)[:, None] == 0))
    data = data.hide((torch.arange(24) > 13) & (torch.arange(4)[:, None] == 1))
    found = backtest(Slope, data, Mean(), horizon=4, cutoffs=[9, 14, 20], num_samples=19)
    assert bool(found.predictions[0].samples[:, 0].isnan().all())
    assert bool(found.predictions[1].samples.isfinite().all())
    table = found.table(["cutoff", "horizon"])
    last = [[data.values[s, :c, 0][data.mask[s, :c]][-1:] for s in range(4)] for c in found.cutoffs]
    for number, cutoff in enumerate(found.cutoffs):
        for ahead in range(1, 5):
            step, errors, naive, inside = cutoff + ahead - 1, [], [], []
            for series in range(4):
                if bool(data.mask[series, step]) and len(last[number][series]):
                    truth = float(data.values[series, step, 0])
                    errors.append(float(found.predictions[number].mean[series, ahead - 1, 0]) - truth)
                    naive.append(float(last[number][series]) - truth)
                    rank = int((found.predictions[number].samples[:, series, ahead - 1, 0] < truth).sum())
                    inside.append(1 <= rank <= 18)  # of ranks 0 to 19, the ends of which are 10 %
            rows = table[(table["cutoff"] == cutoff) & (table["horizon"] == ahead)].set_index("predictor")
            assert int(rows.loc["Slope", "count"]) == len(errors) > 0
            for name, expected in (("Slope", errors), ("last frame", naive)):
                assert rows.loc[name, "rmse"] == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=1e-5)
            assert rows.loc["Slope", "coverage_90"] == pytest.approx(np.mean(inside))
            assert rows.loc["last frame", "mae"] == pytest.approx(np.mean(np.abs(naive)), rel=1e-5)
    whole = found.table(()).set_index("predictor")
    rows = table[table["predictor"] == "Slope"]
    pooled = np.sqrt(np.average(rows["rmse"] ** 2, weights=rows["count"]))
    assert whole.loc["Slope", "rmse"] == pytest.approx(pooled)
    assert list(whole.index) == ["Slope", "training mean", "last frame", "drift", "exponential smoothing"]


def test_baselines_are_those_of_the_other_verb() -> None:
    data = make_data(5)
    data = ps.Sequences(data.values)
    found = backtest(Slope, data, Mean(), horizon=6, cutoffs=[18], period=3, num_samples=5)
    table = found.table(()).set_index("predictor")
    rows = {row.name: row for row in ps.evaluate_baselines(data.first(18), data, ps.Forecasting(18), period=3)}
    for name in table.index[1:]:
        means = rows[name].means()
        assert table.loc[name, "rmse"] ** 2 == pytest.approx(means["mse"], rel=1e-5)
        for score in ("crps", "coverage_50", "coverage_90"):
            assert table.loc[name, score] == pytest.approx(means[score], rel=1e-5, nan_ok=True)
    assert {"drift", "seasonal naive", "exponential smoothing"} < set(table.index)


def test_one_fit_serves_all_origins_where_that_is_asked_for() -> None:
    data, method = make_data(), Mean()
    found = backtest(Slope, data, method, horizon=2, cutoffs=3, refit=False, num_samples=5)
    assert [part.num_steps for part in method.seen] == [found.cutoffs[0]]
    first, last = (found.predictions[k].mean - data.inputs[:, c : c + 2] for k, c in enumerate(found.cutoffs) if k != 1)
    torch.testing.assert_close(first, last)


def test_a_model_of_windows_is_shown_the_last_steps() -> None:
    """The forecast is that from the last steps alone, while training and baselines have them all."""
    data = make_data(3)
    data = data.hide((torch.arange(24) >= 11) & (torch.arange(24) < 15) & (torch.arange(3)[:, None] == 1))
    shown: list[ps.Sequences] = []

    class Spied(Slope):
        def guide(self, data: ps.Sequences) -> None:
            shown.append(data)

    method = Mean()
    options = {"horizon": 3, "cutoffs": [4, 15], "num_samples": 5}
    found = backtest(Spied, data, method, num_observed=4, **options)
    assert [part.values.shape[:2] for part in method.seen] == [(3, 4), (3, 15)]
    assert [part.values.shape[:2] for part in shown] == [(3, 4), (2, 4)]
    assert torch.equal(shown[1].values, data.values[[0, 2], 11:15])
    assert torch.equal(shown[1].times, data.times[11:15])
    assert torch.equal(shown[1].inputs, data.inputs[[0, 2], 11:15])
    assert bool(found.predictions[1].samples[:, 1].isnan().all())
    whole = backtest(Spied, data[[0, 2]], Mean(), **options)
    for part, other in zip(found.tallies["drift"], whole.tallies["drift"], strict=True):
        torch.testing.assert_close(part[:, 1], other[:, 1])


def test_a_number_of_cutoffs_is_spread_over_the_second_half() -> None:
    data = make_data()
    assert backtest(Slope, data, Mean(), horizon=4, cutoffs=3, num_samples=2).cutoffs == (12, 16, 20)
    assert backtest(Slope, data, Mean(), horizon=4, cutoffs=1, num_samples=2).cutoffs == (20,)
    assert backtest(Slope, data, Mean(), horizon=20, cutoffs=1, num_samples=2).cutoffs == (4,)


@pytest.mark.parametrize("freq", ["MS", "D"])
def test_cutoffs_may_be_dates(freq: str) -> None:
    """The date of the last seen step, whatever the length of steps."""
    dates = pd.date_range("2020-01-01", periods=24, freq=freq)
    data = ps.Sequences(torch.randn(2, 24, 1, generator=torch.Generator().manual_seed(0)), times=dates)
    found = backtest(Slope, data, Mean(), horizon=4, cutoffs=[dates[9], dates[14]], num_samples=2)
    assert found.cutoffs == (10, 15)
    assert data.calendar.dates(found.predictions[0].times)[0] == dates[10]
    own = ps.Sequences(data.values, times=torch.arange(24.0).expand(2, -1), calendar=data.calendar)
    with pytest.raises(ps.UnsupportedError, match="numbers of steps where series have time stamps of their own"):
        backtest(Slope, own, Mean(), horizon=4, cutoffs=[dates[9]])
    with pytest.raises(ps.DataError, match="must be numbers, as the time stamps"):
        backtest(Slope, make_data(), Mean(), horizon=4, cutoffs=[dates[9]])


def test_series_may_have_times_of_their_own() -> None:
    times = torch.rand(3, 24, generator=torch.Generator().manual_seed(4), dtype=torch.float64).cumsum(1)
    labels = Labels(series=["a", "b", "c"])
    data = ps.Sequences(make_data().values, times=times, labels=labels)
    data = data.hide((torch.arange(24) < 12) & (torch.arange(3)[:, None] == 1))
    found = backtest(Slope, data, Mean(), horizon=3, cutoffs=[9, 20], num_samples=4)
    assert torch.equal(found.predictions[1].times, times[:, 20:23])
    assert torch.equal(found.predictions[0].times[[0, 2]], times[[0, 2], 9:12])
    assert bool(found.predictions[0].times[1].isnan().all())
    assert found.predictions[0].labels == labels
    assert bool(diagnostics.plot_backtest(found, series=1).axes)


def test_a_baseline_that_lacks_something_says_at_which_cutoff() -> None:
    steps, is_first = torch.arange(24), torch.arange(3)[:, None] == 0
    data = ps.Sequences(make_data().values).hide(is_first & (steps < 12) & (steps != 8))
    found = backtest(Slope, data, Mean(), horizon=4, cutoffs=[10, 20], num_samples=2)
    assert found.notes == {"drift": "cutoff 10: needs two seen values of each entry; 1 of 3 series show less"}
    counts = found.table(()).set_index("predictor")["count"]
    assert counts["drift"] < counts["last frame"] == counts["Slope"]


def test_a_stopped_backtest_goes_on(tmp_path: Path) -> None:
    data = ps.Sequences(make_data().values)
    factory = lambda: ps.DynamicFactors((1,), num_factors=2)  # noqa: E731

    def run(cutoffs: list[int], **options) -> Backtest:
        trainer = ps.Trainer(directory=tmp_path / "runs", progress=False, **options)
        return backtest(factory, data, ps.SVI(num_steps=3), horizon=3, cutoffs=cutoffs, num_samples=4, trainer=trainer)

    first = run([10])
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"cutoff-10"}
    with pytest.raises(ps.CheckpointError, match="earlier run"):
        run([10, 15])
    written = (tmp_path / "runs/cutoff-10/checkpoint.pt").stat().st_mtime_ns
    both = run([10, 15], resume=True)
    assert (tmp_path / "runs/cutoff-10/checkpoint.pt").stat().st_mtime_ns == written
    assert torch.equal(both.predictions[0].samples, first.predictions[0].samples)
    alone = backtest(factory, data, ps.SVI(num_steps=3), horizon=3, cutoffs=[15], num_samples=4, trainer=QUIET)
    assert torch.equal(both.predictions[1].samples, alone.predictions[0].samples)


def test_an_interrupt_ends_all_and_a_limit_of_time_one_fit() -> None:
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        backtest(Slope, make_data(), Mean("interrupted"), horizon=4, num_samples=2)
    limited = ps.Trainer(max_seconds=5.0)
    assert len(backtest(Slope, make_data(), Mean("interrupted"), horizon=4, trainer=limited).cutoffs) == 5


def test_images_are_backtested_too() -> None:
    class Pictures(Slope):
        obs_shape = (1, 2, 2)

        def model(self, data: ps.Sequences) -> None:
            self.bind()
            with self.series(data):
                path = torch.zeros(len(data), data.times.shape[-1], 4)
                self.observe(lambda path: dist.Normal(self.level + path.unflatten(-1, (1, 2, 2)), 0.5), path, data)

    found = backtest(Pictures, ps.Sequences(torch.rand(2, 12, 1, 2, 2)), Mean(), horizon=2, cutoffs=2, num_samples=4)
    assert list(found.tallies) == ["Pictures", "training mean", "last frame"]
    assert found.table(["entry"]).groupby("predictor").size().tolist() == [4, 4, 4]


def test_the_random_state_is_kept_and_the_weights_follow_from_the_seed(assert_rng_untouched) -> None:
    data = ps.Sequences(make_data().values)
    factory = lambda: ps.DynamicFactors((1,), num_factors=2)  # noqa: E731
    method = ps.SVI(num_steps=1, learning_rate=1e-9)
    options = {"horizon": 3, "cutoffs": 1, "num_samples": 4, "trainer": QUIET}
    with assert_rng_untouched():
        first = backtest(factory, data, method, **options)
    torch.manual_seed(5)
    assert torch.equal(backtest(factory, data, method, **options).predictions[0].samples, first.predictions[0].samples)
    other = backtest(factory, data, method, seed=1, **options)
    assert not torch.equal(other.predictions[0].samples, first.predictions[0].samples)
    assert not pyro.get_param_store().keys()


def test_what_cannot_be_meant_is_refused() -> None:
    data, method = make_data(), Mean()

    class Source(ps.SequenceSource):
        num_series = 3

        def load(self, index):
            return data[index]

    model = Slope()
    with pytest.raises(ps.DataError, match="must make a new model at each call. Got Slope"):
        backtest(model, data, method, horizon=2)
    with pytest.raises(ps.DataError, match="Got the same one twice"):
        backtest(lambda: model, data, method, horizon=2)
    with pytest.raises(ps.DataError, match=r"`model_factory\(\)` must be a `SequenceModel`"):
        backtest(lambda: None, data, method, horizon=2)
    with pytest.raises(ps.UnsupportedError, match=r"in memory. Got .*data\[:1000\]"):
        backtest(Slope, Source(), method, horizon=2)
    with pytest.raises(ps.DataError, match="`horizon` must be below the 24 steps"):
        backtest(Slope, data, method, horizon=24)
    for wrong in ([10, 23], [0, 5], [9, 9], [12, 10], 30, []):
        with pytest.raises(ps.DataError, match="`cutoffs` must"):
            backtest(Slope, data, method, horizon=2, cutoffs=wrong)
    for wrong in ([9.5], "ab", 0):
        with pytest.raises(ps.DataError, match="`cutoffs` must be a whole number"):
            backtest(Slope, data, method, horizon=2, cutoffs=wrong)
    with pytest.raises(ps.DataError, match="Nothing is seen in steps 0 to 2"):
        backtest(Slope, data.hide((torch.arange(24) < 4).expand(3, -1)), method, horizon=2, cutoffs=[3])
    with pytest.raises(ps.DataError, match="`by` must be some of"):
        backtest(Slope, data, method, horizon=2, cutoffs=1, num_samples=2).table("series")
    with pytest.raises(ps.DataError, match="`period` must be None for observations of shape"):
        backtest(Slope, ps.Sequences(torch.rand(1, 9, 1, 2, 2)), method, horizon=2, period=2)
