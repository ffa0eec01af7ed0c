"""`Sequences.on_grid`: uneven times on an even grid."""

from __future__ import annotations

import itertools

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, UnsupportedError


def test_on_grid_keeps_steps_and_hides_those_between() -> None:
    values = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.ones(2, 3, 2, dtype=torch.bool)
    mask[0, 1, 0] = False
    times = torch.tensor([[10.0, 10.5, 12.0], [0.0, 1.0, 1.5]], dtype=torch.float64)
    static = torch.tensor([[1.0], [2.0]])
    data = Sequences(values, mask=mask, times=times, static=static).on_grid(0.5)
    assert data.times.tolist() == [[10.0, 10.5, 11.0, 11.5, 12.0], [0.0, 0.5, 1.0, 1.5, 2.0]]
    assert data.step_mask.tolist() == [[True, True, False, False, True], [True, False, True, True, False]]
    assert data.entry_mask[0, 1].tolist() == [False, True]
    for series, (number, place) in itertools.product((0, 1), enumerate([0, 1, 4])):
        place = place if series == 0 else [0, 2, 3][number]
        expected = torch.where(mask[series, number], values[series, number], 0.0)
        assert torch.equal(data.values[series, place], expected)
    assert torch.equal(data.static, static)
    shared = Sequences(values.double(), times=[0.0, 1.0, 3.0])
    assert shared.on_grid().times.tolist() == [0.0, 1.0, 2.0, 3.0] and shared.on_grid().dtype == torch.float64
    even = Sequences(values)
    assert torch.equal(even.on_grid().values, values) and torch.equal(even.on_grid().times, even.times)
    epoch = Sequences(values, times=1.7e9 + 0.1 * torch.tensor([0.0, 1.0, 3.0]).double())  # rounded to 2e-7
    assert epoch.on_grid(0.1).num_steps == 4
    near = Sequences(values, times=[0.0, 1.2, 2.9]).on_grid(1.0, tolerance=0.49)
    assert near.step_mask.all(0).tolist() == [True, True, False, True]
    assert Sequences(values[:, :1]).on_grid().num_steps == 1


def test_on_grid_says_what_is_wrong() -> None:
    data = Sequences(torch.zeros(1, 3, 1), times=[0.0, 1.0, 2.5])
    with pytest.raises(DataError, match=r"`step` = 1, up to 0.001 of a step. Got one that is 0.5 of a step off"):
        data.on_grid()
    with pytest.raises(DataError, match="`step` must be a positive number"):
        data.on_grid(0.0)
    with pytest.raises(DataError, match="keep the steps of a series apart. Got 2.5, where the shortest gap is 1"):
        data.on_grid(2.5, tolerance=0.45)
    with pytest.raises(DataError, match="at most 100000 steps. Got 1e-05"):
        data.on_grid(1e-5)
    with pytest.raises(DataError, match="`tolerance`"):
        data.on_grid(1.0, tolerance=0.6)
    with pytest.raises(UnsupportedError, match="knows no inputs at the steps that it adds"):
        Sequences(torch.zeros(1, 3, 1), inputs=torch.zeros(1, 3, 1)).on_grid()
