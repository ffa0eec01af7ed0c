"""What a structure refuses of data."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.components import Level, Regression, Seasonal, Structure, Trend
from pyro_seq.nn.components.requirements import require_entries, require_inputs, require_whole_steps


def test_inputs_and_entries():
    data = ps.Sequences(torch.zeros(2, 6, 1), inputs=torch.zeros(2, 6, 2))
    require_inputs(Level() + Regression(2), data)
    with pytest.raises(ShapeError, match=r"1 entries a step.*Got 2"):
        require_inputs(Level() + Regression(), data)
    few = data.hide(torch.tensor([[False] * 6, [True] * 3 + [False] * 3]))
    require_entries(Level() + Regression(2), few)
    with pytest.raises(DataError, match=r"at least 4 observed.*Got 3 in series 1"):
        require_entries(Trend() + Regression(2), few)


def test_whole_steps():
    step, times = torch.tensor(2.0), torch.tensor([0.0, 2.0, 6.0, 7.0])
    require_whole_steps(Level() + Seasonal(5.5, harmonics=1), times, step, 1e-3)
    require_whole_steps(Structure((Trend(),)), times[:3], step, 1e-3)
    with pytest.raises(DataError, match="whole steps of 2 for Trend. Got a gap of 0.5 steps"):
        require_whole_steps(Structure((Trend(),)), times, step, 1e-3)
