"""The curvature of a posterior, exact on a linear model."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from pyro_seq.infer.gauss_newton import GaussNewton, RoundCoordinates
from pyro_seq.infer.series_target import SeriesTarget


def test_curvature_is_exact_on_a_linear_model(factors) -> None:
    """The precision of each posterior, hidden entries and all; and round coordinates make it round."""
    data = factors.make_data(5, dtype=torch.float64)
    mask = torch.rand(data.values.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    data = dataclasses.replace(data, mask=mask)
    model = factors.Factors().double()
    target, start = SeriesTarget(model, data), torch.randn(2, 5, factors.DIM, dtype=torch.float64)
    weights = mask.double().sum(1) / (2 * model.log_scale).exp()
    wanted = torch.eye(factors.DIM) + torch.einsum("ki,sk,kj->sij", model.weight, weights, model.weight)
    found = GaussNewton().curvature(target, start)
    torch.testing.assert_close(found, wanted.expand_as(found), rtol=1e-9, atol=1e-9)
    factor = GaussNewton().map(target, start).factor
    eye = torch.eye(factors.DIM, dtype=torch.float64).expand_as(factor)
    torch.testing.assert_close(factor.mT @ wanted @ factor, eye, rtol=0, atol=1e-8)


def test_a_potential_is_pulled_back_through_the_map() -> None:
    origin, factor = torch.randn(2, 3, 2, dtype=torch.float64), torch.randn(2, 3, 2, 2, dtype=torch.float64)
    round_coordinates = RoundCoordinates(origin, factor)
    value = torch.randn(2, 3, 2, dtype=torch.float64)
    expected = torch.stack([factor[place] @ value[place] + origin[place] for place in np.ndindex(2, 3)])
    torch.testing.assert_close(round_coordinates(value).flatten(0, 1), expected, rtol=1e-12, atol=1e-12)
    energy = round_coordinates.pulled_back(lambda vector: vector.square().sum(-1))(value)
    torch.testing.assert_close(energy.flatten(), expected.square().sum(-1), rtol=1e-12, atol=1e-12)


def test_the_diagonal_gives_each_direction_its_own_length(factors) -> None:
    data = factors.make_data(5, dtype=torch.float64)
    target, start = SeriesTarget(factors.Factors().double(), data), torch.zeros(1, 5, factors.DIM, dtype=torch.float64)
    method = GaussNewton(is_diagonal=True)
    lengths = method.curvature(target, start).diagonal(dim1=-2, dim2=-1).rsqrt()
    torch.testing.assert_close(method.map(target, start).factor, torch.diag_embed(lengths), rtol=1e-12, atol=1e-12)


def test_where_there_is_no_curvature_coordinates_stay_as_they_are(factors) -> None:
    data = factors.make_data(5, dtype=torch.float64)
    target, start = SeriesTarget(factors.Factors().double(), data), torch.zeros(2, 5, factors.DIM, dtype=torch.float64)
    start[1, 3] = torch.nan
    factor = GaussNewton().map(target, start).factor
    assert torch.equal(factor[1, 3], torch.eye(factors.DIM, dtype=torch.float64))
    torch.testing.assert_close(factor[1, :3], factor[0, :3], rtol=1e-12, atol=0)
