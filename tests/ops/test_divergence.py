"""Three routes to one trace, and a Jacobian as the judge."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError
from pyro_seq.ops.divergence import exact_divergence, hutchinson_divergence, mlp_divergence
from pyro_seq.ops.mlp import ACTIVATIONS, apply_layers

TOLERANCE = {"rtol": 1e-12, "atol": 1e-12}


def make(sizes: list[int], *sample: int, bias: bool = True, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*sample, *shape, dtype=torch.float64, generator=generator).requires_grad_()

    return [(draw(rows, columns), draw(rows) if bias else None) for columns, rows in pairwise(sizes)]


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("hidden", [[], [5], [5, 4], [5, 4, 6], [5, 4, 6, 3]], ids=str)
@pytest.mark.parametrize("sample", [(), (4,), (4, 2)], ids=str)
@pytest.mark.parametrize("inputs", [None, slice(3, 6), slice(-4, -1)], ids=str)
def test_closed_form_equals_exact_under_stages_and_samples(hidden, sample, inputs):
    num_inputs = 3 if inputs is None else 7
    layers, activation = make([num_inputs, *hidden, 3], *sample), ACTIVATIONS["tanh"]
    state = normal(6, *sample, 2, num_inputs)
    closed = mlp_divergence(layers, activation, state, inputs=inputs)
    exact = exact_divergence(lambda x: apply_layers(layers, activation, x), state, inputs=inputs)
    assert closed.shape == state.shape[:-1]
    torch.testing.assert_close(closed, exact, **TOLERANCE)


def test_exact_equals_the_jacobian():
    layers, state = make([6, 5, 4, 3]), normal(4, 6)
    exact = exact_divergence(lambda x: apply_layers(layers, ACTIVATIONS["silu"], x), state, inputs=slice(3, 6))
    for row, value in zip(state, exact, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: apply_layers(layers, ACTIVATIONS["silu"], x), row)
        torch.testing.assert_close(jacobian[:, 3:6].trace(), value, **TOLERANCE)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [[5], [5, 4], [5, 4, 6]], ids=str)
def test_every_activation(name, hidden):
    layers, state = make([3, *hidden, 3], bias=False), normal(8, 3)
    closed = mlp_divergence(layers, ACTIVATIONS[name], state)
    exact = exact_divergence(lambda x: apply_layers(layers, ACTIVATIONS[name], x), state)
    torch.testing.assert_close(closed, exact, **TOLERANCE)


def test_hutchinson_is_unbiased_with_the_stated_variance():
    layers, state = make([6, 5, 3]), normal(4, 6)

    def field(x: Tensor) -> Tensor:
        return apply_layers(layers, ACTIVATIONS["tanh"], x)

    num_probes = 4000
    generator = torch.Generator().manual_seed(2)
    estimate = hutchinson_divergence(field, state, inputs=slice(3, 6), num_probes=num_probes, generator=generator)
    jacobian = torch.func.vmap(torch.func.jacrev(field))(state)[..., 3:6]
    mixed = jacobian + jacobian.mT
    variance = 0.5 * (mixed.square().sum((-1, -2)) - mixed.diagonal(dim1=-1, dim2=-2).square().sum(-1))
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    outcomes = torch.einsum("ci,sij,cj->cs", corners, jacobian, corners)  # all equally likely outcomes of one probe
    torch.testing.assert_close(outcomes.var(0, correction=0), variance, **TOLERANCE)
    exact = mlp_divergence(layers, ACTIVATIONS["tanh"], state, inputs=slice(3, 6))
    torch.testing.assert_close(outcomes.mean(0), exact, **TOLERANCE)
    assert ((estimate - exact).abs() < 4 * (variance / num_probes).sqrt()).all()


def test_hutchinson_is_exact_for_a_diagonal_jacobian_and_repeats_with_its_seed():
    state = normal(4, 6)
    estimate = hutchinson_divergence(lambda x: x**3, state, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimate, 3 * state.square().sum(-1), **TOLERANCE)
    layers = make([6, 5, 6])
    first, second = (
        hutchinson_divergence(
            lambda x: apply_layers(layers, ACTIVATIONS["tanh"], x), state, generator=torch.Generator().manual_seed(3)
        )
        for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("hidden", [[5], [5, 4], [5, 4, 6]], ids=str)
@pytest.mark.parametrize("sample", [(), (2,)], ids=str)
def test_gradients_agree(hidden, sample):
    layers, activation = make([6, *hidden, 3], *sample), ACTIVATIONS["softplus"]
    state = normal(*sample, 4, 6).requires_grad_()
    # The biases of the last layer do not reach a derivative.
    leaves = [state, *[tensor for layer in layers for tensor in layer][:-1]]
    weights = normal(*sample, 4, seed=9)
    routes = (
        mlp_divergence(layers, activation, state, inputs=slice(0, 3)),
        exact_divergence(lambda x: apply_layers(layers, activation, x), state, inputs=slice(0, 3)),
    )
    one, other = (torch.autograd.grad((route * weights).sum(), leaves) for route in routes)
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)
    assert torch.autograd.gradcheck(lambda x: mlp_divergence(layers, activation, x, inputs=slice(0, 3)), (state,))


def test_no_batch_axes():
    torch.testing.assert_close(exact_divergence(lambda x: x**2, torch.tensor([1.0, 2.0])), torch.tensor(6.0))


def test_wrong_input():
    layers, state = make([6, 5, 3]), normal(4, 6)

    def field(x: Tensor) -> Tensor:
        return apply_layers(layers, ACTIVATIONS["tanh"], x)

    generator = torch.Generator()
    for call in (
        lambda: mlp_divergence(layers, ACTIVATIONS["tanh"], state),
        lambda: exact_divergence(field, state),
        lambda: hutchinson_divergence(field, state, generator=generator),
    ):
        with pytest.raises(ShapeError, match="3 outputs and 6 inputs"):
            call()
    with pytest.raises(ShapeError, match="non-empty slice of step 1"):
        exact_divergence(field, state, inputs=slice(0, 6, 2))
    with pytest.raises(DataError, match="`num_probes`"):
        hutchinson_divergence(field, state, inputs=slice(0, 3), num_probes=0, generator=generator)
