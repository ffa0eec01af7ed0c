"""``Cycle``: its autocovariance is a damped cosine."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.cycle import Cycle


def test_autocovariance_is_a_damped_cosine():
    gaps = torch.tensor([0.3, 2.0, 11.0], dtype=torch.float64)
    numbers = {"scale": 1.5, "period": 7.0, "damping": 0.8}
    block = Cycle().block({name: torch.tensor([one], dtype=torch.float64) for name, one in numbers.items()}, gaps)
    covariance = (block.transition @ block.initial_cov)[:, 0, 0]
    expected = [2.25 * 0.8**gap * math.cos(2 * math.pi * gap / 7) for gap in gaps.tolist()]
    torch.testing.assert_close(covariance, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("ends", [(0.0, 5.0), (5.0, 5.0), (5.0, math.nan)])
def test_odd_ends(ends):
    with pytest.raises(DataError, match="shortest|longest"):
        Cycle(*ends)
