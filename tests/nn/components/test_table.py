"""Coordinates and parameters, there and back, of one series and of many."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components import Autoregression, Level, StudentTNoise
from pyro_seq.nn.components.series_units import SeriesUnits
from pyro_seq.nn.components.table import ParameterTable


def test_there_and_back():
    table, units = ParameterTable(Level() + Autoregression(1), StudentTNoise()), SeriesUnits().double()
    units.change.fill_(3.0), units.spread.fill_(5.0)
    assert table.names == (
        "level_scale", "autoregression_scale", "autoregression_partial_1", "noise_scale", "noise_df"
    )  # fmt: skip
    coordinates = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).double()
    shown = table.report(coordinates, units)
    assert shown["autoregression_1"].shape == (4,) and bool((shown["noise_df"] > 2).all())
    own = {name: shown[name] for name in table.names}
    torch.testing.assert_close(table.coordinates(own, units), coordinates)
    one = table.coordinates({name: float(value[2]) for name, value in own.items()}, units)
    torch.testing.assert_close(one, coordinates[2])
    with pytest.raises(DataError, match="named"):
        table.coordinates({"level_scale": 1.0}, units)
