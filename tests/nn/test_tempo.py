"""A tempo for each series: a factor on time, read from what is seen, and of the population where nothing is."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.infer.fit import fit
from pyro_seq.infer.svi import SVI
from pyro_seq.models import ODE2VAE
from pyro_seq.nn.bayesian import DeterministicField
from pyro_seq.nn.emission import GaussianEmission
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.ode_rnn import RNNEncoder
from pyro_seq.nn.tempo import SeriesTempo
from pyro_seq.ops.odeint import RK4
from pyro_seq.posterior import GuidePosterior, prediction_context
from pyro_seq.predict.verbs import forecast, reconstruct
from pyro_seq.testing import check_model
from pyro_seq.training.trainer import Trainer


def tempo_model(num_series: int | None = None) -> ODE2VAE:
    return ODE2VAE((2,), 2, tempo=SeriesTempo(num_series))


@pytest.mark.parametrize("num_series", [None, 6])
def test_a_model_with_a_tempo_keeps_the_contract(num_series: int | None):
    data = Sequences(torch.rand(6, 9, 2))
    report = check_model(tempo_model(num_series), data)
    assert report.names("failed") == ()


class Turn(torch.nn.Module):
    """A rotation by one radian in a unit of time."""

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return torch.stack([state[..., 1], -state[..., 0]], -1)


def turning(num_series: int) -> tuple[Sequences, torch.Tensor]:
    """Points that turn, each with a tempo of its own, seen with a noise of 0.05; and the log tempos."""
    generator = torch.Generator().manual_seed(0)
    log_tempo, phase = (torch.randn(num_series, 1, generator=generator) for _ in range(2))
    angle = 3 * phase + (0.3 * log_tempo).exp() * 0.25 * torch.arange(24)
    clean = torch.stack([angle.sin(), angle.cos()], -1)
    return Sequences(clean + 0.05 * torch.randn(clean.shape, generator=generator)), 0.3 * log_tempo[:, 0]


def turner(tempo: SeriesTempo) -> ODE2VAE:
    """A model of such points that has everything but their phases and tempos to learn."""
    decoder = torch.nn.Identity()
    emission = GaussianEmission(decoder, initial_scale=0.1)
    flow, field = Flow(2, order=1), DeterministicField(Turn())
    return ODE2VAE((2,), 2, flow=flow, vector_field=field, emission=emission, tempo=tempo, time_step=0.25)


@pytest.mark.slow
def test_predictions_run_at_the_tempo_of_what_was_seen():
    """With the population's tempo the error of a reconstruction is above 0.6; a new series has a wider one."""
    data, log_tempo = turning(60)
    model = turner(SeriesTempo(initial_spread=0.3))
    posterior = fit(model, data[:40], SVI(num_steps=400, learning_rate=1e-2), trainer=Trainer(progress=False))
    for part, most in ((slice(0, 40), 0.2), (slice(40, 60), 0.4)):
        draws = posterior.draws(data[part], 50)["log_tempo"].mean(0)
        error = reconstruct(posterior, data[part], num_samples=20).emission_means - data.values[part]
        assert float(torch.corrcoef(torch.stack([draws, log_tempo[part]]))[0, 1]) > 0.8
        assert float(error.square().mean().sqrt()) < most


def test_the_posterior_is_the_population_times_what_the_encoder_reads():
    data, model = Sequences(torch.rand(5, 4, 2)), tempo_model()
    tempo, times = model.tempo, model._series_times(data)
    with prediction_context(model):
        tempo.log_spread.fill_(-1.0)
        tempo.encoder.head.linear.bias.copy_(torch.tensor([0.7, -0.5]))
        read, found = tempo.encoder(data.values, data.entry_mask, times), tempo.given(data, times)
    grid = torch.linspace(-6, 6, 20001, dtype=torch.float64)[:, None]
    loc, scale = read.base_dist.loc[:, 0].double(), read.base_dist.scale[:, 0].double()
    weight = (-0.5 * (grid * torch.e) ** 2 - 0.5 * ((grid - loc) / scale) ** 2).softmax(0)
    mean = (weight * grid).sum(0)
    spread = (weight * (grid - mean) ** 2).sum(0).sqrt()
    torch.testing.assert_close((found.loc.double(), found.scale.double()), (mean, spread), rtol=1e-5, atol=1e-6)


def test_a_series_of_which_nothing_is_seen_has_the_population_s_tempo():
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1] = False
    data, model = Sequences(torch.rand(3, 6, 2), mask=mask), tempo_model()
    with prediction_context(model):
        found = model.tempo.given(data, model._series_times(data))
    assert found.loc[1] == 0 and float(found.scale[1]) == pytest.approx(0.1, rel=1e-6)
    assert bool((found.loc[[0, 2]] != 0).all()) and bool((found.scale[[0, 2]] < 0.1).all())


def test_a_tempo_does_not_depend_on_the_other_series_or_on_what_was_not_seen():
    data, model = Sequences(torch.rand(6, 8, 2)), tempo_model()
    posterior = GuidePosterior(model)

    def tempos(series: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
        with prediction_context(model):
            found = model.tempo.given(series, model._series_times(series))
        return found.loc, found.scale

    whole, part = tempos(data), tempos(data[[4, 1]])
    torch.testing.assert_close(part, tuple(x[[4, 1]] for x in whole), rtol=1e-5, atol=1e-7)
    longer = posterior.draws(data.extend(horizon=3), 2)["log_tempo"]
    assert torch.equal(longer, posterior.draws(data, 2)["log_tempo"])
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[:, 5:] = False
    torch.testing.assert_close(tempos(Sequences(data.values, mask=mask)), tempos(data.first(5)), rtol=1e-5, atol=1e-7)


def test_the_encoder_takes_the_unit_of_the_data():
    data, model = Sequences(1000 + 50 * torch.randn(20, 8, 2)), tempo_model()
    model.adapt(data)
    assert float(model.tempo.encoder.reader.units.centre.mean()) == pytest.approx(1000, abs=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": RNNEncoder((2,), 2)}, "one number, the log tempo. Got 2"),
        ({"encoder": RNNEncoder((2,), 1), "num_series": 3}, "`encoder` must be absent with a table"),
        ({"initial_scale": 0.1}, "`initial_scale` must be absent without a table"),
        ({"initial_spread": 0.0}, "`initial_spread` must be a positive number"),
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(options: dict, message: str):
    with pytest.raises(DataError, match=message):
        SeriesTempo(**options)


def test_speed_is_a_factor_on_time():
    model = tempo_model(4).double()
    model.flow.solver = RK4()  # the same steps for both
    initial = torch.randn(4, 4, dtype=torch.float64)
    function = model.vector_field.mean_function()
    speed = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=torch.float64)
    times = torch.linspace(0, 2, 9, dtype=torch.float64)
    fast = model.flow(function, initial, times, speed=speed, has_volume=True)
    own = model.flow(function, initial, speed[:, None] * times, has_volume=True)
    torch.testing.assert_close(fast.path, own.path, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(fast.integral, own.integral, rtol=1e-12, atol=1e-12)


def test_with_a_table_a_new_series_has_the_population_s_tempo():
    model = tempo_model(4)
    with torch.no_grad():
        model.tempo.loc.fill_(3.0)
        model.tempo.log_spread.fill_(-2.0)
    draws = forecast(GuidePosterior(model), Sequences(torch.rand(2, 5, 2)), horizon=1, num_samples=4000)
    log_tempo = draws.latents["log_tempo"]
    spread = float(model.tempo.log_spread.detach().exp())
    assert float(log_tempo.mean(0).abs().max()) < 4.5 * spread / 4000**0.5
    assert float((log_tempo.std(0) / spread - 1).abs().max()) < 4.5 * (0.5 / 4000) ** 0.5


def test_a_tempo_table_of_another_size_is_refused():
    method = SVI(num_steps=2)
    with pytest.raises(DataError, match=r"SeriesTempo\(num_series=3\)"):
        fit(tempo_model(3), Sequences(torch.rand(5, 6, 2)), method, trainer=Trainer(progress=False))


def test_models_copy_and_pickle():
    model = tempo_model(3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}
