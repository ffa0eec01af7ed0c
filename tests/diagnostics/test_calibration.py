"""Calibration: uniform where draws and truth share a distribution, and seen to fail where they do not."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.diagnostics import (
    calibration_curve,
    guide_ranks,
    probability_integral_transform,
    rank_statistics,
    rank_uniformity,
    uniformity,
)
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.posterior import GuidePosterior
from tests.toy import exact_posterior, make_data, make_lines


def pairs(spread=1.0, bias=0.0, num_samples=19, shape=(400, 5)):
    generator = torch.Generator().manual_seed(0)
    samples = bias + spread * torch.randn(num_samples, *shape, generator=generator)
    return samples, torch.randn(shape, generator=generator)


def test_calibrated_samples_lie_on_the_diagonal():
    curve = calibration_curve(*pairs())
    assert curve.levels.shape == (19,)
    errors = (curve.coverage - curve.levels) / curve.standard_error
    assert errors.abs().max() < 4.0
    whole = curve.levels.mul(10).frac() < 0.01  # levels whose ends fall between ranks, where an entry counts 0 or 1
    binomial = (curve.levels * (1 - curve.levels) / 2000).sqrt()
    assert (curve.standard_error / binomial)[whole].sub(1).abs().max() < 0.2  # 400 series: 4 % standard error


def test_overconfident_samples_cover_too_little():
    narrow, wide = calibration_curve(*pairs(spread=0.5)), calibration_curve(*pairs(spread=2.0))
    assert (narrow.coverage < narrow.levels - 4 * narrow.standard_error)[2:].all()
    assert (wide.coverage > wide.levels + 4 * wide.standard_error)[2:-1].all()


def test_standard_error_takes_series_as_units():
    samples, truth = pairs(shape=(400, 1))
    copied = calibration_curve(samples.expand(-1, -1, 7), truth.expand(-1, 7))
    once = calibration_curve(samples, truth)
    torch.testing.assert_close(copied.coverage, once.coverage)
    torch.testing.assert_close(copied.standard_error, once.standard_error)


def test_hidden_entries_do_not_count():
    samples, truth = pairs(shape=(50, 4))
    mask = torch.rand(truth.shape) < 0.6
    mask[3] = False
    spoilt = torch.where(mask, truth, torch.nan)
    kept = [i for i in range(50) if i != 3]
    curve, other = (
        calibration_curve(samples, spoilt, mask=mask),
        calibration_curve(samples[:, kept], truth[kept], mask=mask[kept]),
    )
    torch.testing.assert_close(curve.coverage, other.coverage)
    torch.testing.assert_close(curve.standard_error, other.standard_error)
    assert probability_integral_transform(samples, spoilt, mask=mask).shape == (int(mask.sum()),)
    assert calibration_curve(samples[:, :1], truth[:1]).standard_error.isnan().all()


@pytest.mark.parametrize("num_samples", [1, 19, 200])
def test_pit_of_calibrated_samples_is_uniform(num_samples):
    values = probability_integral_transform(*pairs(num_samples=num_samples))
    assert values.min() > 0 and values.max() < 1 and uniformity(values).p_value > 1e-3


@pytest.mark.parametrize("wrong", [{"spread": 0.7}, {"spread": 1.4}, {"bias": 0.3}])
def test_pit_finds_fault(wrong):
    assert uniformity(probability_integral_transform(*pairs(**wrong))).p_value < 1e-6
    samples, truth = pairs(**wrong)
    assert rank_uniformity(rank_statistics(samples, truth), 19).p_value < 1e-6


def test_ties_share_their_ranks():
    counts = torch.poisson(torch.full((20, 4000), 1.0), generator=torch.Generator().manual_seed(0))
    ranks = rank_statistics(counts[1:], counts[0])
    assert ranks.min() == 0 and ranks.max() == 19 and rank_uniformity(ranks, 19).p_value > 1e-3
    assert uniformity(probability_integral_transform(counts[1:], counts[0])).p_value > 1e-3


def test_ranks_by_counting():
    samples, truth = pairs(num_samples=7, shape=(30, 2))
    expected = [
        [sum(float(s) < float(t) for s in samples[:, i, j]) for j, t in enumerate(row)] for i, row in enumerate(truth)
    ]
    assert rank_statistics(samples, truth).tolist() == expected


def test_chi_square_by_hand():
    ranks = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    result = rank_uniformity(ranks, 2, num_bins=3)
    assert result.statistic == pytest.approx((10**2 + 10**2) / 20)
    uneven = rank_uniformity(torch.arange(5).repeat(12), 4, num_bins=2)  # bins of three and of two ranks
    assert uneven.statistic == 0 and uneven.p_value == 1


class ExactGuide(GuidePosterior):
    """The exact posterior of everything, narrowed if wanted; the one draw to simulate from has the drift's prior."""

    narrowing = 1.0

    def draws(self, data, num_samples, *, seed=0):
        mean, cov = exact_posterior(self.model, data)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(num_samples, len(mean), generator=generator, dtype=mean.dtype)
        values = (mean + self.narrowing * noise @ torch.linalg.cholesky(cov).T).float()
        drift = torch.randn(1, 1, generator=generator) if num_samples == 1 else values[:, :1]
        return {"drift": drift[:, None], "line": values[:, 1:].unflatten(1, (-1, 2))}


def test_guide_ranks_of_the_exact_posterior_are_uniform():
    # one series at a time keeps replicates independent: they would share the drift
    model, ranks, narrow = make_lines(), [], []
    for seed in range(150):
        exact, tight = ExactGuide(model), ExactGuide(model)
        tight.narrowing = 0.5
        ranks.append(guide_ranks(exact, make_data(1, seed=seed), "line", num_samples=99, seed=seed)[0])
        narrow.append(guide_ranks(tight, make_data(1, seed=seed), "line", num_samples=99, seed=seed)[0])
    ranks, narrow = torch.stack(ranks), torch.stack(narrow)
    for coefficient in range(2):
        assert rank_uniformity(ranks[:, coefficient], 99, num_bins=10).p_value > 1e-3
        assert rank_uniformity(narrow[:, coefficient], 99, num_bins=10).p_value < 1e-3


def test_guide_ranks_refuse_global_sites(make_posterior):
    for site in ("weights", "speed"):
        with pytest.raises(DataError, match="single series"):
            guide_ranks(make_posterior(), Sequences(torch.rand(4, 6, 3)), site)


def test_wrong_arguments():
    samples, truth = pairs(shape=(10, 2))
    with pytest.raises(ShapeError, match="sample axis"):
        rank_statistics(samples, truth[:3])
    with pytest.raises(DataError, match="NaN"):
        rank_statistics(samples * torch.nan, truth)
    with pytest.raises(DataError, match="NaN"):
        probability_integral_transform(samples, truth * torch.nan)
    with pytest.raises(DataError, match="level"):
        calibration_curve(samples, truth, [90.0])
    with pytest.raises(DataError, match="at least one"):
        calibration_curve(samples, truth, [])
    with pytest.raises(DataError, match="something to score"):
        calibration_curve(samples, truth, mask=torch.zeros(10, 2, dtype=torch.bool))
    with pytest.raises(DataError, match="0 to `num_samples`|between 0"):
        rank_uniformity(torch.full((200,), 30), 19)
    with pytest.raises(DataError, match="Lower `num_bins`"):
        rank_uniformity(torch.arange(19), 19)
