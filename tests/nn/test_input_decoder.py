"""Effects of inputs on what is seen of a state."""

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.errors import DataError


def test_effects_are_added_and_none_at_the_start():
    decoder = ps.InputDecoder(2, (3,), nn.Linear(4, 3))
    position, inputs = torch.randn(5, 4), torch.randn(5, 2)
    whole = torch.cat([position, inputs], -1)
    assert torch.equal(decoder(whole), decoder.decoder(position))
    nn.init.ones_(decoder.effect[-1].weight)
    torch.testing.assert_close(decoder(whole), decoder.decoder(position) + inputs.sum(-1, keepdim=True))


@pytest.mark.parametrize("obs_shape", [(3,), (1, 8, 8)])
def test_a_model_makes_the_decoder_that_lacks(obs_shape):
    emission = ps.GaussianEmission if len(obs_shape) == 1 else ps.BernoulliEmission
    given = emission(ps.InputDecoder(2, obs_shape))
    model = ps.ODE2VAE(obs_shape, 2, emission=given)  # the field reads no inputs
    assert model.emission.decoder.decoder is not None and model.known.dim == model.encoder.input_dim == 2
    data = ps.Sequences(torch.rand(3, 5, *obs_shape), inputs=torch.randn(3, 5, 2))
    ps.fit(model, data, ps.SVI(num_steps=1), trainer=ps.Trainer(progress=False))
    with torch.no_grad():
        model.emission.decoder.effect[-1].bias.fill_(0.5)
        model.emission.decoder.effect[-1].weight.fill_(0.5)
    posterior = ps.GuidePosterior(model)
    raised = ps.Sequences(data.values, inputs=data.inputs + 1)
    seen = [ps.sample(posterior, given, num_samples=2, seed=0) for given in (data, raised)]
    assert torch.equal(seen[0].latents["path"], seen[1].latents["path"])
    assert (seen[1].emission_means > seen[0].emission_means).all()


def test_an_effect_needs_an_input():
    with pytest.raises(DataError, match="`input_dim` must be"):
        ps.InputDecoder(0, (3,))
