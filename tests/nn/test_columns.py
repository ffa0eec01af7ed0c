"""Tables of several kinds: each part has its columns, units and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError, ShapeError
from tests.kinds import kind


def test_each_part_reads_and_writes_its_own_columns():
    values = torch.randn(6, 5, 3).double() * 3 + torch.tensor([100.0, 0.0, -7.0])
    values[..., 1] = torch.poisson(torch.full((6, 5), 9.0))
    decoder = nn.Linear(2, 3).double()
    emission = ps.ColumnsEmission([([2, 0], ps.GaussianEmission()), ([1], ps.PoissonEmission())], decoder).double()
    data = ps.Sequences(values).hide(torch.rand(6, 5, 3) < 0.2)
    emission.adapt(data)
    where = torch.randn(6, 2, dtype=torch.float64)
    for columns, alone in (([2, 0], ps.GaussianEmission()), ([1], ps.PoissonEmission())):
        alone.double().adapt(ps.Sequences(values[..., columns], mask=data.mask[..., columns]))
        own = alone.given(decoder(where)[..., columns])
        seen = values[:, 0, columns]
        torch.testing.assert_close(emission(where).mean[..., columns], own.mean)
        torch.testing.assert_close(emission(where).log_prob(values[:, 0])[..., columns], own.log_prob(seen))


def test_named_columns_keep_their_names_and_change_no_number():
    names = ps.data.Labels(variables=["rate", "count", "level"], series=list(range(6)))
    values = torch.poisson(torch.full((6, 5, 3), 9.0))
    emissions = [ps.ColumnsEmission([([2, 0], ps.GaussianEmission()), ([1], ps.PoissonEmission())]) for _ in range(2)]
    for emission, labels in zip(emissions, (names, ps.data.Labels()), strict=True):
        data = ps.Sequences(values, labels=labels)[[0, 0, 3]]  # a series selected twice has its label twice
        emission.check(data)
        emission.adapt(data)
    assert [part.labels.variables for part in emissions[0]._dealt(ps.Sequences(values, labels=names))] == [
        ("level", "rate"),
        ("count",),
    ]
    named, plain = (emission.state_dict() for emission in emissions)
    assert named and all(torch.equal(named[key], plain[key]) for key in plain)


def test_refusals_are_those_of_the_parts_with_their_columns():
    emission, data = kind("columns")
    emission.check(data)
    values = data.values.clone()
    values[3, 2, 1] = 0.5
    with pytest.raises(DataError, match=r"columns \[1\], whose first is variable 0: .*Got 0.5 in series 3"):
        emission.check(ps.Sequences(values))
    with pytest.raises(ShapeError, match=r"must have 5 columns"):
        emission.check(ps.Sequences(values[..., :4]))


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ([], "without gaps"),
        ([([0, 1], ps.GaussianEmission()), ([1], ps.PoissonEmission())], "each to one part"),
        ([([0, 2], ps.GaussianEmission())], "without gaps"),
        ([(slice(0, None), ps.GaussianEmission())], "slices from a column to another"),
        ([([0], ps.GaussianEmission(nn.Linear(2, 1)))], "must not bring decoders"),
        ([([0], ps.PixelEmission())], "must have noise of their own"),
        ([([0], nn.Linear(2, 1))], "an emission such as"),
        ([ps.GaussianEmission()], "pairs of columns"),
        ([(["a"], ps.GaussianEmission())], "`parts` must be a whole number"),
    ],
)
def test_columns_are_shared_out_once(parts, match):
    with pytest.raises(DataError, match=match):
        ps.ColumnsEmission(parts)
