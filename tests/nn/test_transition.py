"""Transitions: an Euler step, orthogonal matrices at the start, the gated unit against torch's, sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_seq.errors import DataError
from pyro_seq.nn.transition import GRUTransition, MLPTransition, NoisePrior, ResidualTransition, softplus_normal

STATE, NOISE = torch.randn(4, 3, 5), torch.randn(4, 3, 2)


def test_a_residual_step_is_one_of_euler():
    transition = ResidualTransition(5, 2, (8,))
    rate = transition.velocity(torch.cat([STATE, NOISE], -1))
    torch.testing.assert_close(transition(STATE, NOISE, 0.25), STATE + 0.25 * rate)


@pytest.mark.parametrize("gain", [1.41, 1.2])
def test_the_rate_starts_orthogonal(gain):
    for layer in ResidualTransition(5, 2, (8, 8), gain=gain).velocity:
        if isinstance(layer, nn.Linear):
            rows, columns = layer.weight.shape
            product = layer.weight @ layer.weight.T if rows <= columns else layer.weight.T @ layer.weight
            torch.testing.assert_close(product, gain**2 * torch.eye(min(rows, columns)), rtol=0, atol=1e-5)
            assert not bool(layer.bias.any())


@pytest.mark.parametrize("state_dim, hidden_dim, expected", [(20, 512, 1.41), (8, 64, 1.22), (50, 512, 1.26)])
def test_the_gain_by_itself_makes_the_rate_as_strong_as_in_the_paper(state_dim, hidden_dim, expected):
    first = ResidualTransition(state_dim, state_dim, (hidden_dim,) * 3).velocity[0].weight.detach()
    torch.testing.assert_close(first.T @ first, expected**2 * torch.eye(2 * state_dim), rtol=0.01, atol=1e-4)


def test_states_do_not_explode_at_the_start():
    """Over the fifteen frames of a clip, in a network far narrower than the paper's."""
    for _ in range(5):
        transition, state = ResidualTransition(8, 4, (64, 64, 64)), torch.randn(64, 8)
        for _ in range(14):
            state = transition(state, torch.randn(64, 4), 1.0)
        assert float(state.detach().norm(dim=-1).mean()) < 500


def test_the_mlp_computes_the_state_anew():
    transition = MLPTransition(5, 2, (8,))
    torch.testing.assert_close(transition(STATE, NOISE), transition.next(torch.cat([STATE, NOISE], -1)))


def test_the_gated_unit_carries_the_state_as_its_memory():
    transition = GRUTransition(5, 2)
    torch.testing.assert_close(transition(STATE, NOISE)[1], transition.cell(NOISE[1], STATE[1]))
    with pytest.raises(DataError, match=r"`noise_dim` must be at least 1: a GRU needs an input. Got 0"):
        GRUTransition(5, 0)


def test_only_a_residual_transition_takes_shorter_steps():
    assert [t.is_residual for t in (ResidualTransition, MLPTransition, GRUTransition)] == [True, False, False]


def test_scales_are_positive_whatever_the_features():
    normal = softplus_normal(torch.tensor([[1.0, -2.0, -200.0, 3.0]]))
    assert normal.loc.tolist() == [[1.0, -2.0]]
    torch.testing.assert_close(normal.scale, torch.tensor([[1e-4, 3.0001 + torch.tensor(-3.0).exp().log1p()]]))
    assert NoisePrior(5, 2, (8,))(STATE).batch_shape == (4, 3, 2)


def test_sizes_are_checked():
    with pytest.raises(DataError, match="`state_dim` must be positive, `noise_dim` 0 or more. Got 0 and 2"):
        ResidualTransition(0, 2)
