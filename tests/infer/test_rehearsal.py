"""The guide's second look at the data: its value and gradient by another route, and who learns."""

from __future__ import annotations

import torch
from pyro import poutine

import pyro_seq as ps
from pyro_seq.infer.parameter_groups import parameter_groups
from pyro_seq.infer.rehearsal import rehearsal_loss
from pyro_seq.model import local_parameters
from tests import toy


def test_value_and_gradient_are_those_of_the_bound_at_a_given_shared_latent():
    """The lines by hand: log density of the noise and of the prior against that of the encoder's draw."""
    model, data, drift = toy.make_lines(), toy.make_data(6), torch.tensor([0.4])
    learners = list(model.encoder.parameters())
    with local_parameters():
        torch.manual_seed(3)
        losses = rehearsal_loss(model, data, {"drift": drift}, learners)
    loc, log_scale = model.encoder(data.values[:, : toy.SEEN].flatten(1)).chunk(2, -1)
    torch.manual_seed(3)
    line = loc + log_scale.exp() * torch.randn(loc.shape)
    path = line[:, :1] + (line[:, 1:] + drift) * model.model_times(data)
    density = torch.distributions.Normal(model.emit(path[..., None]), toy.NOISE).log_prob(data.values).sum((1, 2))
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(line).sum(1)
    guide = torch.distributions.Normal(loc, log_scale.exp()).log_prob(line).sum(1)
    by_hand = guide - prior - density
    assert torch.allclose(losses, by_hand, rtol=1e-5)
    got, right = (torch.autograd.grad(total.sum(), learners) for total in (losses, by_hand))
    for one, other in zip(got, right, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_only_the_guide_of_a_series_learns():
    for model, data in [
        (toy.make_lines(), toy.make_data(4)),
        (ps.ODE2VAE((2,), 2), ps.Sequences(torch.rand(4, 6, 2))),
        (ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2)), ps.Sequences(torch.rand(4, 6, 2))),
    ]:
        learners = parameter_groups(model, data).others
        with local_parameters():
            trace = poutine.trace(model.guide).get_trace(model.prepare(data))
            shared = {
                name: trace.nodes[name]["value"].detach().reshape(-1)
                for name in ("drift", "weights")
                if name in trace.nodes
            }
            losses = rehearsal_loss(model, model.prepare(data), shared, learners)
        losses.sum().backward()
        taught = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is not None}
        assert taught == {"encoder"}
