"""Each variable of a vector has a unit of its own, in every model: what it is measured in decides nothing."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.nn.thinned_encoder import ThinnedEncoder

QUIET = ps.Trainer(progress=False, accelerator="cpu", log_every=1)


def svi(num_steps: int) -> ps.SVI:
    return ps.SVI(num_steps=num_steps, learning_rate=1e-2, clip_norm=5.0)


def sines(num_series: int, num_steps: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Sine and cosine of a random phase, with noise of 0.05, on a grid of 2^-12."""
    generator = torch.Generator().manual_seed(0)
    phase = 6.28 * torch.rand(num_series, 1, generator=generator, dtype=dtype)
    angle = 0.3 * torch.arange(num_steps) + phase
    clean = torch.stack([angle.sin(), angle.cos()], -1)
    return (2**12 * (clean + 0.05 * torch.randn(clean.shape, generator=generator, dtype=dtype))).round() / 2**12


def window_encoder() -> ps.InitialStateEncoder:
    """As users write it, without a word about units."""
    return ps.InitialStateEncoder(*(ps.FrameWindow(ps.MLPTrunk(n, (2,)), n, 2) for n in (1, 3)))


MODELS = {
    "KalmanVAE": lambda: ps.KalmanVAE((2,)),
    "KalmanVAE, own encoder": lambda: ps.KalmanVAE((2,), encoder=ps.FrameEncoder(ps.MLPTrunk(1, (2,)), 2)),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,)),
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2, time_step=0.3),
    "ODE2VAE, own encoder": lambda: ps.ODE2VAE((2,), 2, time_step=0.3, encoder=window_encoder()),
    "ODELEBM": lambda: ps.ODELEBM((2,), 2, time_step=0.3, encoder=ps.RNNEncoder((2,), 2)),
    "ODELEBM, jumps": lambda: ps.ODELEBM((2,), 2, time_step=0.3, encoder=ps.ODERNNEncoder((2,), 2)),
    "ODELEBM, thinned": lambda: ps.ODELEBM(
        (2,), 2, time_step=0.3, encoder=ThinnedEncoder(ps.RNNEncoder((2,), 2), shares=(0.5,))
    ),
}


def fitted(name: str, values: torch.Tensor, num_steps: int) -> ps.GuidePosterior:
    torch.manual_seed(0)
    model = MODELS[name]().to(values.dtype)
    return ps.fit(model, ps.Sequences(values), svi(num_steps), trainer=QUIET)


def forecast(posterior: ps.GuidePosterior, values: torch.Tensor) -> torch.Tensor:
    return ps.forecast(posterior, ps.Sequences(values), horizon=3, num_samples=4).samples


@pytest.mark.parametrize("name", MODELS)
def test_other_units_give_the_same_fit_to_the_last_bit(name):
    """Powers of two, which are exact: 1e9 beside 1e-9. The density changes by the units, and by nothing else."""
    values, factor = sines(6, 8), torch.tensor([2.0**30, 2.0**-31])
    plain, other = fitted(name, values, 4), fitted(name, values * factor, 4)
    for (key, weight), again in zip(plain.model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(weight, again), key
    assert torch.equal(forecast(plain, values) * factor, forecast(other, values * factor))
    loss, again = (torch.tensor(posterior.history["loss"]) for posterior in (plain, other))
    expected = loss + values.shape[1] * factor.log().sum()  # minus a log density of each step, by the series
    torch.testing.assert_close(again, expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_other_origins_give_the_same_fit(name):
    values = sines(6, 8, torch.float64)
    origin = torch.tensor([2.0**20, -1000.0], dtype=torch.float64)
    plain, other = fitted(name, values, 4), fitted(name, values + origin, 4)
    found = forecast(other, values + origin) - origin
    torch.testing.assert_close(found, forecast(plain, values), rtol=1e-6, atol=1e-6)
    for weight, again in zip(plain.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(weight, again, rtol=1e-6, atol=1e-6)


def vitals(num_series: int = 60) -> torch.Tensor:
    """Heart rate 80 +- 10, pH 7.4 +- 0.05 and platelets 2.2e5 +- 3e4, one wave behind all three."""
    generator = torch.Generator().manual_seed(0)
    wave = (0.5 * torch.arange(24) + 6.28 * torch.rand(num_series, 1, generator=generator)).sin()
    pulse = 80 + 10 * wave + torch.randn(wave.shape, generator=generator)
    return torch.stack([pulse, 7.4 + 0.05 * wave, 2.2e5 + 3e4 * wave], -1)


def vital_model() -> ps.ODELEBM:
    torch.manual_seed(0)
    return ps.ODELEBM((3,), 4, time_step=0.5, encoder=ps.RNNEncoder((3,), 4))


def test_draws_of_vitals_are_of_the_size_of_vitals():
    values = vitals(12)
    posterior = ps.fit(vital_model(), ps.Sequences(values), svi(10), trainer=QUIET)
    drawn = ps.forecast(posterior, ps.Sequences(values).first(12), horizon=12, num_samples=20).samples
    far = (drawn - values.mean((0, 1))).abs() / values.std((0, 1))
    assert far.max() < 8 and (far.flatten(0, 2).mean(0) > 0.1).all()


@pytest.mark.slow
def test_vitals_are_forecast():
    values = vitals()
    train, test = ps.Sequences(values[:48]), ps.Sequences(values[48:])
    posterior = ps.fit(vital_model(), train, svi(500), trainer=QUIET)
    truth = test.values[:, 12:]
    error = (ps.forecast(posterior, test.first(12), horizon=12).mean - truth).square().mean((0, 1)).sqrt()
    assert (error / truth.std((0, 1)) < 0.6).all()


MIXED = {
    "pulse and temperature": lambda x: torch.stack([80 + 10 * x[..., 0], 37 + 0.5 * x[..., 1]], -1),
    "levels 1000 and 0": lambda x: x + torch.tensor([1000.0, 0.0]),
    "1e4 beside 1": lambda x: x * torch.tensor([1e4, 1.0]),
    "1e9 beside 1e-9": lambda x: x * torch.tensor([1e9, 1e-9]),
    "counts with an offset": lambda x: torch.stack([2.0**23 + (10 * x[..., 0]).round(), x[..., 1]], -1),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MIXED)
def test_forecasts_are_as_good_in_any_units(case):
    """Errors of next to nothing in both variables, and draws as wide as their errors."""
    values = MIXED[case](sines(64, 24))
    train, test = ps.Sequences(values[:48]), ps.Sequences(values[48:])
    torch.manual_seed(0)
    posterior = ps.fit(ps.KalmanVAE((2,)), train, svi(400), trainer=QUIET)
    ahead = ps.forecast(posterior, test.first(8), horizon=16, num_samples=50)
    variance = test.values.var((0, 1))
    error = (ahead.mean - test.values[:, 8:]).square().mean((0, 1)) / variance
    width = ahead.samples.var(0).mean((0, 1)) / variance
    assert (error < 0.025).all() and (width < 0.03).all()


def test_a_constant_column_changes_nothing_for_the_others():
    values = sines(6, 8)
    torch.manual_seed(0)
    model = ps.KalmanVAE((3,))
    with_constant = torch.cat([values, torch.full((6, 8, 1), 5.0)], -1)
    posterior = ps.fit(model, ps.Sequences(with_constant), svi(30), trainer=QUIET)
    drawn = forecast(posterior, with_constant)
    assert float(model.emission.units.unit[2]) == pytest.approx(0.15)
    assert (drawn[..., 2] - 5).abs().max() < 1 and drawn[..., :2].abs().max() < 10


def test_observations_that_are_one_number_each_have_one_unit():
    model = ps.KalmanVAE((1,))
    ps.fit(model, ps.Sequences(300 + 20 * sines(6, 8)[..., :1]), svi(2), trainer=QUIET)
    assert model.emission.scale.shape == model.emission.units.unit.shape == (1,)


@pytest.mark.parametrize("name", ["KalmanVAE", "ODE2VAE, own encoder"])
def test_files_hold_the_units_of_all_variables(name, tmp_path):
    values = sines(6, 8) * torch.tensor([1e3, 1e-3])
    posterior = fitted(name, values, 3)
    ps.save(posterior, tmp_path / "model.pt")
    for again in (ps.load(tmp_path / "model.pt"), ps.load(tmp_path / "model.pt", MODELS[name]().to(values.dtype))):
        assert torch.equal(forecast(again, values), forecast(posterior, values))


def test_averaged_and_resumed_runs_know_the_shape_of_the_noise(tmp_path):
    values = ps.Sequences(sines(6, 8) * torch.tensor([1e3, 1e-3]))
    trainer = ps.Trainer(progress=False, accelerator="cpu", directory=tmp_path, resume=True)
    for num_steps in (2, 4):
        torch.manual_seed(0)
        posterior = ps.fit(MODELS["KalmanVAE"](), values, ps.SVI(num_steps=num_steps, average=0.9), trainer=trainer)
    torch.manual_seed(0)
    whole = ps.fit(MODELS["KalmanVAE"](), values, ps.SVI(num_steps=4, average=0.9), trainer=QUIET)
    for weight, again in zip(posterior.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(weight, again)
