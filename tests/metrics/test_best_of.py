"""The best of many samples: chunks against all at once, intervals against their formula."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import BestOf, mean_interval


def scores(num_samples: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_samples, 5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("is_larger_better", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 5, 12])
def test_chunks_give_what_all_samples_give(is_larger_better: bool, chunk_size: int) -> None:
    samples = scores()
    samples[:, 3, 4:] = torch.nan  # a series that ends early
    best_of = BestOf(is_larger_better=is_larger_better)
    for chunk in samples.split(chunk_size):
        best_of.add(chunk)
    result = best_of.result()
    assert result.num_samples == 12
    for series in range(5):
        means = [float(sample[~sample.isnan()].mean()) for sample in samples[:, series]]
        ranked = sorted(range(12), key=means.__getitem__, reverse=is_larger_better)
        assert (result.best_sample[series], result.worst_sample[series]) == (ranked[0], ranked[-1])
        torch.testing.assert_close(result.best[series], samples[ranked[0], series], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(result.worst[series], samples[ranked[-1], series], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(result.mean, samples.mean(0), equal_nan=True)


def test_a_series_without_scores_stays_nan_and_does_not_count() -> None:
    samples = scores()
    samples[:, 2] = torch.nan
    best_of = BestOf(is_larger_better=True)
    for chunk in samples.split(5):
        best_of.add(chunk)
    result = best_of.result()
    assert bool(result.best[2].isnan().all())
    kept = result.best[[0, 1, 3, 4]]
    for interval, values in ((result.interval(), kept.mean(1)), (result.curve(), kept)):
        torch.testing.assert_close(interval.mean, values.mean(0))
        torch.testing.assert_close(interval.half_width, 1.96 * values.std(0) / 2)
    assert result.interval("worst").mean < result.interval("mean").mean < result.interval().mean


def test_the_first_of_equal_samples_is_taken() -> None:
    best_of = BestOf(is_larger_better=True)
    for _ in range(3):
        best_of.add(torch.zeros(2, 1, 1))
    assert best_of.result().best_sample.tolist() == best_of.result().worst_sample.tolist() == [0]


def test_the_interval_covers_the_mean() -> None:
    """Of 2000 samples of 50 normal numbers about 94.4 % cover: the quantile is that of a normal, not of a t."""
    values = torch.randn(50, 2_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean, half_width = mean_interval(values)
    share = float((mean.abs() < half_width).double().mean())
    assert abs(share - 0.944) < 4 * (0.944 * 0.056 / 2_000) ** 0.5


def test_a_single_series_has_no_interval() -> None:
    mean, half_width = mean_interval(torch.tensor([3.0]))
    assert mean == 3.0 and half_width.isnan()


def test_wrong_use() -> None:
    best_of = BestOf(is_larger_better=True)
    with pytest.raises(DataError, match="needs samples"):
        best_of.result()
    best_of.add(torch.zeros(2, 3, 4))
    for shape in ((2, 3), (0, 3, 4), (2, 3, 5)):
        with pytest.raises(ShapeError, match="alike in all chunks"):
            best_of.add(torch.zeros(shape))
