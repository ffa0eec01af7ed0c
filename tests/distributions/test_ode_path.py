"""The density of a state carried by a flow, against the exact push-forward of a Gaussian along a linear flow."""

from __future__ import annotations

import itertools
import math

import pyro.distributions as dist
import pytest
import torch

from pyro_seq.distributions import ODEPushForward
from pyro_seq.errors import ShapeError
from pyro_seq.ops.odeint import RK4

DAMPING, STIFFNESS = 0.3, 1.7


def companion_matrix(dim: int) -> torch.Tensor:
    """State matrix of s'' = -damping s' - stiffness s, with the state (position, velocity)."""
    identity, zero = torch.eye(dim, dtype=torch.float64), torch.zeros(dim, dim, dtype=torch.float64)
    return torch.cat([torch.cat([zero, identity], 1), torch.cat([-STIFFNESS * identity, -DAMPING * identity], 1)], 0)


def push_forward(dim: int, num_steps: int) -> tuple[ODEPushForward, torch.distributions.Distribution]:
    """The library's distribution at time 1.5, and the exact Gaussian."""
    matrix = companion_matrix(dim)
    loc = torch.linspace(-1, 1, 2 * dim, dtype=torch.float64)
    scale = torch.linspace(0.5, 1.5, 2 * dim, dtype=torch.float64)
    times = torch.linspace(0, 1.5, num_steps + 1, dtype=torch.float64)
    pushed = ODEPushForward(
        dist.Normal(loc, scale).to_event(1),
        lambda _, state: state @ matrix.T,
        lambda _, state: torch.full_like(state[..., 0], float(matrix.trace())),
        times,
        RK4(),
    )
    flow = torch.linalg.matrix_exp(1.5 * matrix)
    exact = torch.distributions.MultivariateNormal(flow @ loc, flow @ torch.diag(scale**2) @ flow.T)
    return pushed, exact


def test_density_is_the_exact_gaussian_push_forward():
    pushed, exact = push_forward(dim=3, num_steps=300)
    states = exact.sample((50,))
    # 300 classical Runge-Kutta steps of 0.005: the global error is of the order 0.005^4 = 6e-10
    torch.testing.assert_close(pushed.log_prob(states), exact.log_prob(states), rtol=0, atol=1e-8)


def test_density_converges_at_the_order_of_the_solver():
    errors = []
    for num_steps in (5, 10, 20):
        pushed, exact = push_forward(dim=2, num_steps=num_steps)
        states = exact.mean + torch.linspace(-1, 1, 4, dtype=torch.float64) * exact.stddev
        errors.append(float((pushed.log_prob(states) - exact.log_prob(states)).abs()))
    rates = [math.log2(coarse / fine) for coarse, fine in itertools.pairwise(errors)]
    assert rates == pytest.approx([4, 4], abs=0.4)


def test_samples_have_the_exact_moments():
    pushed, exact = push_forward(dim=2, num_steps=30)
    count = 20_000
    draws = pushed.rsample((count,))
    error = (draws.mean(0) - exact.mean) / (exact.stddev / count**0.5)
    assert float(error.abs().max()) < 4.5
    # a sample variance has the standard error sqrt(2 / n) relative to the truth
    assert float((draws.var(0) / exact.variance - 1).abs().max()) < 4.5 * (2 / count) ** 0.5


def test_expansion_keeps_the_density():
    pushed, _ = push_forward(dim=1, num_steps=10)
    state = torch.tensor([0.3, -0.2], dtype=torch.float64)
    torch.testing.assert_close(pushed.expand((5,)).log_prob(state.expand(5, 2)), pushed.log_prob(state).expand(5))


def test_scalar_events_are_refused():
    with pytest.raises(ShapeError, match="`initial` must have the event shape"):
        ODEPushForward(dist.Normal(0.0, 1.0), lambda t, z: z, lambda t, z: z, torch.arange(3.0))
