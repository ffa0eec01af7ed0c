"""Student-t in the unit of the data: SciPy's, and exact where a plain one is not."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from pyro_seq.distributions.standardised_student_t import StandardisedStudentT


def law(centre: float = 50.0, unit: float = 20.0, dtype: torch.dtype = torch.float64) -> StandardisedStudentT:
    parts = [torch.tensor(part, dtype=dtype) for part in ([3.0, 9.0], [0.4, -0.2], [0.3, 1.5], centre, unit)]
    return StandardisedStudentT(*parts)


def test_density_and_moments_are_scipys():
    values = torch.tensor([[40.0, 90.0], [58.0, -200.0]], dtype=torch.float64)
    other = scipy.stats.t(df=[3.0, 9.0], loc=[58.0, 46.0], scale=[6.0, 30.0])
    mine = law()
    torch.testing.assert_close(mine.log_prob(values), torch.as_tensor(other.logpdf(values)), rtol=1e-12, atol=0)
    torch.testing.assert_close(mine.mean, torch.as_tensor(other.mean()), rtol=1e-12, atol=0)
    torch.testing.assert_close(mine.variance, torch.as_tensor(other.var()), rtol=1e-12, atol=0)
    torch.manual_seed(0)
    drawn = mine.sample((20_000,))
    # the distance of Kolmogorov and Smirnov stays below 1.95 / sqrt(n) with probability 0.999
    for entry, (df, loc, scale) in enumerate([(3.0, 58.0, 6.0), (9.0, 46.0, 30.0)]):
        marginal = scipy.stats.t(df=df, loc=loc, scale=scale)
        assert scipy.stats.kstest(drawn[:, entry].numpy(), marginal.cdf).statistic < 1.95 / 20_000**0.5


def test_it_widens_as_others_do():
    mine = law().expand((4, 5, 2)).mask(torch.rand(5, 2) < 0.5).to_event(1)
    drawn = mine.sample()
    assert drawn.shape == (4, 5, 2) and mine.log_prob(drawn).shape == (4, 5)
    assert torch.equal(law().expand((4, 2)).log_prob(drawn[:, 0]), law().log_prob(drawn[:, 0]))


@pytest.mark.parametrize(("centre", "unit"), [(1e6, 0.1), (0.0, 1e-25), (-3e7, 4.0)])
def test_densities_in_single_precision_are_those_in_double(centre, unit):
    """Values next to the centre have exact distances from it, however far both are from zero."""
    values = (torch.tensor([0.25, -2.0]) * unit + centre).float()
    single = law(centre, unit, torch.float32).log_prob(values)
    double = law(float(torch.tensor(centre)), float(torch.tensor(unit)), torch.float64).log_prob(values.double())
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5)
