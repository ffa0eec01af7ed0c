"""What a `VariogramEncoder` reads: mean squares of differences, of what is observed, whatever the level."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError
from pyro_seq.nn.variogram import VariogramEncoder, _variations


def test_mean_squares_are_those_of_loops():
    source = torch.Generator().manual_seed(0)
    values, seen = torch.randn(1, 12, 1, generator=source).double(), torch.rand(1, 12, 1, generator=source) < 0.7
    line, mask = values[0, :, 0], seen[0, :, 0]
    pairs = [(line[t + 2] - line[t]) ** 2 for t in range(10) if mask[t] and mask[t + 2]]
    triples = [
        (line[t + 4] - 2 * line[t + 2] + line[t]) ** 2 for t in range(8) if mask[t] and mask[t + 2] and mask[t + 4]
    ]
    expected = [
        part
        for found in (pairs, triples)
        for part in (torch.stack(found).mean().log(), torch.tensor(len(found) + 1.0).log())
    ]
    found = _variations(values, seen.double(), 2, 0.0)
    torch.testing.assert_close(torch.cat(found), torch.stack([part.double() for part in expected]) / 4)
    assert all(float(part) == 0.0 for part in _variations(values, seen.double(), 12, 0.0))


def test_level_line_and_hidden_values_do_not_count():
    torch.manual_seed(0)
    data = ps.Sequences(torch.randn(3, 20, 1).double()).hide(torch.rand(3, 20) < 0.3)
    encoder = VariogramEncoder(2).double()
    assert encoder.lags[:6] == (1, 2, 3, 4, 6, 8)
    encoder.adapt(data)
    times = data.times.expand(3, -1)
    law = encoder(data.values, data.entry_mask, times)
    other = encoder(torch.where(data.entry_mask, data.values + 100.0, 7.0), data.entry_mask, times)
    assert law.batch_shape == (3,) and law.event_shape == (2,)
    torch.testing.assert_close(other.base_dist.loc, law.base_dist.loc)
    nothing = encoder(data.values, torch.zeros_like(data.entry_mask), times)
    assert bool(nothing.base_dist.loc.isfinite().all())


def test_what_it_refuses():
    for options in ({"dim": 0}, {"dim": 1, "hidden_dim": 0}, {"dim": 1, "num_lags": 0}):
        with pytest.raises(DataError):
            VariogramEncoder(**options)
