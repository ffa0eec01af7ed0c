"""Inside chains fixed-step solvers hand on what is not finite; outside they raise."""

from __future__ import annotations

import pytest
import torch

from pyro_seq._nonfinite import is_about_numbers, nonfinite_is_passed, passing_nonfinite
from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.ops.odeint import RK4, odeint


def test_one_row_leaves_the_finite_numbers_alone() -> None:
    start = torch.tensor([[0.1], [30.0], [0.2]], dtype=torch.float64, requires_grad=True)
    times = torch.linspace(0, 1, 5, dtype=torch.float64)
    with passing_nonfinite():
        path = odeint(lambda t, y: y**3, start, times, RK4()).path
    (gradient,) = torch.autograd.grad(path.sum(), start)
    assert path.isfinite().all((1, 2)).tolist() == [True, False, True]
    assert gradient.isfinite().flatten().tolist() == [True, False, True]
    with pytest.raises(NumericalError, match="series 1|finite numbers"):
        odeint(lambda t, y: y**3, start, times, RK4())


def test_it_ends_with_the_block() -> None:
    with pytest.raises(ZeroDivisionError), passing_nonfinite():
        assert nonfinite_is_passed()
        1 / 0
    assert not nonfinite_is_passed()


def test_errors_about_numbers_are_told_from_those_about_calls() -> None:
    seen = "`values` must be finite where observed. Got values[0] = nan."
    about_numbers = [ValueError("found invalid values: nan"), ValueError(seen), DataError(seen), NumericalError("")]
    assert all(map(is_about_numbers, about_numbers))
    about_calls = [ValueError("shapes differ"), ShapeError(seen), DataError("`times` must be finite and increasing.")]
    assert not any(map(is_about_numbers, about_calls))
