"""Emission of classes: shares of training at the start, and what is no class."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.data import one_hot
from pyro_seq.errors import DataError, ShapeError

CLASSES = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]]).double()
DATA = ps.Sequences(one_hot(CLASSES, 3))


def test_probabilities_start_at_the_shares_of_training():
    emission = ps.CategoricalEmission(3).double()
    emission.adapt(DATA)
    shares = emission.given(torch.zeros(6, dtype=torch.float64)).mean
    expected = torch.tensor([0.5, 0.25, 0.25, 1e-3, 1.0, 1e-3], dtype=torch.float64)
    expected[3:] /= 1.002  # shares of what is never seen are above zero
    torch.testing.assert_close(shares, expected, rtol=1e-6, atol=0)


def test_classes_may_be_missing_as_a_whole_only():
    ps.CategoricalEmission(3).check(DATA.hide(torch.tensor([[True, False, False, False]])))
    hidden = torch.zeros(1, 4, 6, dtype=torch.bool)
    hidden[0, 1, 4] = True
    with pytest.raises(DataError, match="`data.mask` must hide all 3 entries of a class or none.*with 1 classes"):
        ps.CategoricalEmission(3).check(DATA.hide(hidden))


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (
            CLASSES.repeat(1, 1, 3),
            r"0 or 1, for a `CategoricalEmission` of 3 classes. Got 2 .* at time 3.*one_hot",
        ),
        (torch.zeros(1, 4, 6), "1 at one of the 3 entries of each class and 0 at the others. Got 0 in series 0"),
        (torch.ones(1, 4, 6), "1 at one of the 3 entries of each class and 0 at the others. Got 1 in series 0"),
    ],
)
def test_what_is_no_class_is_refused(values, match):
    with pytest.raises(DataError, match=match):
        ps.CategoricalEmission(3).check(ps.Sequences(values))


def test_the_number_of_classes_must_fit():
    with pytest.raises(ShapeError, match=r"must have 3 entries for each variable.* shape \(4,\)"):
        ps.CategoricalEmission(3).check(ps.Sequences(torch.zeros(1, 2, 4)))
    with pytest.raises(DataError, match="`num_classes` must be a whole number from 2"):
        ps.CategoricalEmission(1)
