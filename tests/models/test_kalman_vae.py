"""Kalman VAE: its bound, its imputations and its forecasts against dense Gaussians; the contract."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.svi import SVI
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.nn.conv import ConvTrunk
from pyro_seq.nn.emission import BernoulliEmission, GaussianEmission
from pyro_seq.nn.frame import FrameEncoder
from pyro_seq.nn.subpixel import SubPixelDecoder
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.testing import check_model
from pyro_seq.training.trainer import Trainer
from tests.dense_gaussian import (
    CODE,
    STATE,
    Gaussian,
    assert_moments,
    dense_path,
    normal,
    of_series,
    places,
    random_dynamics,
)

TIME, SERIES, OBS = 4, 3, 3
FORMS = pytest.mark.parametrize("has_states", [False, True], ids=["closed form", "states"])
INPUTS = pytest.mark.parametrize("has_inputs", [False, True], ids=["no inputs", "inputs"])
LINEAR = pytest.mark.parametrize("kind", ["one", "continuous one"])
UNEVEN = torch.tensor([0.0, 0.3, 1.9, 2.0, 2.1, 4.0, 4.6, 5.5, 5.7, 8.0], dtype=torch.float64)


class LinearEncoder(nn.Module):
    """Codes linear in the frame, with one scale an entry."""

    def __init__(self, obs_dim: int = OBS, dim: int = CODE) -> None:
        super().__init__()
        self.dim = dim
        self.layer = nn.Linear(obs_dim, dim)
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def adapt(self, data: Sequences) -> None:
        """Frames keep their unit."""

    def forward(self, frames: Tensor, mask: Tensor) -> dist.Normal:
        loc = self.layer(frames * mask)
        return dist.Normal(loc, self.log_scale.exp().expand_as(loc))


def linear_model(kind: str = "one", *, seed: int = 0, has_states: bool = False, **options) -> KalmanVAE:
    """A linear encoder, a linear Gaussian emission: with one mode, everything has a closed form."""
    emission = GaussianEmission(nn.Linear(CODE, OBS), scale_shape=(OBS,))
    model = KalmanVAE(
        (OBS,), dynamics=random_dynamics(kind, **options), encoder=LinearEncoder(), emission=emission,
        has_states=has_states,
    ).double()  # fmt: skip
    with torch.no_grad():
        for number, part in enumerate([*model.encoder.parameters(), *model.emission.parameters()]):
            part.copy_(0.5 * normal(*part.shape, seed=100 * seed + number))
    return model


def sequences(
    has_inputs: bool = False, *, num_steps: int = TIME, hidden: Tensor | None = None, kind: str = "one"
) -> Sequences:
    """Series at even times, or at uneven ones of their own for dynamics in continuous time."""
    inputs = normal(SERIES, num_steps, 2, seed=8) if has_inputs else None
    times = uneven_times()[:, :num_steps] if kind.startswith("continuous") else None
    data = Sequences(normal(SERIES, num_steps, OBS, seed=7), inputs=inputs, times=times)
    return data if hidden is None else data.hide(hidden)


def uneven_times() -> Tensor:
    return UNEVEN * torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)[:, None] + 7.0


def prior_of_codes(model: KalmanVAE, data: Sequences, series: int, horizon: int = 0) -> Gaussian:
    """The dense Gaussian of all codes of a series under a model with one mode."""
    steps = data.num_steps + horizon
    parts = [] if data.inputs is None else [data.inputs[series]]
    parts += [] if model.has_even_times else [uneven_times()[series, :steps].diff(prepend=torch.zeros(1))[:, None]]
    inputs = torch.cat(parts, -1) if parts else None
    parameters, _ = model.dynamics(torch.zeros(steps, CODE, dtype=torch.float64), inputs, None)
    dense = dense_path(of_series(parameters), steps)
    return dense.joint.marginal(dense.codes()).detached()


def emission_of(model: KalmanVAE, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Matrix, shift and noise variance from the codes of some steps to their observations."""
    layer, scale = model.emission.decoder, model.emission.scale
    matrix = torch.block_diag(*[layer.weight] * num_steps)
    return matrix.detach(), layer.bias.repeat(num_steps).detach(), scale.square().repeat(num_steps).detach()


def evidence_and_posterior(model: KalmanVAE, data: Sequences, series: int) -> tuple[Tensor, Gaussian]:
    """Exact log density of a series, and the exact posterior of its codes."""
    prior, (matrix, shift, noise) = prior_of_codes(model, data, series), emission_of(model, data.num_steps)
    value, seen = data.values[series].flatten(), prior.mapped(matrix, shift, noise)
    gain = torch.linalg.solve(seen.cov, matrix @ prior.cov).mT
    posterior = Gaussian(prior.mean + gain @ (value - seen.mean), prior.cov - gain @ matrix @ prior.cov)
    return seen.log_prob(value), posterior


def bounds(model: KalmanVAE, data: Sequences, codes: Tensor) -> Tensor:
    """The bound at given draws of the codes, (draw, series), from the densities of all sites of guide and model."""
    total = torch.zeros(len(codes), data.num_series, dtype=torch.float64)
    values = {"codes": codes}
    with torch.no_grad(), pyro.settings.context(module_local_params=True), pyro.plate("draws", len(codes), dim=-2):
        for program, sign in ((model.guide, -1), (model.model, 1)):
            trace = poutine.trace(poutine.condition(program, data=dict(values))).get_trace(data)
            for name in ("codes", "states", "x"):
                if name in trace.nodes:
                    site = trace.nodes[name]
                    values |= {name: site["value"]} if name != "x" else {}
                    total = total + sign * site["fn"].log_prob(site["value"])
    return total


def sigma_points(loc: Tensor, scale: Tensor) -> Tensor:
    """Points with equal weights that integrate every quadratic over independent normals exactly."""
    size = loc[0].numel()
    steps = math.sqrt(size) * torch.eye(size, dtype=torch.float64).unflatten(-1, loc.shape[1:])
    return loc + torch.cat([steps, -steps])[:, None] * scale


# ---------------------------------------------------------------- the bound


@FORMS
@INPUTS
@LINEAR
@pytest.mark.parametrize("seed", range(3))
def test_the_bound_is_the_evidence_less_the_divergence_of_the_encoder(seed, kind, has_inputs, has_states):
    """Exactly at every draw, and in expectation, with both from dense Gaussians."""
    model = linear_model(kind, seed=seed, has_states=has_states, input_dim=2 * has_inputs)
    data = sequences(has_inputs, kind=kind)
    encoded = model.encode(data)
    loc, scale = encoded.loc.detach(), encoded.scale.detach()
    draws, points = normal(5, SERIES, TIME, CODE), sigma_points(loc, scale)
    at_draws, expected = bounds(model, data, draws), bounds(model, data, points).mean(0)
    for series in range(SERIES):
        evidence, posterior = evidence_and_posterior(model, data, series)
        encoder = Gaussian(loc[series].flatten(), scale[series].flatten().square().diag())
        flat = draws[:, series].flatten(1)
        exact = evidence + posterior.log_prob(flat) - encoder.log_prob(flat)
        torch.testing.assert_close(at_draws[:, series], exact, rtol=1e-11, atol=1e-9)
        divergence = torch.distributions.kl_divergence(
            torch.distributions.MultivariateNormal(*encoder), torch.distributions.MultivariateNormal(*posterior)
        )
        torch.testing.assert_close(expected[series], evidence - divergence, rtol=1e-11, atol=1e-9)
        assert float(expected[series]) < float(evidence)


@FORMS
def test_the_objective_is_minus_the_bound_a_series(has_states):
    model, data = linear_model("lstm", has_states=has_states), sequences()
    torch.manual_seed(5)
    loss = Objective(model)(data).total.detach()
    torch.manual_seed(5)
    codes = model.encode(data).rsample().detach()
    torch.testing.assert_close(loss, -bounds(model, data, codes[None]).mean(), rtol=1e-12, atol=0)


@FORMS
def test_the_bound_is_the_evidence_where_the_encoder_can_be_exact(has_states):
    """Without dependence between steps or entries the posterior factorises, and an encoder of frames can match it."""
    model, data = linear_model(has_states=has_states, state_dim=2), sequences()
    dynamics, decoder = model.dynamics, model.emission.decoder
    with torch.no_grad():
        dynamics.transition.zero_()
        dynamics.observation.copy_(torch.tensor([[[0.9, 0.0], [0.0, -0.5]]]))
        decoder.weight.copy_(torch.tensor([[1.0, 0.4], [0.8, -0.5], [0.0, 0.7]]))  # orthogonal columns
        model.emission.log_scale.fill_(-0.4)
        dynamics.initial_mean.zero_()
        dynamics.log_initial_variance.copy_(dynamics.log_transition_variance)  # the same law at the first step
        noise, prior_of_states = model.emission.scale[0].square(), dynamics.log_transition_variance.exp()
        variance = dynamics.observation[0].square() @ prior_of_states + dynamics.log_observation_variance.exp()
        posterior_variance = 1 / (1 / variance + decoder.weight.square().sum(0) / noise)
        model.encoder.layer.weight.copy_(posterior_variance[:, None] * decoder.weight.T / noise)
        model.encoder.layer.bias.copy_(-model.encoder.layer.weight @ decoder.bias)
        model.encoder.log_scale.copy_(0.5 * posterior_variance.log())
    evidence = torch.stack([evidence_and_posterior(model, data, series)[0] for series in range(SERIES)])
    got = bounds(model, data, normal(4, SERIES, TIME, CODE))
    torch.testing.assert_close(got, evidence.expand(4, -1), rtol=0, atol=1e-9)
    for seed in range(3):
        torch.manual_seed(seed)
        torch.testing.assert_close(-Objective(model)(data).total.detach(), evidence.mean(), rtol=0, atol=1e-9)


@INPUTS
@pytest.mark.parametrize("kind", ["lstm", "window", "one", "continuous lstm", "continuous one"])
def test_closed_form_and_sampled_states_give_the_same_value_and_gradient(kind, has_inputs):
    """With gaps and tails too."""
    hidden = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0], [1, 0, 1, 0, 1, 1]]).bool()
    data = sequences(has_inputs, num_steps=6, hidden=hidden, kind=kind)
    losses, gradients = [], []
    for has_states in (False, True):
        model = linear_model(kind, has_states=has_states, input_dim=2 * has_inputs)
        torch.manual_seed(2)
        loss = Objective(model)(data).total
        losses.append(loss.detach())
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=1e-10)
    for closed, sampled in zip(*gradients, strict=True):
        torch.testing.assert_close(closed, sampled, rtol=1e-8, atol=1e-8)


def test_the_closed_form_is_quieter_than_two_other_estimators_of_which_one_is_biased():
    """One draws the states jointly and adds their entropy; the other, as the public code, from each step's marginal."""
    model, num_draws = linear_model(), 3000
    data = sequences()[0]
    codes = torch.distributions.Normal(*[p.detach() for p in (model.encode(data).loc, model.encode(data).scale)])
    codes = codes.sample((num_draws,))
    dense = dense_path(model.dynamics(torch.zeros(TIME, CODE).double(), None, None)[0], TIME)
    joint, at, read = dense.joint.detached(), dense.states(), dense.codes()
    gain = torch.linalg.solve(joint.cov[read][:, read], joint.cov[read][:, at]).mT
    cov = joint.given(at, read, codes[0].flatten()).cov
    means = joint.mean[at] + (codes.flatten(1) - joint.mean[read]) @ gain.T
    step = torch.arange(TIME).repeat_interleave(STATE)
    blocks = cov * (step[:, None] == step)
    closed = bounds(model, data, codes)[:, 0]
    log_path = joint.marginal(read).log_prob(codes.flatten(1))

    def other(spread: Tensor, seed: int) -> Tensor:
        noise = normal(num_draws, len(at), seed=seed)
        states = means + noise @ torch.linalg.cholesky(spread).T
        entropy = 0.5 * (torch.logdet(spread) + len(at) * (1 + math.log(2 * math.pi)))
        return closed - log_path + joint.log_prob(torch.cat([states, codes.flatten(1)], 1)) + entropy

    jointly, by_step = other(cov, 1), other(blocks, 2)
    noise = {name: (value - closed).std() / math.sqrt(num_draws) for name, value in
             (("jointly", jointly), ("by step", by_step))}  # fmt: skip
    gap = 0.5 * (torch.trace(torch.linalg.solve(cov, blocks)) - len(at) + torch.logdet(cov) - torch.logdet(blocks))
    assert float(gap) > 0.5
    assert abs(float((jointly - closed).mean())) < 4.5 * float(noise["jointly"])
    assert abs(float((by_step - closed).mean() + gap)) < 4.5 * float(noise["by step"])
    assert float(closed.var()) < float(jointly.var()) < float(by_step.var())
    # the joint draw adds the variance of half a chi-square with one degree of freedom for each entry of the states
    added = float((jointly - closed).var()) / (len(at) / 2)
    assert abs(added - 1) < 4.5 * math.sqrt((2 + 12 / len(at)) / num_draws)


# ---------------------------------------------------------------- predictions with one mode


HIDDEN = torch.tensor([[0, 0, 1, 1, 0, 1, 0], [0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 1, 1]]).bool()


def predicted(model: KalmanVAE, data: Sequences, series: int, known: list[int], horizon: int = 0) -> Gaussian:
    """All codes when those of some steps come from the encoder and the others from the dense conditional."""
    encoded, at = model.encode(data.seen()), places(known, CODE)
    mean, scale = encoded.loc[series, known].flatten(), encoded.scale[series, known].flatten()
    prior = prior_of_codes(model, data, series, horizon)
    return prior.with_marginal(at, mean, scale.square().diag()).detached()


def observed(model: KalmanVAE, codes: Gaussian, steps: list[int], has_noise: bool) -> Gaussian:
    matrix, shift, noise = emission_of(model, len(steps))
    return codes.marginal(places(steps, CODE)).mapped(matrix, shift, noise * has_noise)


def assert_predicted(model, prediction, codes: Gaussian, series: int, steps: list[int], first: int = 0) -> None:
    at = [step - first for step in steps]
    for draws, has_noise in ((prediction.emission_means, False), (prediction.samples, True)):
        assert_moments(draws[:, series, at].flatten(1), observed(model, codes, steps, has_noise))


@FORMS
@INPUTS
@LINEAR
def test_imputation_is_the_dense_conditional(kind, has_inputs, has_states):
    model = linear_model(kind, has_states=has_states, input_dim=2 * has_inputs)
    data = sequences(has_inputs, num_steps=7, hidden=HIDDEN, kind=kind)
    filled = impute(GuidePosterior(model), data, num_samples=2000)
    for series in range(SERIES):
        known, gaps = (~HIDDEN[series]).nonzero().flatten().tolist(), HIDDEN[series].nonzero().flatten().tolist()
        assert_predicted(model, filled, predicted(model, data, series, known), series, gaps)
    assert torch.equal(filled.samples[:, ~HIDDEN], data.values[~HIDDEN].expand(2000, -1, -1))


@FORMS
@LINEAR
def test_causal_imputation_is_the_prediction_of_the_filter(kind, has_states):
    model, data = linear_model(kind, has_states=has_states), sequences(num_steps=7, hidden=HIDDEN, kind=kind)
    filled = impute(GuidePosterior(model), data, is_causal=True, num_samples=1000)
    for series in range(SERIES):
        for step in HIDDEN[series].nonzero().flatten().tolist():
            known = [t for t in range(step) if not HIDDEN[series, t]]
            assert_predicted(model, filled, predicted(model, data, series, known), series, [step])


@FORMS
@INPUTS
@LINEAR
def test_forecasts_are_the_dense_conditional(kind, has_inputs, has_states):
    model, horizon = linear_model(kind, has_states=has_states, input_dim=2 * has_inputs), 3
    data = sequences(has_inputs, num_steps=7, hidden=HIDDEN, kind=kind)
    inputs = normal(SERIES, horizon, 2, seed=3) if has_inputs else None
    uneven = {} if model.has_even_times else {"times": uneven_times()[:, 7:]}
    ahead = data.extend(inputs=inputs, **(uneven or {"horizon": horizon}))
    prediction = forecast(GuidePosterior(model), ahead, num_samples=2000)
    for series in range(SERIES):
        known = (~HIDDEN[series]).nonzero().flatten().tolist()
        exact = predicted(model, ahead, series, known, horizon)
        assert_predicted(model, prediction, exact, series, [7, 8, 9], first=7)


@FORMS
@pytest.mark.parametrize("kind", ["lstm", "one", "continuous one"])
def test_states_fit_the_codes_of_padding_and_horizon(kind, has_states):
    """What is left of a drawn code after its state is the noise R, at every step after the last seen one."""
    model, num_draws = linear_model(kind, has_states=has_states), 1500
    data = sequences(num_steps=7, hidden=HIDDEN, kind=kind)
    data = data.extend(horizon=2) if model.has_even_times else data.extend(times=uneven_times()[:, 7:9])
    latents = forecast(GuidePosterior(model), data, num_samples=num_draws).latents
    codes = torch.cat([latents["codes"], latents["codes_future"]], -2)
    states = torch.cat([latents["states"], latents["states_future"]], -2)
    assert states.shape == (num_draws, SERIES, 9, STATE)
    see = torch.einsum("...k,kij->...ij", model.mixing_weights(codes, data), model.dynamics.observation).detach()
    left = codes - (see @ states[..., None]).squeeze(-1)
    variance = model.dynamics.log_observation_variance.exp().repeat(2)
    noise = Gaussian(torch.zeros_like(variance), variance.diag()).detached()
    for series, steps in ((0, [7, 8]), (1, [7, 8]), (2, [5, 6]), (2, [7, 8])):
        assert_moments(left[:, series, steps].flatten(1), noise)
    if kind.endswith("one"):  # padding and horizon are one joint draw
        exact = predicted(model, data, 2, [0, 1, 2, 4], horizon=2).marginal(places(range(5, 9), CODE))
        assert_moments(codes[:, 2, 5:].flatten(1), exact)


# ---------------------------------------------------------------- the rest


def test_training_with_missing_frames_lowers_the_loss():
    generator = torch.Generator().manual_seed(1)
    times = torch.arange(12.0)
    phase = torch.rand(16, 1, generator=generator) * 6
    values = torch.stack([torch.sin(0.6 * times + phase), torch.cos(0.6 * times + phase)], -1)
    data = Sequences(values, mask=torch.rand(16, 12, generator=generator) > 0.4)
    torch.manual_seed(0)
    model = KalmanVAE((2,), 2, 3)
    model.adapt(data)

    def loss() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return float(torch.stack([Objective(model)(data).total for _ in range(10)]).mean())

    before = loss()
    fit(model, data, SVI(num_steps=25, learning_rate=7e-3, clip_norm=150.0), trainer=Trainer(progress=False))
    assert loss() < before - 1.0


@FORMS
@pytest.mark.parametrize("obs_shape", [(3,), (1, 8, 8)], ids=["vectors", "images"])
def test_mixed_precision_is_near_full(obs_shape, has_states):
    """bfloat16 keeps 8 bits: networks err by about a percent; the filter must not add to it."""
    model = KalmanVAE(obs_shape, 2, 3, has_states=has_states)
    data = Sequences(torch.rand(5, 8, *obs_shape)).hide(torch.rand(5, 8) < 0.3)
    model.adapt(data)
    losses = []
    for is_mixed in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_mixed):
            losses.append(Objective(model)(data).total)
    assert losses[1].dtype == torch.float32
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0)
    gradients = torch.autograd.grad(losses[1], [p for p in model.parameters() if p.requires_grad])
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("kind", ["window", "continuous window"])
def test_recorded_weights_are_those_of_the_dynamics(kind):
    model, data = linear_model(kind), sequences(kind=kind)
    codes = model.encode(data).rsample(torch.Size([2])).detach()
    weights = model.mixing_weights(codes, data)
    mixed = torch.einsum("...k,kij->...ij", weights, model.dynamics.observation)
    torch.testing.assert_close(model.prior(data).parameters(codes).observation, mixed, rtol=1e-12, atol=1e-12)
    if model.has_even_times:
        assert torch.equal(model.mixing_weights(codes), weights)
    else:
        with pytest.raises(DataError, match="depend on the gaps. Got none. Pass `data` with the codes"):
            model.mixing_weights(codes)


def test_units_of_inputs_say_nothing():
    """A fit and its forecast are those of the same inputs in other units."""
    values, inputs = torch.randn(6, 5, 2), torch.randn(6, 8, 2)
    forecasts = []
    for units in (inputs, 100 + 30 * inputs):
        torch.manual_seed(0)
        model = KalmanVAE((2,), input_dim=2)
        data = Sequences(values, times=torch.arange(8.0), inputs=units)
        posterior = fit(model, data.seen(), SVI(num_steps=5, learning_rate=0.05), trainer=Trainer(progress=False))
        forecasts.append(forecast(posterior, data, num_samples=3).samples)
    torch.testing.assert_close(*forecasts, rtol=1e-4, atol=1e-4)


def test_earlier_files_read_inputs_as_they_are():
    model = KalmanVAE((2,), input_dim=2)
    saved = {name: weight for name, weight in model.state_dict().items() if not name.startswith("known.")}
    model.load_state_dict(saved)
    data = Sequences(torch.randn(3, 5, 2), inputs=torch.randn(3, 5, 2))
    assert torch.equal(model.known(data), data.inputs)


def test_new_series_follow_the_prior():
    model, data = linear_model(input_dim=2), sequences(True)
    prediction = sample(GuidePosterior(model), data, num_samples=2000)
    for series in range(SERIES):
        assert_predicted(model, prediction, prior_of_codes(model, data, series), series, list(range(TIME)))


def test_reconstruction_reads_the_encoder():
    model, data = linear_model("lstm"), sequences()
    prediction = reconstruct(GuidePosterior(model), data, num_samples=2000)
    encoded = model.encode(data)
    for series in range(SERIES):
        codes = Gaussian(encoded.loc[series].flatten(), encoded.scale[series].flatten().square().diag()).detached()
        assert_predicted(model, prediction, codes, series, list(range(TIME)))


CONTRACT = [
    # parts, dynamics, states as a site, inputs, learned inputs, with the slow check
    ("vectors", "lstm", False, 2, 0, True),
    ("vectors", "lstm", True, 0, 1, False),
    ("vectors", "window", False, 0, 2, False),
    ("vectors", "window", True, 2, 0, True),
    ("vectors", "one", False, 2, 0, True),
    ("vectors", "one", True, 0, 0, False),
    ("images", "lstm", False, 0, 0, False),
    ("images", "window", True, 1, 1, False),
    ("images", "one", False, 0, 0, False),
    ("vectors", "continuous lstm", True, 2, 0, True),
    ("vectors", "continuous window", False, 0, 0, False),
]


@pytest.mark.parametrize(("parts", "kind", "has_states", "input_dim", "num_learned", "slow"), CONTRACT)
def test_contract(parts, kind, has_states, input_dim, num_learned, slow):
    dynamics = random_dynamics(kind, input_dim=input_dim, num_learned_inputs=num_learned).float()
    obs_shape, options = (3,), {}
    if parts == "images":
        obs_shape = (1, 8, 8)
        options["encoder"] = FrameEncoder(ConvTrunk(1, obs_shape, (4, 4)), CODE)
        options["emission"] = BernoulliEmission(SubPixelDecoder(CODE, obs_shape, 4, depth=2))
    model = KalmanVAE(obs_shape, dynamics=dynamics, has_states=has_states, **options)
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(4, 6, input_dim, generator=generator) if input_dim else None
    values = torch.rand(4, 6, *obs_shape, generator=generator)
    times = torch.rand(6, generator=generator).cumsum(-1) if kind.startswith("continuous") else None
    data = Sequences(values, inputs=inputs, times=times)
    report = check_model(model, data, slow=slow)
    assert report.names("not applicable") in ((), ("device_follows_the_data",))
