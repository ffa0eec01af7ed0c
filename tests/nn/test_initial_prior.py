"""Priors of an initial state: densities, types, and gradients against closed forms."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.nn.initial_prior import LearnedNormal, StandardNormal


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_standard_normal_has_the_type_of_the_zeros(dtype):
    prior = StandardNormal().distribution(torch.zeros(3, dtype=dtype))
    value = torch.randn(5, 3, dtype=dtype)
    exact = -0.5 * (value.square() + torch.log(torch.tensor(2 * torch.pi, dtype=dtype))).sum(-1)
    assert prior.batch_shape == () and prior.event_shape == (3,)
    assert prior.sample().dtype == prior.log_prob(value).dtype == dtype
    torch.testing.assert_close(prior.log_prob(value), exact)


def test_the_learned_normal_begins_as_the_standard_one():
    zeros, value = torch.zeros(3), torch.randn(5, 3)
    pair = [module.distribution(zeros).log_prob(value) for module in (LearnedNormal(3), StandardNormal())]
    torch.testing.assert_close(pair[0], pair[1])


def test_gradients_of_the_learned_normal_are_the_closed_ones():
    r"""Those of log N(z; m, s^2): (z - m) / s^2 by m, and ((z - m) / s)^2 - 1 by log s."""
    module = LearnedNormal(3).double()
    with torch.no_grad():
        module.loc.copy_(torch.tensor([0.3, -1.0, 2.0]))
        module.log_scale.copy_(torch.tensor([-0.5, 0.0, 0.7]))
    value = torch.randn(6, 3, dtype=torch.float64)
    module.distribution(torch.zeros(3, dtype=torch.float64)).log_prob(value).sum().backward()
    gap, scale = value - module.loc.detach(), module.log_scale.detach().exp()
    torch.testing.assert_close(module.loc.grad, (gap / scale**2).sum(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(module.log_scale.grad, ((gap / scale) ** 2 - 1).sum(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("module", [StandardNormal(), LearnedNormal(3)])
def test_normals_have_no_terms_of_training(module):
    assert module.terms(module.distribution(torch.zeros(3)), torch.randn(2, 3)) == {}
