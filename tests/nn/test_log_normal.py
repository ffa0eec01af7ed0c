"""Log-normal emission: units of logarithms, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError


def adapted(values: torch.Tensor) -> ps.LogNormalEmission:
    torch.manual_seed(0)
    emission = ps.LogNormalEmission(nn.Linear(2, 3)).double()
    emission.adapt(ps.Sequences(values))
    return emission


VALUES = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
UNIT = torch.tensor([1e-6, 1.0, 1e5], dtype=torch.float64)


def test_data_in_other_units_have_the_same_fit():
    where = torch.randn(5, 2, dtype=torch.float64)
    plain, other = adapted(VALUES)(where), adapted(VALUES * UNIT)(where)
    torch.testing.assert_close(other.mean, plain.mean * UNIT, rtol=1e-9, atol=0)
    seen = VALUES[:5, 0]
    torch.testing.assert_close(other.log_prob(seen * UNIT), plain.log_prob(seen) - UNIT.log(), rtol=1e-9, atol=1e-9)


def test_it_starts_around_the_logarithms_of_training():
    emission = adapted(VALUES * UNIT)
    with torch.no_grad():
        emission.decoder.weight.zero_(), emission.decoder.bias.zero_()
    logs = (VALUES * UNIT).log().flatten(0, 1)
    seen = emission(torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(seen.logs.mean, logs.mean(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(emission.scale.detach(), 0.5 * logs.std(0, correction=0), rtol=1e-6, atol=0)


def test_values_that_are_not_positive_are_refused_unless_they_are_hidden():
    values = VALUES.clone()
    values[4, 2, 1] = 0.0
    data = ps.Sequences(values)
    with pytest.raises(DataError, match=r"positive.* Got 0 in series 4 at time 2, variable 1.*limit of detection"):
        ps.LogNormalEmission().check(data)
    hidden = data.hide(data.values == 0)
    ps.LogNormalEmission().check(hidden)
    assert bool(torch.isfinite(adapted(hidden.values.clamp(min=1e-9)).units.unit).all())
    emission = ps.LogNormalEmission()
    emission.adapt(hidden)
    seen = values[..., 1][values[..., 1] > 0].log()
    assert float(emission.units.centre[1]) == pytest.approx(float(seen.mean()), rel=1e-5)


@pytest.mark.parametrize("options", [{"initial_scale": 1e-4}, {"minimum_scale": 0.0}, {"initial_scale": torch.nan}])
def test_scales_out_of_range_are_refused(options):
    with pytest.raises(DataError, match="scale"):
        ps.LogNormalEmission(**options)
