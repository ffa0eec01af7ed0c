"""Continuous Bernoulli: SciPy's cut exponential, at logits of every size."""

from __future__ import annotations

import pytest
import scipy.integrate
import scipy.stats
import torch

from pyro_seq.distributions.continuous_bernoulli import ContinuousBernoulli

LOGITS = [-300.0, -20.0, -1.0, -0.21, -0.19, -1e-9, 0.0, 0.05, 0.2, 3.0, 40.0]


@pytest.mark.parametrize("logit", LOGITS)
def test_it_is_an_exponential_law_cut_to_the_unit_interval(logit):
    mine = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64))
    other = scipy.stats.uniform() if abs(logit) < 1e-6 else scipy.stats.truncexpon(b=abs(logit), scale=1 / abs(logit))
    values = torch.linspace(0, 1, 7, dtype=torch.float64)
    mirrored = 1 - values if logit > 0 else values
    expected = torch.as_tensor(other.logpdf(mirrored.numpy()))
    torch.testing.assert_close(mine.log_prob(values), expected, rtol=1e-8, atol=1e-8)
    low, _ = scipy.integrate.quad(lambda x: x * other.pdf(x), 0, 1, points=[1 / max(abs(logit), 1)], epsabs=1e-12)
    assert float(mine.mean) == pytest.approx(1 - low if logit > 0 else low, rel=1e-8)
    square, _ = scipy.integrate.quad(lambda x: x**2 * other.pdf(x), 0, 1, points=[1 / max(abs(logit), 1)], epsabs=1e-12)
    assert float(mine.variance) == pytest.approx(square - low**2, rel=1e-7)
    torch.manual_seed(0)
    drawn = mine.sample((10_000,))
    assert bool(((drawn >= 0) & (drawn <= 1)).all())
    # the distance of Kolmogorov and Smirnov stays below 1.95 / sqrt(n) with probability 0.999
    assert scipy.stats.kstest((1 - drawn if logit > 0 else drawn).numpy(), other.cdf).statistic < 1.95 / 100


def test_single_precision_is_normalised_too():
    logits = torch.tensor(LOGITS)
    values = torch.tensor([0.0, 0.3, 1.0])[:, None]
    single, double = (ContinuousBernoulli(each).log_prob(values.to(each)) for each in (logits, logits.double()))
    torch.testing.assert_close(single.double(), double, rtol=2e-6, atol=2e-5)


def test_gradients_are_those_of_differences():
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    values = torch.full_like(logits, 0.3).detach()
    assert torch.autograd.gradcheck(lambda at: ContinuousBernoulli(at).log_prob(values), logits)
    assert torch.autograd.gradcheck(lambda at: ContinuousBernoulli(at).mean, logits)


def test_it_widens_as_others_do():
    mine = ContinuousBernoulli(torch.tensor([0.5, -2.0]))
    wide = mine.expand((4, 5, 2)).mask(torch.rand(5, 2) < 0.5).to_event(1)
    drawn = wide.sample()
    assert drawn.shape == (4, 5, 2) and wide.log_prob(drawn).shape == (4, 5)
    assert bool(ContinuousBernoulli(torch.tensor([torch.nan, 1.0])).sample()[0].isnan())
