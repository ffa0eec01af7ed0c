"""Units of the data."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.nn.units import Standardise


@pytest.mark.parametrize("shape", [(), (3,)])
def test_standardised_entries_have_mean_zero_and_deviation_one(shape):
    values = torch.randn(20, 30, 3, dtype=torch.float64) * torch.tensor([1.0, 5.0, 20.0]) + 7
    data = Sequences(values, mask=torch.rand(20, 30, 3) < 0.7)
    units = Standardise(shape).double()
    units.adapt(data)
    observed = units(data.values)[data.entry_mask].reshape(-1) if not shape else units(data.values)
    if shape:
        mask = data.entry_mask
        for entry in range(3):
            seen = observed[..., entry][mask[..., entry]]
            assert abs(float(seen.mean())) < 1e-10
            assert abs(float(seen.std(correction=0)) - 1) < 1e-10
    else:
        assert abs(float(observed.mean())) < 1e-10
        assert abs(float(observed.std(correction=0)) - 1) < 1e-10
    torch.testing.assert_close(units.restore(units(data.values)), data.values, rtol=1e-12, atol=1e-12)


def test_constant_entries_are_not_blown_up():
    values = torch.stack([torch.randn(9, 8), torch.full((9, 8), 3.0)], -1)
    units = Standardise((2,), floor=0.03)
    units.adapt(Sequences(values))
    overall = float(values.std(correction=0))
    assert float(units.unit[1]) == pytest.approx(0.03 * overall, rel=1e-5)
    units.adapt(Sequences(torch.ones(2, 3, 2)))
    assert torch.equal(units.unit, torch.ones(2))
