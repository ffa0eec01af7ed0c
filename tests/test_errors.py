from __future__ import annotations

import pickle

import pytest
import torch

from pyro_seq import errors


@pytest.mark.parametrize(
    ("shape", "names", "text"),
    [
        (torch.zeros(16, 25, 2), ("series", "time"), "(series 16, time 25, obs 2)"),
        ((16, 25, 3, 8), ("series", "time"), "(series 16, time 25, obs 3, obs 8)"),
        (torch.Size([4]), ("series", "time"), "(series 4)"),
        ((), ("series", "time"), "()"),
        (torch.zeros(()), (), "()"),
        ([3, 0], (), "(obs 3, obs 0)"),
    ],
)
def test_shape_text_names_each_axis(shape, names, text):
    assert errors.shape_text(shape, names) == text


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("ShapeError", ValueError),
        ("DataError", ValueError),
        ("UnsupportedError", NotImplementedError),
        ("NumericalError", RuntimeError),
        ("CheckpointError", RuntimeError),
    ],
)
def test_every_error_is_ours_and_a_builtin_and_pickles(name, builtin):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.PyroSeqError)
    assert issubclass(kind, builtin)
    assert str(pickle.loads(pickle.dumps(kind("what to do")))) == "what to do"
