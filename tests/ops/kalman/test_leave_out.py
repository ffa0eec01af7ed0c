"""Leave-one-out densities against filters that really leave the observation out."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import ShapeError
from pyro_seq.ops.kalman import (
    LinearGaussianParameters,
    kalman_filter,
    kalman_smoother,
    leave_one_out_log_density,
)


def example(obs: int = 2) -> tuple[torch.Tensor, LinearGaussianParameters, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    eye = torch.eye(3, dtype=torch.float64)
    root = normal(obs, obs)
    parameters = LinearGaussianParameters(
        0.5 * normal(3, 3), eye, normal(obs, 3), root @ root.mT + 0.1 * eye[:obs, :obs], normal(3), 2 * eye
    )
    return normal(4, 15, obs), parameters, torch.rand(4, 15, obs, generator=generator) < 0.8


@pytest.mark.parametrize("is_diffuse", [False, True])
def test_against_leaving_out(is_diffuse):
    values, parameters, mask = example()
    if is_diffuse:
        parameters = parameters._replace(diffuse=torch.ones(3, dtype=torch.bool))
    density = leave_one_out_log_density(values, parameters, kalman_smoother(values, parameters, mask), mask)
    whole = kalman_filter(values, parameters, mask).log_likelihood
    for step in range(15):
        others = mask.clone()
        others[:, step] = False
        known = whole - kalman_filter(values, parameters, others).log_likelihood
        torch.testing.assert_close(density[:, step], known, rtol=1e-9, atol=1e-9)
    assert (density[~mask.any(-1)] == 0).all()


def test_refuses_other_data():
    values, parameters, _ = example()
    with pytest.raises(ShapeError, match="`smoothed`"):
        leave_one_out_log_density(values[:, 1:], parameters, kalman_smoother(values, parameters))
