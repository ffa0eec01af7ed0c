"""``Regression``: coefficients stay, and inputs see them."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.nn.components.regression import Regression


def test_coefficients_stay_and_inputs_see_them():
    block = Regression(2).block({}, torch.tensor([1.0, 3.0]))
    assert torch.equal(block.transition, torch.eye(2)[None]) and not block.transition_cov.any()
    inputs = torch.randn(3, 5, 2)
    assert Regression(2).observation(inputs, inputs) is inputs


@pytest.mark.parametrize("number", [0, 1.5, None])
def test_odd_numbers(number):
    with pytest.raises(DataError, match="num_inputs"):
        Regression(number)
