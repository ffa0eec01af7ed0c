"""The recurrent baselines: the contract, the bound through a gap, filtering, and training in two phases."""

from __future__ import annotations

import copy
import dataclasses
import math

import pyro
import pytest
import torch
from pyro import poutine

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models.recurrent_vae import RecurrentVAE
from pyro_seq.nn.emission import BernoulliEmission
from pyro_seq.nn.recurrent import LSTMTransition
from pyro_seq.nn.subpixel import SubPixelDecoder
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import check_model

VAE, AE = 1.0, 1e-6  # largest variances of the encoder
GAP = torch.tensor([False, False, True, True, False, True])


def sequences(num_series=5, num_steps=6, obs_shape=(3,), dtype=torch.float64) -> Sequences:
    generator = torch.Generator().manual_seed(1)
    return Sequences(torch.rand(num_series, num_steps, *obs_shape, generator=generator, dtype=dtype))


def small_model(obs_shape=(3,), variance=VAE, **options) -> RecurrentVAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if len(obs_shape) == 3:
            options["emission"] = BernoulliEmission(SubPixelDecoder(2, obs_shape, 8, depth=2))
        return RecurrentVAE(obs_shape, 2, hidden_dim=6, maximum_variance=variance, **options)


def traces(model, data):
    with pyro.settings.context(module_local_params=True):
        guide_trace = poutine.trace(model.guide).get_trace(data)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(data)
    return model_trace, guide_trace


def copied(model, part: str) -> list[torch.Tensor]:
    return copy.deepcopy([value.detach() for value in getattr(model, part).state_dict().values()])


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("variance", [VAE, AE], ids=["VAE-RNN", "AE-RNN"])
@pytest.mark.parametrize("obs_shape", [(3,), (1, 7, 8)], ids=["vector", "image"])
def test_contract(obs_shape, variance):
    data = sequences(num_steps=9, obs_shape=obs_shape, dtype=torch.float32)
    report = check_model(small_model(obs_shape, variance), data, slow=obs_shape == (3,))
    assert report.names("not applicable") in ((), ("device_follows_the_data",))


@pytest.mark.parametrize("obs_shape", [(3,), (1, 8, 8), (3, 11, 6)])
def test_verbs_give_the_shapes_they_promise(obs_shape):
    posterior, data = GuidePosterior(RecurrentVAE(obs_shape)), sequences(obs_shape=obs_shape, dtype=torch.float32)
    assert forecast(posterior, data, horizon=4, num_samples=3).samples.shape == (3, 5, 4, *obs_shape)
    assert reconstruct(posterior, data, num_samples=3).emission_means.shape == (3, 5, 6, *obs_shape)
    assert sample(posterior, data, num_samples=3, chunk_size=2).samples.shape == (3, 5, 6, *obs_shape)


def test_a_forecast_from_no_frame_is_a_draw_of_the_prior():
    empty = sequences().first(0)
    prediction = forecast(GuidePosterior(small_model().double()), empty, horizon=4, num_samples=3)
    assert prediction.samples.shape == (3, 5, 4, 3) and bool(prediction.samples.isfinite().all())


# ---------------------------------------------------------------- the bound


def test_bound_counts_seen_steps_only():
    """Through a gap and at the end: at one draw, log q - log p is the sum over the seen steps."""
    model, data = small_model().double(), sequences()
    data = data.hide(GAP.expand(5, -1))
    model_trace, guide_trace = traces(model, data)
    path = guide_trace.nodes["codes"]["value"]
    got = guide_trace.nodes["codes"]["fn"].log_prob(path) - model_trace.nodes["codes"]["fn"].log_prob(path)
    code, steps = model.encoder(data.values, data.entry_mask), model.prior(data).conditionals(path)
    gap = (code.log_prob(path) - steps.log_prob(path)).sum(-1)
    torch.testing.assert_close(got, gap[:, ~GAP].sum(-1), rtol=1e-12, atol=1e-12)


def test_divergence_of_single_frames_is_the_closed_form_in_expectation():
    """Before the transition is trained the prior of a code is N(0, I)."""
    model, frames = small_model().double(), sequences().windows(1)
    code = model.encoder(frames.values, frames.entry_mask)
    prior = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    expected = float(torch.distributions.kl_divergence(code, prior).sum((-1, -2)).mean().detach())
    with torch.no_grad():
        drawn = torch.stack([Objective(model, num_particles=20)(frames).terms["codes"] for _ in range(200)])
    assert abs(float(drawn.mean()) - expected) < 4 * float(drawn.std()) / math.sqrt(200)


def test_without_divergence_the_objective_is_the_reconstruction():
    model, frames = small_model(variance=1e-20).double(), sequences().windows(1)
    loss = Objective(model, scales={"codes": 0.0})(frames)
    torch.testing.assert_close(loss.total, loss.terms["x"], rtol=0, atol=0)
    with torch.no_grad():
        code = model.encoder(frames.values, frames.entry_mask)
        exact = -model.emission(code.loc).log_prob(frames.values).sum((-1, -2)).mean()
    torch.testing.assert_close(loss.terms["x"].detach(), exact, rtol=1e-8, atol=0)


# ---------------------------------------------------------------- filtering


def test_hidden_frames_are_filled_from_the_past_only():
    model, data = small_model().double(), sequences()
    hidden = data.hide(GAP.expand(5, -1))
    later = dataclasses.replace(hidden, values=torch.where(torch.arange(6)[:, None] < 4, hidden.values, 0.5))
    draws, others = (GuidePosterior(model).draws(given, 3, seed=7)["codes"] for given in (hidden, later))
    assert torch.equal(draws[:, :, :4], others[:, :, :4])
    assert not torch.equal(draws[:, :, 4], others[:, :, 4])


def test_an_imputation_runs_on_the_network_s_own_output():
    """With next to no noise the hidden codes are the means given the codes before them, fed back."""
    model, data = small_model(variance=1e-24, transition=LSTMTransition(2, 6, minimum_scale=0.0)).double(), sequences()
    with torch.no_grad():
        model.transition.log_scale.fill_(-30.0)
    hidden = data.hide(GAP.expand(5, -1))
    path = impute(GuidePosterior(model), hidden, num_samples=1).latents["codes"][0]
    code = model.encoder(hidden.values, hidden.entry_mask).loc
    expected, memory = [code[:, 0]], ()
    with torch.no_grad():
        for step in range(1, 6):
            after, memory = model.transition(expected[-1][:, None], memory)
            expected.append(after.loc[:, 0] if GAP[step] else code[:, step])
    torch.testing.assert_close(path, torch.stack(expected, 1).detach(), rtol=0, atol=1e-9)
    still = model.encode(hidden).follow(torch.zeros_like(path))
    torch.testing.assert_close(path, still.detach(), rtol=0, atol=1e-9)


def test_seen_codes_depend_on_their_own_frame_only():
    model, data = small_model().double(), sequences()
    other = dataclasses.replace(data, values=torch.where(torch.arange(6)[:, None] == 2, data.values, 0.5))
    code, changed = (model.encode(given).encoded.loc for given in (data, other))
    torch.testing.assert_close(code[:, 2], changed[:, 2], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- two phases


def turning_points(num_series: int, seed: int) -> Sequences:
    """Points on the unit circle that turn by a fifth of a radian a step."""
    start = 2 * math.pi * torch.rand(num_series, 1, generator=torch.Generator().manual_seed(seed))
    angle = start + 0.2 * torch.arange(25)
    return Sequences(torch.stack([angle.cos(), angle.sin()], -1))


@pytest.mark.slow
@pytest.mark.parametrize("variance, scales", [(VAE, {}), (AE, {"codes": 0.0})], ids=["VAE-RNN", "AE-RNN"])
def test_two_phases_learn_a_rotation(variance, scales):
    train, test = turning_points(60, 0), turning_points(20, 1)
    model = small_model((2,), variance)
    model.transition.requires_grad_(False)
    before = copied(model, "transition")
    fit(model, train.windows(1), SVI(num_steps=500, batch_size=200, learning_rate=1e-2, scales=scales))
    assert all(map(torch.equal, copied(model, "transition"), before))
    model.requires_grad_(False)
    model.transition.requires_grad_(True)
    before = copied(model, "encoder"), copied(model, "emission")
    posterior = fit(model, train, SVI(num_steps=400, batch_size=30, learning_rate=2e-2))
    assert all(map(torch.equal, copied(model, "encoder") + copied(model, "emission"), before[0] + before[1]))
    given, truth = test.first(15), test.values[:, 15:]
    ahead = forecast(posterior, given, horizon=10, num_samples=20).mean
    standing = (given.values[:, -1:] - truth).square().mean()
    assert float((ahead - truth).square().mean()) < 0.25 * float(standing)


def test_codes_set_the_unit_once_their_encoder_is_frozen():
    """The unit of an auto-encoder's codes is arbitrary; a prior of N(0, I) is not."""
    model, data = small_model().double(), sequences()
    with torch.no_grad():
        model.encoder.head.weight.mul_(300.0)
    model.adapt(data)
    assert torch.equal(model.transition.initial(1).loc, torch.zeros(1, 2, dtype=torch.float64))
    model.encoder.requires_grad_(False)
    model.adapt(data)
    codes = model.encoder(data.values, data.entry_mask).loc.flatten(0, 1)
    first = model.transition.initial(1)
    torch.testing.assert_close(first.loc[0], codes.mean(0), rtol=1e-10, atol=0)
    torch.testing.assert_close(first.scale[0], codes.std(0, correction=0), rtol=1e-6, atol=0)


def test_the_whole_model_trains_at_once():
    train = turning_points(20, 0)
    posterior = fit(small_model((2,)), train, SVI(num_steps=30, learning_rate=1e-2))
    assert posterior.history["loss"][-1] < posterior.history["loss"][0]


# ---------------------------------------------------------------- errors


def test_errors_name_the_argument():
    posterior = GuidePosterior(small_model().double())
    with pytest.raises(ShapeError, match=r"`data.values` must have observations of shape \(3,\)"):
        forecast(posterior, sequences(obs_shape=(4,)), horizon=2)
    with pytest.raises(ShapeError, match=r"`data.inputs` must have 0 entries a step, the `input_dim` of the transi"):
        reconstruct(posterior, Sequences(torch.rand(2, 4, 3).double(), inputs=torch.rand(2, 4, 1)))
    with pytest.raises(DataError, match=r"`data.times` must be evenly spaced"):
        reconstruct(posterior, Sequences(torch.rand(2, 3, 3).double(), times=torch.tensor([0.0, 1.0, 3.0])))
    with pytest.raises(DataError, match="must be positive"):
        RecurrentVAE((3,), 0)
    with pytest.raises(DataError, match=r"codes of size `code_dim` = 2. Got 2 and 3"):
        RecurrentVAE((3,), 2, transition=LSTMTransition(3))
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        reconstruct(GuidePosterior(RecurrentVAE((1, 8, 8))), Sequences(255 * torch.rand(2, 4, 1, 8, 8)))
