"""Normal distributions in the unit of the data: the same as plain ones, and exact where those are not."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_seq.distributions.standardised_normal import StandardisedNormal

CENTRE, UNIT = torch.tensor([50.0, -3.0], dtype=torch.float64), torch.tensor([20.0, 0.5], dtype=torch.float64)


def standard(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 2, generator=generator, dtype=dtype), torch.tensor([0.3, 1.5], dtype=dtype)


def test_it_is_the_plain_normal():
    loc, scale = standard()
    mine, plain = StandardisedNormal(loc, scale, CENTRE, UNIT), dist.Normal(CENTRE + UNIT * loc, UNIT * scale)
    torch.manual_seed(0)
    drawn = mine.sample((3,))
    torch.manual_seed(0)
    assert torch.equal(drawn, plain.sample((3,)))
    torch.testing.assert_close(mine.log_prob(drawn), plain.log_prob(drawn), rtol=1e-12, atol=1e-12)
    assert torch.equal(mine.mean, plain.mean) and torch.equal(mine.variance, plain.variance)


def test_it_widens_as_the_plain_one_does():
    loc, scale = standard()
    mine = StandardisedNormal(loc, scale, CENTRE, UNIT).expand((4, 5, 2)).mask(torch.rand(5, 2) < 0.5).to_event(1)
    drawn = mine.sample()
    assert drawn.shape == (4, 5, 2) and mine.log_prob(drawn).shape == (4, 5)
    each = StandardisedNormal(loc, scale, CENTRE, UNIT)
    torch.testing.assert_close(each.expand((4, 5, 2)).log_prob(drawn), each.log_prob(drawn), rtol=0, atol=0)


@pytest.mark.parametrize(("centre", "unit"), [(1e6, 0.1), (0.0, 1e-25), (0.0, 1e25), (-3e7, 4.0)])
def test_densities_in_single_precision_are_those_in_double(centre, unit):
    """The exact density of the very numbers, which a plain normal gets wrong here, or as infinite."""
    loc, scale = standard(torch.float32)
    centre, unit = torch.tensor(centre), torch.tensor(unit)
    mine = StandardisedNormal(loc, 0.05 * scale, centre, unit)
    seen = mine.sample()
    residual = (seen.double() - centre.double()) / unit.double() - loc.double()
    expected = dist.Normal(0, 0.05 * scale.double()).log_prob(residual) - unit.double().log()
    torch.testing.assert_close(mine.log_prob(seen).double(), expected, rtol=1e-4, atol=1e-4)
    plain = dist.Normal(centre + unit * loc, unit * 0.05 * scale, validate_args=False).log_prob(seen).double()
    assert not (plain - expected).abs().max() < 0.1


def test_values_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="within the support"):
        StandardisedNormal(*standard(), CENTRE, UNIT).log_prob(torch.full((5, 2), torch.nan))
