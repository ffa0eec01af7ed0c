"""A flow of a linear field: its rate, its position, its divergence, and the matrix exponential."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_seq.errors import DataError
from pyro_seq.nn.bayesian import DeterministicField
from pyro_seq.nn.flow import Flow, SteeredFunction
from pyro_seq.ops.odeint import RK4

DIM = 2


def linear_flow(order: int) -> tuple[Flow, DeterministicField, torch.Tensor]:
    """A flow, its field s^(n) = W z, and the matrix of the whole state."""
    layer = nn.Linear(order * DIM, DIM, bias=False).double()
    nn.init.normal_(layer.weight, 0.0, 0.5, generator=torch.Generator().manual_seed(order))
    shift = torch.eye(order * DIM, dtype=torch.float64)[DIM:]
    matrix = torch.cat([shift, layer.weight.detach()])
    return Flow(DIM, order=order, solver=RK4(step_size=0.01)), DeterministicField(layer), matrix


@pytest.mark.parametrize("order", [1, 2, 3])
def test_rate_position_and_divergence_of_a_linear_field(order):
    flow, field, matrix = linear_flow(order)
    state = torch.randn(4, 3, order * DIM, dtype=torch.float64)
    torch.testing.assert_close(flow.rate(field, state), state @ matrix.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(flow.divergence(field, state), matrix.trace().expand(4, 3), rtol=1e-12, atol=1e-12)
    assert torch.equal(flow.position(state), state[..., :DIM])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_paths_are_those_of_the_matrix_exponential(order):
    flow, field, matrix = linear_flow(order)
    initial, times = torch.randn(3, order * DIM, dtype=torch.float64), torch.tensor([0.0, 0.3, 1.0]).double()
    speed = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    solution = flow(field, initial, times, speed=speed, has_volume=True)
    elapsed = speed[:, None] * times
    exact = (torch.linalg.matrix_exp(elapsed[..., None, None] * matrix) @ initial[:, None, :, None])[..., 0]
    # Runge-Kutta of order 4, with steps of 0.02 at most in a series' own time: an error of the order 0.02^4 = 2e-7
    torch.testing.assert_close(solution.path, exact, rtol=0, atol=1e-6)
    torch.testing.assert_close(solution.integral, elapsed * matrix.trace(), rtol=1e-10, atol=1e-10)
    assert flow(field, initial, times).integral is None


def test_a_steered_function_reads_the_constant_and_moves_the_state_alone():
    layer = nn.Linear(2 + 3, 2, bias=False).double()
    state, constant = torch.randn(4, 5, 2, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    steered = SteeredFunction(DeterministicField(layer), constant)
    own, other = layer.weight.split([2, 3], -1)
    torch.testing.assert_close(steered(state), state @ own.T + constant @ other.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(steered.divergence(state, slice(0, 2)), own.trace().expand(4, 5), rtol=1e-12, atol=0)


def test_the_state_stacks_named_derivatives():
    flow = Flow(2, order=2)
    assert flow.state_dim == 4
    assert flow.state_names == ("position_0", "position_1", "velocity_0", "velocity_1")


@pytest.mark.parametrize(("dim", "order"), [(0, 1), (2, 0), (2, 5)])
def test_orders_are_one_to_four(dim, order):
    with pytest.raises(DataError, match=f"`order` 1 to 4. Got {dim} and {order}"):
        Flow(dim, order=order)
