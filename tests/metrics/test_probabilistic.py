"""Sample scores against Gaussian closed forms, brute force and each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pyro.ops.stats import energy_score_empirical
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.metrics import coverage, crps, energy_score, probabilistic

NORMAL = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian_crps(truth: Tensor, loc: float, scale: float) -> Tensor:
    """Closed form of Gneiting and Raftery (2007), equation 21."""
    z = (truth - loc) / scale
    return scale * (z * (2 * NORMAL.cdf(z) - 1) + 2 * NORMAL.log_prob(z).exp() - 1 / math.sqrt(math.pi))


def test_crps_of_a_gaussian() -> None:
    truth = torch.tensor([-3.0, 0.0, 0.5, 2.0], dtype=torch.float64).reshape(1, 4, 1)
    num_batches, num_samples = 200, 50
    samples = 1.0 + 2.0 * draws(num_samples, num_batches, 4, 1)
    scores = crps(samples, truth.expand(num_batches, 4, 1), keep=(0, 1), is_fair=True)
    expected = gaussian_crps(truth, 1.0, 2.0).reshape(4)
    error = scores.std(0) / math.sqrt(num_batches)
    assert ((scores.mean(0) - expected).abs() < 4 * error).all()


def test_empirical_scores_exceed_fair_ones_by_the_known_bias() -> None:
    """The mean distance of two standard normal draws is 2 / sqrt(pi)."""
    num_samples, num_series = 10, 20_000
    samples, truth = draws(num_samples, num_series, 1, 1), draws(num_series, 1, 1, seed=1)
    for score in (crps, lambda *args, **keys: energy_score(*args, 1, **keys)):
        excess = score(samples, truth, keep=0) - score(samples, truth, keep=0, is_fair=True)
        expected = 1 / (num_samples * math.sqrt(math.pi))
        assert abs(excess.mean().item() - expected) < 4 * excess.std().item() / math.sqrt(num_series)


@pytest.mark.parametrize("event_dims", [0, 1, 2, 3])
@pytest.mark.parametrize("is_fair", [False, True])
def test_energy_score_by_brute_force(event_dims: int, is_fair: bool) -> None:
    samples, truth = draws(6, 2, 3, 4), draws(2, 3, 4, seed=1)
    axes = tuple(range(-event_dims, 0))

    def norm(x: Tensor) -> Tensor:
        return x.square().sum(axes).sqrt() if axes else x.abs()

    pairs = 6 * 5 if is_fair else 6 * 6
    spread = norm(samples[:, None] - samples[None]).sum((0, 1)) / pairs
    expected = norm(samples - truth).mean(0) - 0.5 * spread
    keep = tuple(range(3 - event_dims))
    torch.testing.assert_close(energy_score(samples, truth, event_dims, keep=keep, is_fair=is_fair), expected)
    torch.testing.assert_close(energy_score(samples, truth, event_dims, is_fair=is_fair), expected.mean())


def test_energy_score_against_pyro() -> None:
    samples, truth = draws(30, 2, 3, 4), draws(2, 3, 4, seed=1)
    expected = energy_score_empirical(samples.movedim(0, -2), truth)
    torch.testing.assert_close(energy_score(samples, truth, 1, keep=(0, 1)), expected)


def test_energy_score_of_scalars_is_the_crps() -> None:
    samples, truth = draws(40, 2, 3, 1), draws(2, 3, 1, seed=1)
    for is_fair in (False, True):
        expected = crps(samples, truth, keep=(0, 1), is_fair=is_fair)
        torch.testing.assert_close(energy_score(samples, truth, 1, keep=(0, 1), is_fair=is_fair), expected)


def test_energy_score_does_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, truth = draws(33, 2, 3, 4), draws(2, 3, 4, seed=1)
    whole = energy_score(samples, truth, 1)
    monkeypatch.setattr(probabilistic, "_MAX_DISTANCES", 500)
    torch.testing.assert_close(energy_score(samples, truth, 1), whole)


def test_energy_score_far_from_zero_in_single_precision() -> None:
    samples, truth = draws(60, 2, 3, 4), draws(2, 3, 4, seed=1)
    expected = energy_score(samples, truth, 1)
    offset = 1024.0
    shifted = energy_score((samples + offset).float(), (truth + offset).float(), 1)
    # The shift itself rounds each coordinate by half a unit of 1024.
    assert abs(shifted.item() - expected.item()) < offset * torch.finfo(torch.float32).eps


def test_single_sample_is_the_distance() -> None:
    samples, truth = draws(1, 2, 3, 4), draws(2, 3, 4, seed=1)
    torch.testing.assert_close(crps(samples, truth), (samples[0] - truth).abs().mean())
    torch.testing.assert_close(energy_score(samples, truth, 1), (samples[0] - truth).norm(dim=-1).mean())


def test_masks() -> None:
    samples, truth = draws(20, 3, 4, 2), draws(3, 4, 2, seed=1)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    spoilt = torch.where(mask[..., None], samples, torch.nan)
    for score in (crps, lambda *args, **keys: energy_score(*args, 1, **keys), lambda *a, **k: coverage(*a, 0.5, **k)):
        torch.testing.assert_close(score(spoilt, truth, mask=mask), score(samples[:, mask], truth[mask]))
        kept = score(spoilt, truth, mask=mask, keep=0)
        assert kept.isnan().tolist() == [False, True, False]
        torch.testing.assert_close(kept[2], score(samples[:, 2, ::2], truth[2, ::2]))


def test_energy_score_of_partly_seen_events_is_that_of_the_seen_part() -> None:
    samples, truth = draws(20, 3, 4, 5), draws(3, 4, 5, seed=1)
    mask = torch.ones(3, 4, 5, dtype=torch.bool)
    mask[..., [1, 3]] = False
    expected = energy_score(samples[..., [0, 2, 4]], truth[..., [0, 2, 4]], 1)
    torch.testing.assert_close(energy_score(samples, truth, 1, mask=mask), expected)


@pytest.mark.parametrize("num_samples", [1, 2, 7, 100])
@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.99])
def test_coverage_is_exact_for_every_number_of_samples(num_samples: int, level: float) -> None:
    """One truth at every possible rank: the mean over ranks is the expectation."""
    samples = torch.arange(num_samples, dtype=torch.float64)[:, None].expand(-1, num_samples + 1)
    truth = torch.arange(num_samples + 1, dtype=torch.float64) - 0.5
    torch.testing.assert_close(coverage(samples, truth, level), torch.tensor(level, dtype=torch.float64))


def test_coverage_of_random_draws() -> None:
    num_series, level = 20_000, 0.9
    covered = coverage(draws(8, num_series, 1), draws(num_series, 1, seed=1), level, keep=0)
    assert abs(covered.mean().item() - level) < 4 * covered.std().item() / math.sqrt(num_series)


def test_coverage_tells_narrow_and_wide_from_right() -> None:
    samples, truth = draws(99, 4_000, 1), draws(4_000, 1, seed=1)
    edge = NORMAL.icdf(torch.tensor(0.95, dtype=torch.float64))
    for scale in (0.5, 2.0):
        expected = (2 * NORMAL.cdf(scale * edge) - 1).item()
        got = coverage(scale * samples, truth, 0.9).item()
        # Binomial error of the truths; that of 99 samples' quantiles averages out over the series, up to curvature.
        assert abs(got - expected) < 4 * math.sqrt(expected * (1 - expected) / 4_000) + 0.01


def test_crps_of_counts_with_ties_is_the_sum_over_thresholds() -> None:
    """The ranked probability score: squares between the share of draws up to each count and whether the truth is."""
    generator = torch.Generator().manual_seed(0)
    samples = torch.poisson(torch.full((30, 4, 5, 2), 1.5, dtype=torch.float64), generator=generator)
    truth = torch.poisson(torch.full((4, 5, 2), 1.5, dtype=torch.float64), generator=generator)
    levels = range(int(samples.max()) + int(truth.max()) + 1)
    expected = sum(((samples <= k).double().mean(0) - (truth <= k).double()).square() for k in levels)
    torch.testing.assert_close(crps(samples, truth, keep=(0, 1, 2)), expected, rtol=1e-12, atol=1e-12)


def test_coverage_by_hand_with_ties() -> None:
    samples = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64).reshape(4, 1)
    # The truth 2 ties with two samples: probabilities 1/5 to 4/5, of which [0.25, 0.75] are inside.
    assert coverage(samples, torch.tensor([2.0], dtype=torch.float64), 0.5).item() == pytest.approx(0.5 / 0.6)
    assert coverage(samples, torch.tensor([9.0], dtype=torch.float64), 0.5).item() == 0.0


def test_discrete_truths_are_covered_in_expectation() -> None:
    rng = np.random.default_rng(0)
    samples, truth = rng.poisson(1.0, (9, 20_000, 1)), rng.poisson(1.0, (20_000, 1))
    covered = coverage(torch.as_tensor(samples).double(), torch.as_tensor(truth).double(), 0.8, keep=0)
    assert abs(covered.mean().item() - 0.8) < 4 * covered.std().item() / math.sqrt(20_000)


def test_wrong_arguments() -> None:
    samples, truth = draws(5, 2, 3, 1), draws(2, 3, 1)
    with pytest.raises(ShapeError, match="sample axis"):
        crps(truth, truth)
    with pytest.raises(ShapeError, match="sample axis"):
        crps(samples[:0], truth)
    with pytest.raises(ShapeError, match="samples"):
        coverage(samples[:, :, :1], truth, 0.5)
    with pytest.raises(ShapeError, match="event_dims"):
        energy_score(samples, truth, 4)
    with pytest.raises(ShapeError, match="two or more"):
        crps(samples[:1], truth, is_fair=True)
    for level in (0.0, 1.0, 90.0):
        with pytest.raises(DataError, match="level"):
            coverage(samples, truth, level)
    with pytest.raises(DataError, match="NaN"):
        coverage(samples, truth * torch.nan, 0.5)
