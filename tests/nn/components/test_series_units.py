"""``SeriesUnits`` by hand, on data with gaps, and where nothing varies."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.nn.components.series_units import SeriesUnits

NAN = float("nan")


def units_of(values: list[list[float]], dtype: torch.dtype = torch.float64) -> list[float]:
    units = SeriesUnits().to(dtype)
    units.adapt(ps.Sequences(torch.tensor(values, dtype=dtype)[..., None]))
    return [float(units.centre), float(units.spread), float(units.change)]


def test_by_hand():
    """Deviations of the first series are -2, 1, 1, of the second -1 and 1; differences 3, 0 and 2."""
    found = units_of([[1.0, NAN, 4.0, 4.0], [NAN, 10.0, 12.0, NAN]])
    assert found == pytest.approx([31 / 5, (8 / 5) ** 0.5, (13 / 3) ** 0.5])


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_they_follow_the_unit_of_the_data(unit):
    values = torch.randn(2, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = units_of(values.tolist())
    assert units_of((unit * values).tolist()) == pytest.approx([unit * number for number in one], rel=1e-12)


def test_where_nothing_varies():
    assert units_of([[5.0] * 4]) == pytest.approx([5.0, 0.15, 0.15])
    assert units_of([[0.0] * 4]) == [0.0, 1.0, 1.0]
    assert units_of([[0.1, 0.1 * (1 + 1e-7), 0.1]], torch.float32)[1] == pytest.approx(0.003)  # rounding


def test_one_value():
    assert units_of([[3.0, NAN]]) == pytest.approx([3.0, 0.09, 0.09])
