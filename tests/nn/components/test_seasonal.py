"""``Seasonal``: without noise it is periodic; which harmonics there are, and what gaps they take."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.seasonal import Seasonal

VALUES = {"scale": torch.tensor([0.1], dtype=torch.float64)}


def test_harmonics_go_along_cosines():
    season = Seasonal(10.5, harmonics=3)
    gaps = torch.tensor([0.4, 3.3, 10.5], dtype=torch.float64)
    block = season.block(VALUES, gaps)
    seen = season.observation(gaps, None)
    start = torch.tensor([1.0, 0.0, 0.0, 2.0, -1.0, 0.5], dtype=torch.float64)
    expected = [
        math.cos(a) + 2 * math.sin(2 * a) - math.cos(3 * a) + 0.5 * math.sin(3 * a)
        for a in (2 * math.pi * gaps / 10.5).tolist()
    ]
    found = (block.transition @ start) @ seen
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    eye = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(block.transition_cov, 0.01 * gaps[:, None, None] * eye, rtol=1e-12, atol=0)


def test_all_harmonics_of_an_even_period_end_with_one_state():
    season = Seasonal(4)
    assert season.harmonics == 2 and season.state_dim == 3 and season.has_whole_steps
    block = season.block(VALUES, torch.ones(1, dtype=torch.float64))
    expected = torch.tensor([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(block.transition[0], expected, rtol=0, atol=1e-15)
    assert season.observation(expected, None).tolist() == [1.0, 0.0, 1.0]


def test_which_harmonics_take_any_gap():
    assert not Seasonal(4, harmonics=1).has_whole_steps and not Seasonal(7).has_whole_steps
    assert not Seasonal(365.25 / 7, harmonics=26).has_whole_steps
    assert Seasonal(7).harmonics == 3 and Seasonal(7).state_dim == 6


@pytest.mark.parametrize("arguments", [(1.5,), (12, 7), (12, 0), ("year",), (math.inf,)])
def test_odd_arguments(arguments):
    with pytest.raises(DataError, match="period|harmonics"):
        Seasonal(*arguments)
