"""Keeping numerics out of mixed precision."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.nn.mixture import MixedDynamics
from pyro_seq.ops.precision import full_precision


@full_precision
def product(first: torch.Tensor, second: torch.Tensor, *, scale: float = 1.0) -> torch.Tensor:
    """The product of two matrices."""
    return scale * (first @ second)


def mixed() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_products_are_exact_inside_and_rounded_outside():
    first, second = torch.rand(3, 3), torch.rand(3, 3)
    expected = first @ second
    with mixed():
        assert torch.equal(product(first, second), expected)
        assert (first @ second).dtype == torch.bfloat16


def test_gradients_are_exact_too():
    first, second = torch.rand(3, 3, requires_grad=True), torch.rand(3, 3)
    with mixed():
        loss = product(first, second).sum()
    (gradient,) = torch.autograd.grad(loss, first)
    torch.testing.assert_close(gradient, second.sum(1).expand(3, 3), rtol=1e-6, atol=0)


def test_nothing_changes_without_mixed_precision():
    first = torch.rand(3, 3, dtype=torch.float64)
    assert torch.equal(product(first, first, scale=2.0), 2.0 * (first @ first))
    assert product.__name__ == "product" and product.__doc__ == "The product of two matrices."


def test_mixed_precision_is_back_after_an_error():
    with mixed():
        with pytest.raises(RuntimeError):
            product(torch.rand(2, 3), torch.rand(2, 3))
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_wrapped_functions_may_call_each_other():
    @full_precision
    def twice(matrix: torch.Tensor) -> torch.Tensor:
        return product(product(matrix, matrix), matrix)

    matrix = torch.rand(3, 3)
    expected = matrix @ matrix @ matrix
    with mixed():
        got = twice(matrix)
        assert torch.is_autocast_enabled("cpu")
    assert torch.equal(got, expected)


def test_methods_of_modules_keep_their_precision():
    dynamics = MixedDynamics(2, 3, num_modes=3)
    previous = torch.randn(4, 5, 2)
    expected, _ = dynamics(previous, None, None)
    with mixed():
        got, _ = dynamics(previous, None, None)
    assert torch.equal(got.transition, expected.transition)
    assert got.observation.dtype == torch.float32
