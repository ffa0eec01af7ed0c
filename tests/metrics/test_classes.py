"""Scores of classes: against scikit-learn, and as the other scores of one-hot entries."""

from __future__ import annotations

import pytest
import sklearn.metrics
import torch

from pyro_seq.data import one_hot
from pyro_seq.errors import ShapeError
from pyro_seq.metrics import accuracy, brier, crps, mse

generator = torch.Generator().manual_seed(0)
CLASSES = torch.randint(3, (5, 7, 2), generator=generator)
TRUTH = one_hot(CLASSES, 3).double()
SHARES = torch.rand(5, 7, 6, generator=generator).double().unflatten(-1, (2, 3)).softmax(-1).flatten(-2)


def test_they_are_those_of_scikit_learn():
    flat = SHARES.reshape(-1, 3)
    expected = sklearn.metrics.accuracy_score(CLASSES.flatten(), flat.argmax(-1))
    assert float(accuracy(SHARES, TRUTH, 3)) == pytest.approx(expected)
    square = sum(sklearn.metrics.brier_score_loss((CLASSES.flatten() == k).int(), flat[:, k]) for k in range(3))
    assert float(brier(SHARES, TRUTH, 3)) == pytest.approx(square)


def test_the_brier_score_is_that_of_squares_and_that_of_draws():
    torch.testing.assert_close(brier(SHARES, TRUTH, 3, keep=0), 3 * mse(SHARES, TRUTH, keep=0))
    draws = one_hot(torch.randint(3, (20, 5, 7, 2), generator=generator), 3).double()
    torch.testing.assert_close(brier(draws.mean(0), TRUTH, 3), 3 * crps(draws, TRUTH))


def test_hidden_classes_do_not_count():
    mask = torch.ones_like(TRUTH, dtype=torch.bool)
    mask[..., 3:] = False
    torch.testing.assert_close(brier(SHARES, TRUTH, 3, mask=mask), brier(SHARES[..., :3], TRUTH[..., :3], 3))
    assert float(accuracy(SHARES, TRUTH, 3, mask=mask)) == float(accuracy(SHARES[..., :3], TRUTH[..., :3], 3))
    assert brier(SHARES, TRUTH, 3, keep=(0, 2)).shape == (5, 2)
    with pytest.raises(ShapeError, match="`truth` must have 4 entries"):
        brier(SHARES, TRUTH, 4)
