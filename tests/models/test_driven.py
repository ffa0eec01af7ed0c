"""Known inputs in the models that they drive: the rules of models, what-if forecasts, views, methods, errors."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.infer.objective import Objective
from pyro_seq.model import series_log_prob
from pyro_seq.nn.bayesian import DeterministicField
from pyro_seq.nn.recurrent import LSTMTransition
from pyro_seq.nn.thinned_encoder import ThinnedEncoder
from pyro_seq.posterior import GuidePosterior
from pyro_seq.testing import check_model
from pyro_seq.training.views import RandomGaps, RandomSteps, RandomWindows, Thin
from tests.make_believe_gpu import make_believe_gpu

INPUT = 2
QUIET = ps.Trainer(progress=False)


def effect(**options: object) -> ps.GaussianEmission:
    return ps.GaussianEmission(ps.InputDecoder(INPUT, (2,), **options))


def rnn(dim: int) -> ps.RNNEncoder:
    return ps.RNNEncoder((2,), dim, hidden_dim=8, input_dim=INPUT)


def srvp(**options: object) -> ps.SRVP:
    move = ps.ResidualTransition(3, 2, (8, 8), input_dim=INPUT)
    return ps.SRVP(
        (1, 8, 8), num_frames=2, hidden_dim=8, architecture=ps.DCGAN((2, 4), code_dim=4), transition=move, **options
    )


MODELS: dict[str, Callable[[], ps.SequenceModel]] = {
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2, flow=ps.Flow(2, input_dim=INPUT)),
    "ODE2VAE, all of it": lambda: ps.ODE2VAE(
        (2,), 2, flow=ps.Flow(2, input_dim=INPUT, has_linear_inputs=True), has_path_kl=True, has_instant_encoder=True,
        emission=effect(), tempo=ps.SeriesTempo(),
    ),
    "ODELEBM": lambda: ps.ODELEBM(
        (2,), 2, static_dim=1, dynamic_dim=1, flow=ps.Flow(2, order=1, input_dim=INPUT), encoder=rnn(4),
        has_restart_term=True,
    ),
    "ODELEBM, ODE-RNN": lambda: ps.ODELEBM(
        (2,), 2, flow=ps.Flow(2, order=1, input_dim=INPUT), emission=effect(hidden_dims=(4,)),
        encoder=ps.ODERNNEncoder((2,), 2, hidden_dim=8, input_dim=INPUT),
    ),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,), 2, hidden_dim=8, input_dim=INPUT, emission=effect()),
    "SRVP": lambda: srvp(content_dim=0),
    "SRVP, content": lambda: srvp(content_dim=3, emission=ps.PixelEmission(ps.InputDecoder(INPUT, (1, 8, 8)))),
}  # fmt: skip
EVERY = pytest.mark.parametrize("name", MODELS)
AT_ANY_TIMES = ("ODE2VAE", "ODE2VAE, all of it", "ODELEBM", "ODELEBM, ODE-RNN")
RULES = [
    "hiding_equals_cutting", "horizon_continues_the_series", "series_are_independent", "draws_vectorise",
    "longer_horizons_keep_the_beginning", "guide_ignores_the_horizon", "shared_times_equal_repeated",
    "minibatches_partition", "hidden_steps_are_ignored",
]  # fmt: skip


def series(name: str, num_series: int = 4, num_steps: int = 6, horizon: int = 0, seed: int = 0) -> ps.Sequences:
    """Inputs in a unit of their own, far from 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 8, 8) if name.startswith("SRVP") else (2,)
    values = torch.rand(num_series, num_steps, *shape, generator=generator)
    length = num_steps + horizon
    times = torch.arange(length).double()
    if name in AT_ANY_TIMES:
        times = times + 0.4 * torch.rand(num_series, length, generator=generator).double()
    inputs = 100 + 30 * torch.randn(num_series, length, INPUT, generator=generator)
    return ps.Sequences(values, times=times, inputs=inputs)


@functools.cache
def fitted(name: str) -> GuidePosterior:
    """To be read only."""
    torch.manual_seed(0)
    method = ps.SVI(num_steps=3, learning_rate=1e-2, views=[RandomGaps()])
    return ps.fit(MODELS[name](), series(name), method, trainer=QUIET)


@EVERY
def test_the_rules_that_inputs_could_break(name):
    torch.manual_seed(0)
    model, data = MODELS[name](), series(name, horizon=0)
    model.take_units(data)
    shared = ps.Sequences(data.values, times=data.times if data.times.ndim == 1 else data.times[0], inputs=data.inputs)
    report = check_model(model, shared, only=RULES)
    assert not report.names("failed"), report


@pytest.mark.slow
@EVERY
def test_all_rules(name):
    torch.manual_seed(0)
    model, data = MODELS[name](), series(name)
    model.take_units(data)
    assert not check_model(model, data).names("failed")


@EVERY
def test_only_the_future_changes_with_inputs_over_the_horizon(name):
    """And only from the input on: held ones act after their stamp, linear ones on the way to it."""
    posterior, whole = fitted(name), series(name, horizon=5, seed=1)
    other = whole.inputs[:, 6:].clone()
    other[:, 2] += 60.0
    ahead = ps.forecast(posterior, whole, num_samples=3)
    changed = ps.forecast(posterior, whole, inputs=other, num_samples=3)
    assert torch.equal(ahead.emission_means[:, :, :1], changed.emission_means[:, :, :1])
    assert not torch.equal(ahead.emission_means[:, :, 3:], changed.emission_means[:, :, 3:])
    for latent in ("initial", "noise", "codes"):
        if latent in ahead.latents:
            assert torch.equal(ahead.latents[latent], changed.latents[latent])
    for path in ("path", "states"):
        if path in ahead.latents:
            assert torch.equal(ahead.latents[path][:, :, :7], changed.latents[path][:, :, :7])
    again = ps.Sequences(whole.values, times=whole.times, inputs=torch.cat([whole.inputs[:, :6], other], 1))
    past, times = whole.first(6), whole.times[..., 6:]
    for same in (
        ps.forecast(posterior, again, num_samples=3),
        ps.forecast(posterior, past, times=times, inputs=other, num_samples=3),
    ):
        assert torch.equal(same.samples, changed.samples)


@EVERY
def test_units_of_inputs_do_not_matter(name):
    """Other units in the training data give the same model, for they are standardised."""
    forecasts = []
    for factor, shift in ((1.0, 0.0), (2.0**-7, 3.0)):
        data, ahead = (
            ps.Sequences(each.values, times=each.times, inputs=factor * each.inputs.double() + shift)
            for each in (series(name), series(name, horizon=3, seed=1))
        )
        torch.manual_seed(0)
        posterior = ps.fit(MODELS[name](), data, ps.SVI(num_steps=1, learning_rate=1e-2), trainer=QUIET)
        forecasts.append(ps.forecast(posterior, ahead, num_samples=2).emission_means)
    torch.testing.assert_close(*forecasts, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", AT_ANY_TIMES)
def test_a_guide_reads_what_drives_a_series_through_a_gap(name):
    posterior, data = fitted(name), series(name)
    hidden = torch.zeros(4, 6, dtype=torch.bool)
    hidden[:, 1] = True
    data = data.hide(hidden)
    inputs = data.inputs.clone()
    inputs[:, 1] += 60.0
    other = ps.Sequences(data.values, mask=data.mask, times=data.times, inputs=inputs)
    first, second = (posterior.draws(each, 2, seed=0)["initial"] for each in (data, other))
    assert (first != second).any(-1).all()


@pytest.mark.parametrize("view", [Thin(stride=2, keep=1), RandomSteps(count=4), RandomSteps(count=4, per_series=False)])
def test_thinned_series_keep_what_drove_them(view):
    data = series("ODE2VAE", horizon=2)
    seen = view(data, 0, torch.Generator().manual_seed(0))
    assert torch.equal(seen.inputs, data.inputs[:, :6]) and torch.equal(seen.times, data.times[..., :6])
    assert (seen.mask.sum(1) < 6).all() and torch.equal(seen.values[seen.mask], data.values[seen.mask])
    plain = ps.Sequences(data.values, times=data.times)
    dropped = view(plain, 0, torch.Generator().manual_seed(0))
    kept = seen.mask.nonzero()[:, 1].reshape(4, -1)
    assert torch.equal(dropped.times, plain.times.gather(1, kept))


@pytest.mark.parametrize(
    "method",
    [
        ps.SVI(num_steps=2, scales={"dreams": 1.0, "rehearsal": 0.5}, views=[RandomWindows(4, shortest=2)]),
        ps.IWAE(num_steps=2, num_particles=2),
        ps.MaximumLikelihood(num_steps=2, batch_size=2, chain_steps=3, inference_steps=5),
        ps.MCMC(ps.NUTS(max_tree_depth=3), num_samples=3, warmup_steps=3),
        ps.MCMC(ps.Langevin(), num_samples=3, warmup_steps=3),
    ],
    ids=lambda method: type(getattr(method, "kernel", method)).__name__,
)
def test_every_method_carries_inputs(method):
    torch.manual_seed(0)
    data, whole = series("ODELEBM"), series("ODELEBM", horizon=3)
    whole = ps.Sequences(data.values, times=data.times, inputs=data.inputs).extend(
        times=whole.times[..., 6:].clamp(min=float(data.times.max()) + 0.1).cumsum(-1), inputs=whole.inputs[:, 6:]
    )
    flow, encoder = ps.Flow(2, order=1, input_dim=INPUT), rnn(2)
    posterior = ps.fit(ps.ODELEBM((2,), 2, flow=flow, encoder=encoder), data, method, trainer=QUIET)
    plain = ps.forecast(posterior, whole, num_samples=2)
    other = ps.forecast(posterior, whole, inputs=whole.inputs[:, 6:] + 60, num_samples=2)
    assert torch.equal(plain.latents["initial"], other.latents["initial"])
    assert not torch.equal(plain.emission_means[..., -1, :], other.emission_means[..., -1, :])


def test_what_comes_after_a_fit_carries_inputs(tmp_path):
    posterior, whole = fitted("ODELEBM"), series("ODELEBM", horizon=4)
    better = ps.refine(posterior, num_steps=3)
    assert ps.forecast(better, whole, num_samples=2).samples.isfinite().all()
    scores = ps.evaluate(posterior, series("ODELEBM", num_steps=8), ps.Forecasting(num_observed=5))
    assert all(torch.as_tensor(value).isfinite() for value in scores.means().values())
    path = tmp_path / "driven.pt"
    ps.save(posterior, path)
    again = ps.forecast(ps.load(path), whole, num_samples=2)
    assert torch.equal(again.samples, ps.forecast(posterior, whole, num_samples=2).samples)
    filled = ps.impute(posterior, whole.hide(torch.arange(6).expand(4, 6) == 2), is_causal=True, num_samples=2)
    assert filled.samples.isfinite().all()


def test_a_chain_scores_a_series_under_its_own_inputs():
    model, data = MODELS["ODELEBM"]().double(), series("ODELEBM").to(dtype=torch.float64)
    values = {"initial": torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).double()}
    whole = series_log_prob(model, data, values)
    for index in range(4):
        alone = series_log_prob(model, data[[index]], {"initial": values["initial"][[index]]})
        torch.testing.assert_close(alone, whole[[index]])
    swapped = ps.Sequences(data.values, times=data.times, inputs=data.inputs.flip(0))
    assert (series_log_prob(model, swapped, values) != whole).all()


def test_covariates_of_whole_series_drive_it():
    plain = series("ODE2VAE", horizon=2)
    given = ps.Sequences(plain.values, times=plain.times, static=plain.inputs[:, 0]).with_static_as_inputs()
    model = MODELS["ODE2VAE"]()
    posterior = ps.fit(model, given.seen(), ps.SVI(num_steps=1), trainer=QUIET)
    assert ps.forecast(posterior, given, num_samples=2).samples.shape == (2, 4, 2, 2)


def test_a_linear_field_under_inputs_is_the_matrix_exponential():
    """s'' = -k s - c v + b u with held u, by the model's own flow and times."""

    class Spring(nn.Module):
        def forward(self, state: Tensor) -> Tensor:
            return state @ torch.tensor([[-1.3, -0.4, 0.7]]).to(state).mT

    flow = ps.Flow(1, input_dim=1)
    model = ps.ODE2VAE(
        (1,), 1, flow=flow, vector_field=DeterministicField(Spring()), encoder=ps.RNNEncoder((1,), 2, input_dim=1),
        time_step=0.05,
    ).double()  # fmt: skip
    times = torch.rand(3, 9, generator=torch.Generator().manual_seed(0)).double().cumsum(1) + 0.1
    inputs = torch.randn(3, 9, 1, generator=torch.Generator().manual_seed(1)).double()
    data = ps.Sequences(torch.zeros(3, 9, 1).double(), times=times, inputs=inputs)
    initial = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(2)).double()
    got = model.flow(model.vector_field, initial, times, inputs=model.known(data), has_volume=True)
    matrix = torch.tensor([[0, 1, 0], [-1.3, -0.4, 0.7], [0, 0, 0]]).double()
    moves, state, expected = torch.matrix_exp(matrix * times.diff(dim=1)[..., None, None]), initial, [initial]
    for step, move in enumerate(moves.unbind(1)):
        joined = torch.cat([state, inputs[:, step].expand(5, 3, 1)], -1)
        state = (move @ joined[..., None])[..., :2, 0]
        expected.append(state)
    torch.testing.assert_close(got.path, torch.stack(expected, -2), rtol=0, atol=1e-6)
    volume = (-0.4 * (times - times[:, :1])).expand(5, 3, 9)  # the trace with respect to the velocity alone
    torch.testing.assert_close(got.integral, volume, rtol=0, atol=1e-7)


def test_parts_of_other_sizes_are_refused():
    with pytest.raises(DataError, match="Got 2 of `flow`, 0 of `emission`, 0 of `encoder`"):
        ps.ODE2VAE((2,), 2, flow=ps.Flow(2, input_dim=2), encoder=ps.RNNEncoder((2,), 4))
    with pytest.raises(DataError, match="`vector_field` must take 6 numbers, 4 of the state, 2 inputs and 0 constant"):
        ps.ODE2VAE((2,), 2, flow=ps.Flow(2, input_dim=2), vector_field=ps.BayesianMLP(4, 2))
    with pytest.raises(DataError, match="`input_dim` must be 1 or more with `has_linear_inputs`"):
        ps.Flow(2, has_linear_inputs=True)
    with pytest.raises(DataError, match="Got 3 of `transition`"):
        ps.RecurrentVAE((2,), 2, transition=LSTMTransition(2, input_dim=3), emission=effect())
    with pytest.raises(ShapeError, match="must have 2 entries a step, the `input_dim` of the flow. Got 0. Pass them"):
        ps.fit(MODELS["ODE2VAE"](), ps.Sequences(torch.rand(2, 5, 2)), ps.SVI(num_steps=1), trainer=QUIET)
    with pytest.raises(ShapeError, match="`inputs` must have 2 entries a step, the `input_dim`. Got 0"):
        ps.Flow(2, input_dim=2)(ps.BayesianMLP(6, 2).mean_function(), torch.zeros(3, 4), torch.arange(3.0))
    with pytest.raises(DataError, match="those of a KalmanVAE drive its dynamics. Got 2 inputs of the emission"):
        ps.KalmanVAE((2,), emission=effect())
    with pytest.raises(ShapeError, match="`inputs` over the horizon is missing"):
        ps.forecast(fitted("ODE2VAE"), series("ODE2VAE"), horizon=3)


def test_a_thinned_encoder_reads_all_inputs():
    encoder = ThinnedEncoder(rnn(4), shares=[0.5])
    model = ps.ODE2VAE((2,), 2, flow=ps.Flow(2, input_dim=INPUT), encoder=encoder)
    assert encoder.input_dim == INPUT
    ps.fit(model, series("ODE2VAE"), ps.SVI(num_steps=1), trainer=QUIET)


@pytest.mark.parametrize("name", ["ODE2VAE, all of it", "ODELEBM, ODE-RNN", "RecurrentVAE", "SRVP"])
def test_inputs_stay_on_the_device(name):
    with make_believe_gpu() as device:
        model, data = MODELS[name]().to(device), series(name).to(device)
        data = RandomSteps(count=4)(data, 0, torch.Generator().manual_seed(0))
        model.take_units(data)
        assert Objective(model)(data).total.device == device


@pytest.mark.filterwarnings("ignore:.* hide some of the first frames")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY
def test_odd_data(name, dtype):
    """One series of one step; gaps at the start; a second fit."""
    model, data = MODELS[name]().to(dtype), series(name, 3, 5).to(dtype=dtype)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[0, :3], hidden[1, 2:] = True, True
    posterior = ps.fit(model, data.hide(hidden), ps.SVI(num_steps=1), trainer=QUIET)
    for part in (data.hide(hidden), data[:1].first(1)):
        ahead = part.extend(times=part.times[..., -1:] + 1, inputs=torch.full((len(part), 1, INPUT), 90.0, dtype=dtype))
        assert ps.forecast(posterior, ahead, num_samples=2).samples.dtype == dtype
