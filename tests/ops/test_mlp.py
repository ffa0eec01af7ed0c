"""The functional network: activations, and weights that carry sample axes."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.ops.mlp import ACTIVATIONS, apply_layers, linear


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives(name):
    activation, x = ACTIVATIONS[name], (3 * normal(200)).requires_grad_()
    y = activation.function(x)
    (expected,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    derivative = activation.derivative(x, y)
    torch.testing.assert_close(derivative, expected, rtol=1e-12, atol=1e-12)
    if name != "relu":
        (second,) = torch.autograd.grad(derivative.sum(), x, retain_graph=True)
        (expected_second,) = torch.autograd.grad(expected.sum(), x)
        torch.testing.assert_close(second, expected_second, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("state", "sample"),
    [((5, 4), ()), ((7, 5, 4), ()), ((3, 5, 4), (3,)), ((5, 4), (3,)), ((1, 5, 4), (3,)), ((2, 7, 3, 5, 4), (3,)),
     ((7, 2, 3, 5, 4), (2, 3)), ((7, 1, 5, 4), (3,))],
)  # fmt: skip
def test_linear_equals_broadcasting(state, sample, with_bias):
    states, weight, bias = normal(*state), normal(*sample, 6, 4, seed=2), normal(*sample, 6, seed=3)
    expected = torch.einsum("...ni,...oi->...no", states, weight)
    expected = expected + bias.unsqueeze(-2) if with_bias else expected
    torch.testing.assert_close(linear(states, weight, bias if with_bias else None), expected)


@pytest.mark.parametrize("sample", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("stages", [(), (7,), (7, 2)], ids=str)
def test_mlp_equals_a_chain_of_layers(sample, stages):
    layers = [(normal(*sample, rows, columns), normal(*sample, rows)) for columns, rows in ((4, 6), (6, 5), (5, 2))]
    state = expected = normal(*stages, *sample, 8, 4, seed=4)
    for i, (weight, bias) in enumerate(layers):
        expected = torch.einsum("...ni,...oi->...no", expected if i == 0 else expected.tanh(), weight)
        expected = expected + bias.unsqueeze(-2)
    torch.testing.assert_close(apply_layers(layers, ACTIVATIONS["tanh"], state), expected)
