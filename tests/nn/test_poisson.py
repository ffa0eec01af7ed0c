"""Counts of simulated cases: what Poisson says of them, beside what a normal distribution says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError


def test_rates_are_those_of_training_times_what_the_decoder_says():
    emission = ps.PoissonEmission(nn.Linear(2, 3)).double()
    values = torch.poisson(torch.full((50, 20, 3), 4.0, dtype=torch.float64))
    emission.adapt(ps.Sequences(values))
    where = torch.randn(7, 2, dtype=torch.float64)
    mean, deviation = values.mean((0, 1)), values.std((0, 1), correction=0)
    expected = mean * (deviation / mean * emission.decoder(where)).exp()
    torch.testing.assert_close(emission(where).mean, expected, rtol=1e-6, atol=0)


def test_what_is_no_count_is_refused_at_the_door():
    data = ps.Sequences(torch.full((3, 5, 2), 0.5))
    model = ps.RecurrentVAE((2,), emission=ps.PoissonEmission())
    with pytest.raises(DataError, match=r"`PoissonEmission`. Got 0.5 in series 0 at time 0, variable 0"):
        ps.fit(model, data, ps.SVI(num_steps=1))
