"""``Autoregression`` against the theory of statsmodels: stationary coefficients and autocovariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.autoregression import Autoregression

PARTIALS = (0.7, -0.5, 0.3, 0.9)


def values(order: int) -> dict[str, torch.Tensor]:
    numbers = {"scale": 1.5} | {f"partial_{lag}": PARTIALS[lag - 1] for lag in range(1, order + 1)}
    return {name: torch.tensor([one], dtype=torch.float64) for name, one in numbers.items()}


@pytest.mark.parametrize("order", [1, 2, 4])
def test_against_statsmodels(order):
    from statsmodels.tsa.arima_process import arma_acovf

    component = Autoregression(order)
    block = component.block(values(order), torch.ones(1, dtype=torch.float64))
    coefficients = block.transition[0, 0].numpy()
    noise = float(block.transition_cov[0, 0, 0])
    expected = arma_acovf(np.r_[1.0, -coefficients], [1.0], nobs=order, sigma2=noise)
    np.testing.assert_allclose(block.initial_cov[0].numpy(), expected, rtol=1e-10)
    assert abs(expected[0] - 1.5**2) < 1e-10
    assert np.abs(np.roots(np.r_[1.0, -coefficients])).max() < 1  # stationary
    shown = component.report(values(order))
    assert [float(shown[str(lag)]) for lag in range(1, order + 1)] == coefficients.tolist()


@pytest.mark.parametrize("order", [0, 1.5, "two"])
def test_odd_orders(order):
    with pytest.raises(DataError, match="order"):
        Autoregression(order)
