"""Units are taken once: weights are right in the units that they were trained in, and in no others."""

from __future__ import annotations

import copy

import pytest
import torch

import pyro_seq as ps

QUIET = ps.Trainer(progress=False, accelerator="cpu")
TINY = ps.SVI(num_steps=1, learning_rate=1e-12)
FAR = "far outside of what the model was trained on"


def series(level: float = 0.0, scale: float = 1.0, seed: int = 0, **options) -> ps.Sequences:
    """Noise around a level."""
    generator = torch.Generator().manual_seed(seed)
    return ps.Sequences(level + scale * torch.randn(6, 8, 2, generator=generator), **options)


def models() -> dict[str, ps.SequenceModel]:
    """Four models of vectors."""
    torch.manual_seed(0)
    return {
        "ODE2VAE": ps.ODE2VAE((2,), 2),
        "ODELEBM": ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2)),
        "KalmanVAE": ps.KalmanVAE((2,)),
        "RecurrentVAE": ps.RecurrentVAE((2,)),
    }


def buffers(model: ps.SequenceModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.named_buffers()}


@pytest.mark.parametrize("name", models())
def test_a_second_fit_keeps_the_units(name):
    model, data = models()[name], series()
    first = ps.fit(model, data, TINY, trainer=QUIET)
    before, units = ps.forecast(first, data, horizon=3, num_samples=5).emission_means, buffers(model)
    step = 1.0 if model.counts_steps else 24.0
    with pytest.warns(UserWarning, match=FAR):
        ps.fit(model, series(50.0, 9.0, seed=1, times=step * torch.arange(8)), TINY, trainer=QUIET)
    assert all(torch.equal(value, units[part]) for part, value in model.named_buffers())
    after = ps.forecast(first, data, horizon=3, num_samples=5).emission_means
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_units_are_taken_again_where_that_is_asked_for():
    model = models()["ODE2VAE"]
    ps.fit(model, series(), TINY, trainer=QUIET)
    ps.fit(model, series(50.0, 9.0, seed=1, times=24.0 * torch.arange(8)), TINY, trainer=QUIET, readapt=True)
    assert float(model.time_scale) == 24.0
    assert ((model.emission.units.centre > 45) & (model.emission.units.centre < 55)).all()


@pytest.mark.parametrize(
    "method",
    [TINY, ps.IWAE(num_steps=1, num_particles=2), ps.MaximumLikelihood(num_steps=1, chain_steps=1, inference_steps=1)],
    ids=["svi", "iwae", "maximum likelihood"],
)
def test_every_method_takes_them_and_keeps_them(method):
    model = models()["ODELEBM"]
    ps.fit(model, series(50.0, 9.0), method, trainer=QUIET)
    units = buffers(model)["emission.units.centre"]
    assert ((units > 45) & (units < 55)).all()
    ps.fit(model, series(-3.0), method, trainer=QUIET)
    assert torch.equal(model.emission.units.centre, units)


def test_chains_on_a_model_that_never_saw_data_take_its_units():
    model = models()["ODELEBM"]
    ps.fit(model, series(50.0, 9.0), ps.MCMC(ps.Langevin(), num_samples=2, warmup_steps=2), trainer=QUIET)
    assert ((model.emission.units.centre > 45) & (model.emission.units.centre < 55)).all()


def test_loaded_weights_bring_their_units(tmp_path):
    model = models()["ODELEBM"]
    ps.save(ps.fit(model, series(50.0, 9.0), TINY, trainer=QUIET), tmp_path / "model.pt")
    again = ps.load(tmp_path / "model.pt").model
    ps.fit(again, series(-3.0), TINY, trainer=QUIET)
    assert torch.equal(again.emission.units.centre, model.emission.units.centre)
    twin = copy.deepcopy(model)
    ps.fit(twin, series(-3.0), TINY, trainer=QUIET)
    assert torch.equal(twin.emission.units.centre, model.emission.units.centre)


def test_codes_get_their_unit_once_in_the_second_phase():
    model, data = ps.RecurrentVAE((2,), maximum_variance=1e-6), series()
    model.transition.requires_grad_(False)
    ps.fit(model, data.windows(1), TINY, trainer=QUIET)
    assert not model.transition.has_units
    model.requires_grad_(False).transition.requires_grad_(True)
    ps.fit(model, data, TINY, trainer=QUIET)
    units = model.transition.units.unit.clone()
    assert model.transition.has_units
    with pytest.warns(UserWarning, match=FAR):
        ps.fit(model, series(50.0, 9.0), TINY, trainer=QUIET)
    assert torch.equal(model.transition.units.unit, units)


COUNTING = ["KalmanVAE", "RecurrentVAE"]


@pytest.mark.parametrize("name", COUNTING)
def test_steps_of_another_length_are_refused(name):
    posterior = ps.fit(models()[name], series(), TINY, trainer=QUIET)
    other = series(times=6.0 * torch.arange(8))
    verbs = [
        lambda: ps.forecast(posterior, other, horizon=2),
        lambda: ps.impute(posterior, other),
        lambda: ps.reconstruct(posterior, other),
        lambda: ps.evaluate(posterior, other, ps.Forecasting(4)),
        lambda: ps.fit(posterior.model, other, TINY, trainer=QUIET),
    ]
    for verb in verbs:
        with pytest.raises(
            ps.DataError, match=r"steps of 1, as the training data had: .* Got steps of 6\. .*readapt=True"
        ):
            verb()
    anew = ps.fit(posterior.model, other, TINY, trainer=QUIET, readapt=True)
    assert ps.forecast(anew, other, horizon=2, num_samples=2).samples.shape == (2, 6, 2, 2)


@pytest.mark.parametrize("name", COUNTING)
def test_the_origin_and_the_rounding_of_time_stamps_do_not_matter(name):
    posterior = ps.fit(models()[name], series(times=0.1 * torch.arange(8)), TINY, trainer=QUIET)
    late = series(times=1.7e9 + 0.1 * torch.arange(8, dtype=torch.float64))
    assert ps.forecast(posterior, late, horizon=2, num_samples=2).samples.isfinite().all()


def test_a_video_at_half_the_rate_is_refused_and_a_finer_forecast_is_not():
    torch.manual_seed(0)
    architecture = ps.DCGAN(channels=(4, 6), code_dim=6)
    model = ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=3, hidden_dim=8, architecture=architecture)
    frames = torch.rand(4, 6, 1, 8, 8)
    posterior = ps.fit(model, ps.Sequences(frames), TINY, trainer=QUIET)
    with pytest.raises(ps.DataError, match="Got steps of 2"):
        ps.forecast(posterior, ps.Sequences(frames, times=2.0 * torch.arange(6)), horizon=2)
    model.forecast_substeps = 2
    fine = ps.forecast(posterior, ps.Sequences(frames), times=5.5 + 0.5 * torch.arange(4), num_samples=2)
    assert fine.samples.shape[2] == 4


def test_models_in_continuous_time_take_any_spacing():
    posterior = ps.fit(models()["ODE2VAE"], series(), TINY, trainer=QUIET)
    assert ps.reconstruct(posterior, series(times=6.0 * torch.arange(8)), num_samples=2).samples.isfinite().all()
