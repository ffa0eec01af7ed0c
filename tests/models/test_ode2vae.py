"""ODE2VAE: the density of its path, its objective, and the known faults of the public code, each shown absent."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from torch import nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.objective import Objective
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.flow import Flow
from pyro_seq.ops.odeint import RK4
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import check_model

DAMPING, STIFFNESS = 0.4, 1.3


def sequences(num_series=6, num_steps=8, obs_shape=(3,), dtype=torch.float64) -> Sequences:
    generator = torch.Generator().manual_seed(1)
    return Sequences(torch.rand(num_series, num_steps, *obs_shape, generator=generator, dtype=dtype))


def small_model(**options) -> ODE2VAE:
    options.setdefault("vector_field", BayesianMLP(4, 2, (6, 5)))
    return ODE2VAE((3,), 2, **options).double()


class LinearField(nn.Module):
    """Acceleration -stiffness s - damping v of a state (s, v)."""

    def forward(self, state):
        position, velocity = state.chunk(2, -1)
        return -STIFFNESS * position - DAMPING * velocity


def traces(model, data):
    with pyro.settings.context(module_local_params=True):
        guide_trace = poutine.trace(model.guide).get_trace(data)
        model_trace = poutine.trace(poutine.replay(model.model, trace=guide_trace)).get_trace(data)
    return model_trace, guide_trace


def linear_model(**options) -> ODE2VAE:
    return small_model(
        vector_field=DeterministicField(LinearField()), flow=Flow(2, solver=RK4(step_size=0.005)), **options
    )


def test_path_density_is_the_exact_gaussian_push_forward():
    model, data = linear_model(has_path_kl=True), sequences()
    model_trace, guide_trace = traces(model, data)
    initial, path = guide_trace.nodes["initial"], model_trace.nodes["path"]["value"]
    log_density = initial["fn"].log_prob(initial["value"])[:, None] - model_trace.nodes["volume"]["value"]
    identity, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    matrix = torch.cat([torch.cat([zero, identity], 1), torch.cat([-STIFFNESS * identity, -DAMPING * identity], 1)], 0)
    encoded = model.encode(data).base_dist
    for step, time in enumerate(0.1 * torch.arange(8, dtype=torch.float64)):
        flow = torch.linalg.matrix_exp(time * matrix)
        loc = encoded.loc @ flow.T
        covariance = flow @ torch.diag_embed(encoded.scale**2) @ flow.T
        exact = torch.distributions.MultivariateNormal(loc, covariance).log_prob(path[:, step])
        torch.testing.assert_close(log_density[:, step], exact, rtol=0, atol=1e-8)


def test_volume_of_a_linear_field_is_damping_times_dimension_times_time():
    model_trace, _ = traces(linear_model(has_path_kl=True), sequences())
    expected = -DAMPING * 2 * 0.1 * torch.arange(8, dtype=torch.float64)
    torch.testing.assert_close(model_trace.nodes["volume"]["value"], expected.expand(6, 8), rtol=1e-12, atol=1e-12)


def test_position_moves_with_the_velocity():
    model_trace, _ = traces(linear_model(), sequences())
    path = model_trace.nodes["path"]["value"].detach()
    half_step, times = 0.05, torch.tensor([0.0, 0.05, 0.1], dtype=torch.float64)
    initial = path[:, 3]
    moved = linear_model().flow(DeterministicField(LinearField()), initial, times).path
    # a central difference of width 2 h errs by h^2 / 6 times the third derivative, here below 5 (|s| + |v|)
    slope = (moved[:, 2, :2] - moved[:, 0, :2]) / (2 * half_step)
    bound = half_step**2 / 6 * 5 * float(moved.abs().max() * 4)
    torch.testing.assert_close(slope, moved[:, 1, 2:], rtol=0, atol=bound)


# ---------------------------------------------------------------- faults of the public code, absent


def test_log_scale_of_the_initial_state_counts():
    """The instant-encoder term at the first time compares a density with itself: zero, with zero gradient."""
    model = small_model(has_instant_encoder=True)
    data = sequences(num_steps=3)  # as long as the encoder's window, so the first time is the only one
    term = model.regulariser(data, *traces(model, data))["instant_encoder"]
    torch.testing.assert_close(term, torch.zeros_like(term), rtol=0, atol=1e-12)
    gradients = torch.autograd.grad(term.sum(), list(model.encoder.parameters()), allow_unused=True)
    assert max(float(gradient.abs().max()) for gradient in gradients if gradient is not None) < 1e-10


def test_divergence_of_the_initial_state_is_the_closed_form_in_expectation():
    model, data = small_model(), sequences()
    closed = Objective(model)(data).terms["initial"].detach()
    drawn = torch.stack([Objective(model, analytic_kl=False)(data).terms["initial"].detach() for _ in range(400)])
    assert abs(float(drawn.mean() - closed)) < 4 * float(drawn.std()) / 400**0.5
    encoded = model.encode(data).base_dist
    expected = 0.5 * (encoded.loc**2 + encoded.scale**2 - 1 - 2 * encoded.scale.log()).sum(-1).mean().detach()
    torch.testing.assert_close(closed, expected, rtol=1e-10, atol=0)


def test_scale_of_the_encoder_is_the_spread_of_its_draws():
    model, data = small_model(), sequences()
    draws = GuidePosterior(model).draws(data, 4000)["initial"]
    encoded = model.encode(data).base_dist
    ratio = draws.var(0) / encoded.scale.detach() ** 2
    assert float((ratio - 1).abs().max()) < 5 * (2 / 4000) ** 0.5


def test_weights_count_once_and_every_series_once():
    """Loss times the number of series: one divergence of the weights, and likelihoods summed over all series."""
    model, data = small_model(), sequences(num_series=6)
    with torch.no_grad():
        whole = Objective(model)(data).terms
        halves = [Objective(model)(data.minibatch(torch.arange(3) + start)).terms for start in (0, 3)]
    weights = model.vector_field
    posterior = torch.distributions.Normal(weights.loc, weights.log_scale.exp())
    once = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(whole["weights"] * 6, once.detach(), rtol=1e-10, atol=0)
    for half in halves:
        torch.testing.assert_close(half["weights"], whole["weights"], rtol=1e-12, atol=0)
    torch.testing.assert_close((halves[0]["initial"] + halves[1]["initial"]) / 2, whole["initial"], rtol=1e-10, atol=0)


@pytest.mark.parametrize("obs_shape", [(3,), (1, 9, 8)])
def test_no_statistics_of_the_batch(obs_shape):
    model = ODE2VAE(obs_shape, 2).double()
    data = sequences(obs_shape=obs_shape)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    together, alone = model.encode(data).base_dist.loc, model.encode(data[2:3]).base_dist.loc
    torch.testing.assert_close(together[2:3], alone, rtol=1e-12, atol=1e-12)
    model.eval()
    torch.testing.assert_close(model.encode(data).base_dist.loc, together, rtol=0, atol=0)


# ---------------------------------------------------------------- objective


def test_path_terms_are_what_they_say():
    model, data = small_model(has_path_kl=True, has_instant_encoder=True), sequences()
    data = data.hide(torch.arange(8).expand(6, 8) == 5)
    model_trace, guide_trace = traces(model, data)
    terms = model.regulariser(data, model_trace, guide_trace)
    initial, path = guide_trace.nodes["initial"], model_trace.nodes["path"]["value"]
    log_density = initial["fn"].log_prob(initial["value"])[:, None] - model_trace.nodes["volume"]["value"]
    prior = torch.distributions.Normal(torch.zeros(4, dtype=torch.float64), 1.0)
    expected = sum(log_density[:, t] - prior.log_prob(path[:, t]).sum(-1) for t in (1, 2, 3, 4, 6, 7))
    torch.testing.assert_close(terms["path_kl"], expected, rtol=1e-10, atol=1e-10)
    windows = []
    for t in (0, 1, 2, 3, 4):
        window = data.take_steps(torch.arange(t, t + 3))
        windows.append(log_density[:, t] - model.encode(window).log_prob(path[:, t]))
    torch.testing.assert_close(terms["instant_encoder"], sum(windows), rtol=1e-10, atol=1e-10)


def test_path_terms_only_loosen_the_bound():
    """The expected divergence at every later time is positive."""
    model, data = small_model(has_path_kl=True), sequences()
    with torch.no_grad():
        draws = torch.stack([Objective(model)(data).terms["path_kl"] for _ in range(100)])
    assert float(draws.mean()) > 4 * float(draws.std()) / 10


def test_several_trajectories_at_once_equal_each_alone():
    model, data = small_model(has_path_kl=True, has_instant_encoder=True), sequences()
    with pyro.plate("particles", 3, dim=-2):
        together, guide_trace = traces(model, data)
    terms = model.regulariser(data, together, guide_trace)
    for particle in range(3):
        draw = {
            "weights": guide_trace.nodes["weights"]["value"][particle, 0],
            "initial": guide_trace.nodes["initial"]["value"][particle],
        }
        with pyro.settings.context(module_local_params=True):
            alone = poutine.trace(poutine.condition(model.model, data=draw)).get_trace(data)
        for site in ("path", "volume"):
            expected = together.nodes[site]["value"][particle]
            torch.testing.assert_close(alone.nodes[site]["value"], expected, rtol=1e-10, atol=1e-10)
        scored = together.nodes["x"]["fn"].log_prob(data.values)[particle]
        torch.testing.assert_close(alone.nodes["x"]["fn"].log_prob(data.values), scored, rtol=1e-10, atol=1e-10)
    assert {name: term.shape for name, term in terms.items()} == {"path_kl": (3, 6), "instant_encoder": (3, 6)}


def test_irregular_times_of_one_series_equal_that_series_alone():
    model = small_model()
    times = torch.linspace(0, 7, 8, dtype=torch.float64) + torch.rand(6, 8, dtype=torch.float64).cumsum(-1)
    base = sequences()
    data = Sequences(base.values, times=times)
    model.adapt(data)
    path = _mean_path(model, data)
    for series in range(6):
        torch.testing.assert_close(path[series], _mean_path(model, data[series])[0], rtol=1e-10, atol=1e-10)


def _mean_path(model, data):
    """The path from the encoder's mean under the mean field."""
    with torch.no_grad():
        initial = model.encode(data).base_dist.loc
        return model.flow(model.vector_field.mean_function(), initial, model.time_step * model.model_times(data)).path


def test_shifted_and_rescaled_times_give_the_same_objective():
    data = sequences()
    losses = []
    for times in (data.times, 1e6 + data.times, 3600 * data.times):
        moved, model = Sequences(data.values, times=times), small_model()
        torch.manual_seed(3)
        model.load_state_dict(_reference_state())
        model.adapt(moved)
        torch.manual_seed(4)
        losses.append(Objective(model)(moved).total.detach())
    torch.testing.assert_close(torch.stack(losses), losses[0].expand(3), rtol=1e-9, atol=0)


def _reference_state():
    torch.manual_seed(2)
    return small_model().state_dict()


def test_first_order_flow_is_a_neural_ode():
    model = ODE2VAE((3,), 4, flow=Flow(4, order=1), vector_field=BayesianMLP(4, 4, (6, 5))).double()
    prediction = forecast(GuidePosterior(model), sequences(), horizon=2, num_samples=3)
    assert prediction.latents["path"].shape == (3, 6, 10, 4)
    assert model.encoder.velocity is None


@pytest.mark.parametrize("obs_shape", [(3,), (1, 8, 8), (3, 11, 6)])
def test_verbs_give_the_shapes_they_promise(obs_shape):
    model, data = ODE2VAE(obs_shape, 2), sequences(obs_shape=obs_shape, dtype=torch.float32)
    posterior = GuidePosterior(model)
    assert forecast(posterior, data, horizon=4, num_samples=3).samples.shape == (3, 6, 4, *obs_shape)
    assert reconstruct(posterior, data, num_samples=3).emission_means.shape == (3, 6, 8, *obs_shape)
    assert sample(posterior, data, num_samples=3, chunk_size=2).samples.shape == (3, 6, 8, *obs_shape)
    hidden = data.hide(torch.arange(8).expand(6, 8) == 4)
    filled = impute(posterior, hidden, num_samples=3)
    assert torch.equal(filled.samples[0, :, :4], data.values[:, :4])


def test_fewer_frames_than_the_window_are_missing_frames():
    model, data = small_model(), sequences()
    short = model.encode(data.first(1)).base_dist
    hidden = model.encode(data.first(3).hide(torch.tensor([[False, True, True]]).expand(6, 3))).base_dist
    assert short.loc.shape == (6, 4)
    torch.testing.assert_close(short.loc[:, :2], hidden.loc[:, :2], rtol=0, atol=0)


# ---------------------------------------------------------------- errors


def test_errors_name_the_argument():
    posterior = GuidePosterior(small_model())
    with pytest.raises(ShapeError, match=r"`data.values` must have observations of shape \(3,\)"):
        forecast(posterior, sequences(obs_shape=(4,)), horizon=2)
    with pytest.raises(ShapeError, match=r"`data.inputs` must have 0 entries a step, the `input_dim` of the flow"):
        forecast(posterior, Sequences(torch.rand(2, 4, 3).double(), inputs=torch.rand(2, 4, 1)).seen(), horizon=0)
    with pytest.raises(DataError, match="must be positive"):
        ODE2VAE((3,), 0)
    images = ODE2VAE((1, 8, 8), 2)
    with pytest.raises(DataError, match=r"must lie in \[0, 1\].*Divide 8-bit images by 255"):
        reconstruct(GuidePosterior(images), Sequences(255 * torch.rand(2, 4, 1, 8, 8)))


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("is_bayesian", [True, False])
@pytest.mark.parametrize("has_path_terms", [True, False])
@pytest.mark.parametrize("obs_shape", [(3,), (1, 8, 8)])
def test_contract(obs_shape, has_path_terms, is_bayesian):
    field = BayesianMLP(4, 2, (6, 5), is_bayesian=is_bayesian)
    model = ODE2VAE(obs_shape, 2, vector_field=field, has_path_kl=has_path_terms, has_instant_encoder=has_path_terms)
    report = check_model(model, sequences(num_steps=9, obs_shape=obs_shape, dtype=torch.float32))
    assert report.names("not applicable") in ((), ("device_follows_the_data",))
