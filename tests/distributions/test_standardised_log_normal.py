"""Log-normal numbers in the unit of the data: SciPy's, with finite gradients where a mask hides what has no density."""

from __future__ import annotations

import scipy.stats
import torch

from pyro_seq.distributions.standardised_log_normal import StandardisedLogNormal
from pyro_seq.distributions.standardised_normal import StandardisedNormal


def law(loc: torch.Tensor) -> StandardisedLogNormal:
    rest = [torch.tensor(part, dtype=torch.float64) for part in ([0.3, 0.7], 2.0, 0.5)]
    return StandardisedLogNormal(StandardisedNormal(loc, *rest))


LOC = torch.tensor([0.4, -1.2], dtype=torch.float64)
OTHER = scipy.stats.lognorm(s=[0.15, 0.35], scale=(2.0 + 0.5 * LOC).exp().numpy())


def test_density_and_mean_are_scipys():
    values = torch.tensor([[7.0, 5.0], [11.0, 0.01]], dtype=torch.float64)
    torch.testing.assert_close(law(LOC).log_prob(values), torch.as_tensor(OTHER.logpdf(values)), rtol=1e-12, atol=0)
    torch.testing.assert_close(law(LOC).mean, torch.as_tensor(OTHER.mean()), rtol=1e-12, atol=0)
    torch.testing.assert_close(law(LOC).variance, torch.as_tensor(OTHER.var()), rtol=1e-9, atol=0)


def test_draws_follow_scipys_distribution_function():
    torch.manual_seed(0)
    drawn = law(LOC).sample((20_000,))
    shares = torch.as_tensor(OTHER.cdf(drawn.numpy()))
    for entry in shares.T:
        # the distance of Kolmogorov and Smirnov stays below 1.95 / sqrt(n) with probability 0.999
        assert scipy.stats.kstest(entry.numpy(), "uniform").statistic < 1.95 / 20_000**0.5


def test_gradients_are_those_of_differences_and_finite_where_there_is_no_density():
    loc = LOC.clone().requires_grad_()
    values = torch.tensor([7.0, 5.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda at: law(at).log_prob(values), loc)
    hidden = law(loc).mask(torch.tensor([True, False])).log_prob(torch.tensor([7.0, 0.0], dtype=torch.float64))
    hidden.sum().backward()
    assert bool(hidden.isfinite().all()) and float(loc.grad[1]) == 0.0
    assert law(LOC).log_prob(torch.zeros(2).double()).tolist() == [-torch.inf] * 2


def test_it_widens_as_others_do():
    wide = law(LOC).expand((4, 5, 2)).mask(torch.rand(5, 2) < 0.5).to_event(1)
    drawn = wide.sample()
    assert drawn.shape == (4, 5, 2) and wide.log_prob(drawn).shape == (4, 5)
    assert torch.equal(law(LOC).expand((4, 2)).log_prob(drawn[:, 0]), law(LOC).log_prob(drawn[:, 0]))
