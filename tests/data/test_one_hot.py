"""Classes as entries: against torch, with missing ones, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.data import Sequences, one_hot
from pyro_seq.errors import DataError


def test_each_variable_becomes_neighbouring_entries_of_which_one_is_1():
    classes = torch.randint(3, (4, 5, 2), generator=torch.Generator().manual_seed(0))
    found = one_hot(classes.numpy(), 3)
    assert found.shape == (4, 5, 6) and found.dtype == torch.float32
    assert torch.equal(found.unflatten(-1, (2, 3)).argmax(-1), classes)
    assert bool((found.unflatten(-1, (2, 3)).sum(-1) == 1).all())


def test_missing_classes_are_hidden_as_a_whole():
    classes = np.array([[[0.0, 1.0], [np.nan, 2.0]]])
    data = Sequences(one_hot(classes, 3))
    assert data.entry_mask[0, 1].tolist() == [False] * 3 + [True] * 3 and data.values.dtype == torch.float64


@pytest.mark.parametrize("bad", [3.0, -1.0, 0.5, torch.inf])
def test_other_numbers_are_refused_with_their_place(bad):
    classes = torch.zeros(2, 3, 1)
    classes[1, 2, 0] = bad
    with pytest.raises(DataError, match=r"`classes` must be whole numbers from 0 to 2.* at \(1, 2, 0\)"):
        one_hot(classes, 3)
