"""A tempo for each series: a factor on time, of the population where a series is new."""

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
from pyro_seq.nn.tempo import SeriesTempo
from pyro_seq.ops.odeint import RK4
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.verbs import forecast
from pyro_seq.testing import check_model
from pyro_seq.training.trainer import Trainer


def tempo_model(num_series: int) -> ODE2VAE:
    return ODE2VAE((2,), 2, tempo=SeriesTempo(num_series))


def test_a_model_with_a_tempo_keeps_the_contract():
    data = Sequences(torch.rand(6, 9, 2))
    report = check_model(tempo_model(6), data)
    assert report.names("failed") == ()


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


def test_a_new_series_has_the_population_s_tempo():
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
