"""Emission of grey levels: logits, and the range of values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import pyro_seq as ps
from pyro_seq.errors import DataError


def test_it_is_the_cross_entropy_but_for_a_constant_of_each_logit():
    emission = ps.ContinuousBernoulliEmission(nn.Linear(2, 3)).double()
    where, levels = torch.randn(7, 2, dtype=torch.float64), torch.rand(2, 7, 3, dtype=torch.float64)
    logits = emission.decoder(where).expand(2, 7, 3)
    entropy = -functional.binary_cross_entropy_with_logits(logits, levels, reduction="none")
    constants = emission(where).log_prob(levels) - entropy
    torch.testing.assert_close(constants[0], constants[1], rtol=1e-9, atol=1e-9)
    assert bool((constants > 0).all())  # a Bernoulli law gives grey levels less than a density does


@pytest.mark.parametrize("worst", [-0.01, 255.0])
def test_levels_lie_between_zero_and_one(worst):
    values = torch.full((1, 2, 3), 0.5)
    ps.ContinuousBernoulliEmission().check(ps.Sequences(values))
    values[0, 1, 2] = worst
    with pytest.raises(DataError, match=rf"from 0 to 1.*Got {worst:g} in series 0 at time 1, variable 2.*by 255"):
        ps.ContinuousBernoulliEmission().check(ps.Sequences(values))
