"""``SeasonalDummies``: without noise, effects come again and sum to nothing."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.seasonal_dummies import SeasonalDummies


def test_effects_come_again_and_sum_to_nothing():
    season = SeasonalDummies(4)
    block = season.block({"scale": torch.zeros(1)}, torch.arange(1.0, 9.0))
    start = torch.tensor([1.0, 2.0, -4.0])  # this effect and those before; the next is then 1
    path = (block.transition @ start) @ season.observation(start, None)
    assert path.tolist() == [1.0, -4.0, 2.0, 1.0, 1.0, -4.0, 2.0, 1.0]
    assert float(path[:4].sum()) == 0.0 and not block.transition_cov.any()


@pytest.mark.parametrize("period", [1, 3.5, "week"])
def test_odd_periods(period):
    with pytest.raises(DataError, match="period"):
        SeasonalDummies(period)
