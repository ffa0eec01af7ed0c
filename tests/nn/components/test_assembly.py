"""Grids of gaps, and components side by side."""

from __future__ import annotations

import torch

from pyro_seq.nn.components import Constant, Level, Regression, Seasonal
from pyro_seq.nn.components.assembly import Grid, assemble, contributions
from pyro_seq.nn.components.series_units import SeriesUnits


def grid_of(times: list, rounding: float = 0.0) -> Grid:
    return Grid.of(torch.tensor(times, dtype=torch.float64), None, torch.float64, rounding)


def test_gaps_that_are_the_same_count_once():
    grid = grid_of([0.0, 1.0, 2.0, 3.0])
    assert grid.gaps.tolist() == [1.0] and grid.which is None
    grid = grid_of([[0.0, 1.0, 4.0], [0.0, 2.0, 3.0]])
    assert grid.gaps.tolist() == [1.0, 2.0, 3.0] and grid.which.tolist() == [[0, 0, 2], [1, 1, 0]]
    assert grid_of([7.0]).gaps.tolist() == [1.0]


def test_what_rounding_parts_stays_together():
    grid = grid_of([0.0, 0.1, 0.2, 0.3, 0.3 + 0.1])
    assert len(grid.gaps) == 1 and abs(float(grid.gaps) - 0.1) < 1e-9
    assert len(grid_of([0.0, 1.0, 2.001], rounding=1e-2).gaps) == 1
    assert len(grid_of([0.0, 1.0, 2.001], rounding=1e-4).gaps) == 2


def test_side_by_side():
    structure = Level() + Seasonal(4) + Regression(2) + Constant()
    grid = Grid.of(torch.tensor([0.0, 1.0, 3.0]), torch.arange(12.0).reshape(2, 3, 2), torch.float32, 0.0)
    values = [{"scale": torch.tensor([2.0])}, {"scale": torch.tensor([0.5])}, {}, {}]
    parameters = assemble(structure, values, torch.tensor([0.1]), grid, SeriesUnits())
    assert parameters.transition.shape == (3, 7, 7) and parameters.observation.shape == (2, 3, 1, 7)
    assert parameters.transition_cov[:, 0, 0].tolist() == [4.0, 4.0, 8.0]
    assert parameters.observation[1, 2, 0].tolist() == [1.0, 1.0, 0.0, 1.0, 10.0, 11.0, 1.0]
    assert parameters.diffuse.all() and parameters.initial_cov.diagonal().tolist() == [1.0] * 4 + [0.0] * 3
    states = torch.ones(2, 3, 7)
    assert contributions(structure, parameters, states)[1, 2].tolist() == [1.0, 2.0, 21.0, 1.0]
