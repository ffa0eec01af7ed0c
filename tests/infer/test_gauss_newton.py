"""The curvature of a posterior, exact on a linear model."""

from __future__ import annotations

import dataclasses

import torch

from pyro_seq.infer.gauss_newton import GaussNewton
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
