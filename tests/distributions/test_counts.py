"""Counts: SciPy's probabilities, draws by the test of chi squared, and rates from which nothing can be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from pyro_seq.distributions.counts import NegativeBinomialCounts, PoissonCounts

RATES = torch.tensor([0.3, 4.0, 900.0], dtype=torch.float64)
ALPHA = torch.tensor([2.0, 0.1, 1e-3], dtype=torch.float64)
LAWS = {
    "Poisson": (PoissonCounts(RATES.log()), scipy.stats.poisson(RATES.numpy())),
    "negative binomial": (
        NegativeBinomialCounts(RATES.log(), ALPHA),
        scipy.stats.nbinom(1 / ALPHA.numpy(), 1 / (1 + ALPHA * RATES).numpy()),
    ),
}
EACH = pytest.mark.parametrize("name", list(LAWS))


@EACH
def test_probabilities_and_mean_are_scipys(name):
    mine, other = LAWS[name]
    counts = torch.tensor([[0.0, 3.0, 880.0], [5.0, 0.0, 1100.0]], dtype=torch.float64)
    torch.testing.assert_close(mine.log_prob(counts), torch.as_tensor(other.logpmf(counts)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mine.mean, torch.as_tensor(other.mean()), rtol=1e-12, atol=0)
    torch.testing.assert_close(mine.variance, torch.as_tensor(other.var()), rtol=1e-9, atol=0)


@EACH
def test_draws_are_counts_of_scipys_law(name):
    mine, other = LAWS[name]
    torch.manual_seed(0)
    drawn = mine.sample((20_000,)).numpy()
    assert (drawn == drawn.round()).all() and (drawn >= 0).all()
    for entry in range(3):
        ends = np.unique(other.ppf(np.linspace(0.1, 0.9, 5)[:, None])[:, entry])
        shares = np.diff(np.concatenate([[0.0], [other.cdf(end)[entry] for end in ends], [1.0]]))
        cells = np.bincount(np.searchsorted(ends, drawn[:, entry]), minlength=len(shares))
        assert scipy.stats.chisquare(cells, 20_000 * shares).pvalue > 1e-4


def test_gradients_are_those_of_differences():
    counts = torch.tensor([0.0, 3.0, 880.0], dtype=torch.float64)
    log_rate, alpha = RATES.log().requires_grad_(), ALPHA.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda at: PoissonCounts(at).log_prob(counts), log_rate)
    assert torch.autograd.gradcheck(lambda at, by: NegativeBinomialCounts(at, by).log_prob(counts), (log_rate, alpha))


@EACH
def test_single_precision_keeps_the_probabilities_of_large_counts(name):
    """At the same rates they are those in double precision, up to the rounding of the result."""
    log_rate = torch.tensor([1e5, 1e6, 1e7]).double().log().float()
    counts = (log_rate.double().exp() + 1000).round()
    kinds = {"Poisson": PoissonCounts, "negative binomial": lambda at: NegativeBinomialCounts(at, torch.tensor(1e-5))}
    single, double = (kinds[name](at).log_prob(counts.to(at)) for at in (log_rate, log_rate.double()))
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=1e-6)


@EACH
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 50.0])
def test_rates_from_which_nothing_can_be_drawn_give_no_number_and_leave_the_others(name, bad):
    log_rate = torch.tensor([0.0, bad, 1.0])
    drawn = (PoissonCounts(log_rate) if name == "Poisson" else NegativeBinomialCounts(log_rate, ALPHA.float())).sample()
    assert drawn.isfinite().tolist() == [True, False, True]


@EACH
def test_they_widen_as_others_do(name):
    mine, _ = LAWS[name]
    wide = mine.expand((4, 5, 3)).mask(torch.rand(5, 3) < 0.5).to_event(1)
    drawn = wide.sample()
    assert drawn.shape == (4, 5, 3) and wide.log_prob(drawn).shape == (4, 5)
    assert torch.equal(mine.expand((4, 3)).log_prob(drawn[:, 0]), mine.log_prob(drawn[:, 0]))
