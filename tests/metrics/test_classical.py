"""Classical forecasts against statsmodels, loops over seen entries, and simulated random walks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from statsmodels.tsa.holtwinters import SimpleExpSmoothing

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.metrics import NormalForecast, drift, exponential_smoothing, seasonal_naive

NAN = math.nan
HORIZON = 7


def walk(num_series: int = 3, num_steps: int = 40, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_series, num_steps, 2, generator=generator, dtype=torch.float64).cumsum(1)


def gaps(seed: int = 1) -> Sequences:
    """Walks at uneven times with hidden entries, series of two lengths among them."""
    generator = torch.Generator().manual_seed(seed)
    values = walk()
    seen = torch.rand(values.shape, generator=generator) < 0.6
    seen[1, 25:] = False
    times = (0.1 + torch.rand(3, 40, generator=generator, dtype=torch.float64)).cumsum(1) + 1e6
    return Sequences(values, mask=seen, times=times).extend(horizon=HORIZON)


def test_without_gaps_intervals_are_those_of_the_textbook() -> None:
    """Hyndman and Athanasopoulos, table 5.2, in their words: T, K parameters, M missing residuals."""
    values, period, h = walk(), 4, np.arange(1, HORIZON + 1)
    given = Sequences(values, times=3.0 * torch.arange(40)).extend(horizon=HORIZON)
    for series, entry in [(0, 0), (2, 1)]:
        x = values[series, :, entry].numpy()
        naive, seasonal, sloped = (
            (found.mean[series, :, entry].numpy(), found.scale[series, :, entry].numpy())
            for found in (seasonal_naive(given), seasonal_naive(given, period), drift(given))
        )
        np.testing.assert_allclose(naive[0], np.full(HORIZON, x[-1]))
        np.testing.assert_allclose(naive[1], np.sqrt(np.mean(np.diff(x) ** 2) * h))
        np.testing.assert_allclose(seasonal[0], [x[40 - period + (k - 1) % period] for k in h])
        residuals = x[period:] - x[:-period]
        np.testing.assert_allclose(seasonal[1], np.sqrt(np.mean(residuals**2) * ((h - 1) // period + 1)))
        slope = (x[-1] - x[0]) / 39
        np.testing.assert_allclose(sloped[0], x[-1] + slope * h)
        variance = np.sum((np.diff(x) - slope) ** 2) / (40 - 1 - 1)
        np.testing.assert_allclose(sloped[1], np.sqrt(variance * h * (1 + h / 39)), rtol=1e-10)


def test_hidden_entries_are_left_out() -> None:
    """Against loops over the seen entries of each series, at uneven times and with ends that differ."""
    given = gaps()
    naive, sloped = seasonal_naive(given), drift(given)
    for series in range(3):
        for entry in range(2):
            known = given.entry_mask[series, :, entry].numpy()
            t, x = given.times[series, :40][known].numpy(), given.values[series, :, entry][known].numpy()
            ahead = given.times[series, 40:].numpy() - t[-1]
            moves, elapsed = np.diff(x), np.diff(t)
            np.testing.assert_allclose(naive.mean[series, :, entry], x[-1])
            rate = np.mean(moves**2 / elapsed)
            np.testing.assert_allclose(naive.scale[series, :, entry], np.sqrt(rate * ahead))
            slope = (x[-1] - x[0]) / (t[-1] - t[0])
            np.testing.assert_allclose(sloped.mean[series, :, entry], x[-1] + slope * ahead)
            rate = np.sum((moves - slope * elapsed) ** 2 / elapsed) / (len(moves) - 1)
            scale = np.sqrt(rate * ahead * (1 + ahead / (t[-1] - t[0])))
            np.testing.assert_allclose(sloped.scale[series, :, entry], scale)


def test_a_season_is_copied_from_the_last_one_that_shows_it() -> None:
    given = Sequences(torch.tensor([[1.0, 2, 3, 5, 7, NAN, NAN, 11]])[..., None]).extend(horizon=4)
    found = seasonal_naive(given, 3)
    assert found.mean.flatten().tolist() == [3.0, 5.0, 11.0, 3.0]  # steps 5 and 6 are hidden
    rate = ((5 - 1) ** 2 / 3 + (7 - 2) ** 2 / 3 + (11 - 7) ** 2 / 3) / 3
    expected = [math.sqrt(rate * elapsed) for elapsed in (8 - 2, 9 - 3, 10 - 7, 11 - 2)]
    torch.testing.assert_close(found.scale.flatten(), torch.tensor(expected))


def test_smoothing_is_that_of_statsmodels() -> None:
    """The best of all constants, to the hundredth that ours are rounded to, and the same level for the same one."""
    values = walk(seed=3) + 2 * torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    found = exponential_smoothing(Sequences(values).extend(horizon=HORIZON))
    for series in range(3):
        for entry in range(2):
            x = values[series, :, entry].numpy()
            model = SimpleExpSmoothing(x, initialization_method="known", initial_level=x[0])
            best = model.fit(optimized=True)
            alpha = round(best.params["smoothing_level"], 2)
            near = [model.fit(smoothing_level=a, optimized=False) for a in (alpha - 0.01, alpha, alpha + 0.01)]
            chosen = min(near, key=lambda fit: fit.sse)
            np.testing.assert_allclose(found.mean[series, :, entry], chosen.forecast(HORIZON), rtol=1e-9)
            h = np.arange(1, HORIZON + 1)
            level = chosen.params["smoothing_level"]
            scale = np.sqrt(chosen.sse / 38 * (1 + (h - 1) * level**2))
            np.testing.assert_allclose(found.scale[series, :, entry], scale, rtol=1e-9)
            assert 0.02 < alpha < 0.98


def test_smoothing_passes_over_hidden_entries() -> None:
    """The level is that of the seen entries alone; a gap at the end makes the horizon longer."""
    values, seen = walk(seed=5), torch.rand(3, 40, 2, generator=torch.Generator().manual_seed(6)) < 0.7
    seen[:, 36:] = False
    seen[:, 35] = True
    found = exponential_smoothing(Sequences(values, mask=seen).extend(horizon=HORIZON))
    for series, entry in [(0, 1), (1, 0), (2, 1)]:
        alone = values[series, :, entry][seen[series, :, entry]]
        other = exponential_smoothing(Sequences(alone[None, :, None]).extend(horizon=HORIZON + 4))
        torch.testing.assert_close(found.mean[series, :, entry], other.mean[0, 4:, 0])
        torch.testing.assert_close(found.scale[series, :, entry], other.scale[0, 4:, 0])


@pytest.mark.parametrize("predict", [seasonal_naive, drift])
def test_intervals_hold_what_they_say_of_random_walks(predict) -> None:
    """4000 walks with gaps and a drift: the share inside 90 % intervals, up to four standard errors."""
    generator = torch.Generator().manual_seed(7)
    slope = 0.3 if predict is drift else 0.0
    values = (slope + torch.randn(4000, 300, 1, generator=generator)).cumsum(1)
    given = Sequences(values[:, :290], mask=torch.rand(4000, 290, generator=generator) < 0.5).extend(horizon=10)
    inside = predict(given).covers(values[:, 290:], 0.9)[:, [0, 4, 9]].mean((0, 2))
    # some 145 seen entries estimate the spread: what their number takes from 90 % is 0.3 %
    assert float((inside - 0.9).abs().max()) < 0.003 + 4 * math.sqrt(0.09 / 4000)


def test_too_little_seen_gives_no_forecast_or_no_interval() -> None:
    rows = [[NAN, NAN, NAN], [NAN, 4.0, NAN], [1.0, NAN, 3.0], [1.0, 3.0, 2.0]]
    given = Sequences(torch.tensor(rows)[..., None]).extend(horizon=2)
    for predict, need in ((seasonal_naive, 1), (drift, 2), (exponential_smoothing, 1)):
        found = predict(given)
        assert found.mean[:, 0, 0].isfinite().tolist() == [seen >= need for seen in (0, 1, 2, 3)]
        spread_from = 2 if predict is seasonal_naive else 3
        assert found.scale[:, 0, 0].isfinite().tolist() == [seen >= spread_from for seen in (0, 1, 2, 3)]
    assert seasonal_naive(given, 2).mean.isnan()[..., 0].tolist() == [
        [True] * 2,
        [False, True],
        [True, False],
        [False] * 2,
    ]
    assert exponential_smoothing(given).mean[2].tolist() == [[3.0], [3.0]]  # all constants fit alike: the naive one


@pytest.mark.parametrize("predict", [seasonal_naive, drift, exponential_smoothing])
def test_what_cannot_be_forecast_is_refused(predict) -> None:
    with pytest.raises(DataError, match="seen steps and a horizon"):
        predict(Sequences(torch.zeros(1, 3, 1)))
    with pytest.raises(DataError, match="seen steps and a horizon"):
        predict(Sequences(torch.zeros(1, 0, 1)).extend(horizon=2))
    with pytest.raises(DataError, match="period"):
        seasonal_naive(Sequences(torch.zeros(1, 3, 1)).extend(horizon=2), 0)


def test_scores_of_a_normal_distribution() -> None:
    """Its ranked probability score by quadrature, and the ends of its interval by scipy."""
    mean, scale, truth = 1.0, 2.0, 3.5
    found = NormalForecast(*torch.tensor([[mean], [scale]], dtype=torch.float64))
    integrand = lambda x: (norm.cdf(x, mean, scale) - (x >= truth)) ** 2  # noqa: E731
    expected = quad(integrand, -30, truth)[0] + quad(integrand, truth, 30)[0]
    assert float(found.crps(torch.tensor([truth]))) == pytest.approx(expected, rel=1e-8)
    low, high = norm.interval(0.5, mean, scale)
    inside = [float(found.covers(torch.tensor([x]), 0.5)) for x in (low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6)]
    assert inside == [0.0, 1.0, 1.0, 0.0]
    point = NormalForecast(torch.tensor([1.0, 1.0, NAN]), torch.tensor([NAN, 0.0, NAN]))
    assert point.crps(torch.tensor([4.0, 4.0, 4.0])).tolist()[:2] == [3.0, 3.0]
    covered = point.covers(torch.tensor([1.0, 1.0, 1.0]), 0.9)
    assert covered.isnan().tolist() == [True, False, True] and float(covered[1]) == 1.0
