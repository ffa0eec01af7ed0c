"""Negative binomial emission: its dispersion, and the Poisson law at its floor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError


def test_at_its_floor_it_is_poisson():
    torch.manual_seed(0)
    data = ps.Sequences(torch.poisson(torch.full((9, 4, 3), 4.0, dtype=torch.float64)))
    decoder, where = nn.Linear(2, 3).double(), torch.randn(9, 2, dtype=torch.float64)
    pair = [ps.PoissonEmission(decoder), ps.NegativeBinomialEmission(decoder, initial_dispersion=2e-6)]
    for emission in pair:
        emission.double().adapt(data)
    laws = [emission(where) for emission in pair]
    assert torch.equal(laws[0].mean, laws[1].mean)
    seen = data.values[:, 0]
    # the log probabilities differ by less than dispersion times count squared
    torch.testing.assert_close(laws[0].log_prob(seen), laws[1].log_prob(seen), rtol=0, atol=2e-6 * 144)


def test_the_dispersion_is_that_of_each_variable():
    emission = ps.NegativeBinomialEmission(initial_dispersion=0.3)
    emission.adapt(ps.Sequences(torch.ones(4, 5, 3)))
    torch.testing.assert_close(emission.dispersion, torch.full((3,), 0.3))


def test_a_dispersion_below_the_floor_and_what_is_no_count_are_refused():
    with pytest.raises(DataError, match="`initial_dispersion` must be a number above 1e-06"):
        ps.NegativeBinomialEmission(initial_dispersion=1e-6)
    with pytest.raises(DataError, match="`NegativeBinomialEmission`. Got -1 in series 0"):
        ps.NegativeBinomialEmission().check(ps.Sequences(-torch.ones(2, 3, 1)))
