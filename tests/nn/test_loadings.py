"""Loadings of shared and own factors: the same as a linear layer whose weight is diagonal in the own ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_seq.errors import DataError
from pyro_seq.nn.loadings import OwnLoadings


def test_it_is_a_linear_map_that_is_diagonal_in_own_factors():
    torch.manual_seed(0)
    loadings, where = OwnLoadings(2, 3, input_dim=4), torch.randn(5, 7, 2 + 3 + 4)
    for parameter in loadings.parameters():
        nn.init.normal_(parameter)
    shared, own, inputs = where.split((2, 3, 4), -1)
    expected = shared @ loadings.shared.mT + own * loadings.own + inputs @ loadings.effects.mT + loadings.bias
    torch.testing.assert_close(loadings(where), expected)
    assert loadings.weight.shape == (3, 9)
    assert not loadings.weight[:, 2:5].masked_select(~torch.eye(3, dtype=torch.bool)).any()


def test_inputs_have_no_effect_at_the_start_and_own_factors_have():
    loadings = OwnLoadings(1, 2, input_dim=1)
    assert not loadings.weight[:, 3].any() and (loadings.own > 0).all() and loadings.shared.any()


@pytest.mark.parametrize("sizes", [(0, 2), (1, 0), (1, 2, -1), (1.5, 2)])
def test_sizes_are_whole_and_positive(sizes):
    with pytest.raises(DataError):
        OwnLoadings(*sizes)
