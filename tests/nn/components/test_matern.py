"""``Matern`` against the kernel of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.matern import Matern


@pytest.mark.parametrize("smoothness", [0.5, 1.5, 2.5])
def test_autocovariance_is_the_kernel(smoothness):
    from sklearn.gaussian_process.kernels import Matern as Kernel

    gaps = torch.tensor([0.3, 2.0, 11.0], dtype=torch.float64)
    numbers = {"scale": 1.5, "lengthscale": 3.0}
    values = {name: torch.tensor([one], dtype=torch.float64) for name, one in numbers.items()}
    block = Matern(smoothness).block(values, gaps)
    covariance = (block.transition @ block.initial_cov)[:, 0, 0]
    expected = 2.25 * Kernel(3.0, nu=smoothness)(gaps[:, None].numpy(), np.zeros((1, 1)))[:, 0]
    np.testing.assert_allclose(covariance.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("smoothness", [0.0, 1.0, "rough"])
def test_odd_smoothness(smoothness):
    with pytest.raises(DataError, match="smoothness"):
        Matern(smoothness)
