"""Noise as it was measured: what the verbs draw, whatever the method, and what files keep of it."""

from __future__ import annotations

import copy

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.infer.measured import measure_noise
from pyro_seq.metrics import coverage
from pyro_seq.model import series_log_prob
from tests.golden.make import srvp

QUIET = ps.Trainer(progress=False)


def videos(num_series: int, seed: int = 0) -> ps.Sequences:
    """A bright bar that moves over a grey ground, with a noise of 0.04: frames (1, 1, 8)."""
    generator = torch.Generator().manual_seed(seed)
    place = 6 * torch.rand(num_series, 1, generator=generator) + 0.3 * torch.arange(9)
    clean = 0.2 + 0.6 * torch.exp(-(((torch.arange(8) - place[..., None] % 8) / 1.5) ** 2))
    noisy = clean + 0.04 * torch.randn(clean.shape, generator=generator)
    return ps.Sequences(noisy.clamp(0, 1))


def model() -> ps.ODE2VAE:
    """A field and an encoder without random parts, around pixels with the scale of 1."""
    emission = ps.PixelEmission(ps.MLPDecoder(2, (8,), (8,)))
    return ps.ODE2VAE(
        (8,), 2, flow=ps.Flow(2, order=1), vector_field=ps.BayesianMLP(2, 2, (8,), is_bayesian=False), emission=emission
    )


METHODS = [
    ps.SVI(num_steps=40, batch_size=32, learning_rate=1e-2),
    ps.IWAE(num_steps=30, batch_size=32, learning_rate=1e-2, num_particles=3),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_intervals_cover_as_much_as_they_say(method):
    """The likelihood's scale of 1 covers all but nothing of the pixels within 50 %, and draws far outside of [0, 1]."""
    torch.manual_seed(0)
    posterior = ps.fit(model(), videos(200), method, trainer=QUIET)
    new = videos(60, seed=1)
    drawn = ps.forecast(posterior, new.first(5), horizon=4, num_samples=100)
    assert float(drawn.samples.min()) >= 0 and float(drawn.samples.max()) <= 1
    for level in (0.5, 0.9):
        # pixels of a series have their latents in common: 60 series of independent ones would give this error
        spread = (level * (1 - level) / 60) ** 0.5
        assert abs(float(coverage(drawn.samples, new.values[:, 5:], level)) - level) < 3 * spread
    drawn = ps.reconstruct(posterior, new, num_samples=20)
    assert 0.42 < float(coverage(drawn.samples, new.values, 0.5)) < 0.58


def test_chains_measure_as_well():
    emission = ps.PixelEmission(ps.MLPDecoder(2, (8,), (8,)))
    network = ps.BayesianMLP(2, 2, (4,), is_bayesian=False)
    lebm = ps.ODELEBM((8,), 2, vector_field=network, initial_prior=ps.StandardNormal(), emission=emission)
    method = ps.MaximumLikelihood(num_steps=2, batch_size=8, chain_steps=2, inference_steps=3)
    posterior = ps.fit(lebm, videos(12), method, trainer=QUIET)
    assert emission.quantiles is not None
    assert float(ps.reconstruct(posterior, videos(3), num_samples=3).samples.min()) >= 0


def test_every_verb_draws_what_was_measured_and_the_density_stays():
    posterior = ps.GuidePosterior(model())
    data = videos(4)
    mask = torch.ones_like(data.values, dtype=torch.bool)
    mask[:, 4:6] = False
    gaps = data.hide(~mask)
    draws = posterior.draws(data, 1)
    before = series_log_prob(posterior.model, data, draws)
    assert float(ps.reconstruct(posterior, data, num_samples=20).samples.min()) < -1
    posterior.model.emission.quantiles = torch.full((128, 65), 0.25)
    predictions = (
        ps.reconstruct(posterior, data, num_samples=2).samples,
        ps.forecast(posterior, data, horizon=2, num_samples=2).samples,
        ps.sample(posterior, data, num_samples=2).samples,
        ps.impute(posterior, gaps, num_samples=2).samples[:, ~mask],
        ps.impute(posterior, gaps, num_samples=2, is_causal=True).samples[:, ~mask],
    )
    assert all(bool((samples == 0.25).all()) for samples in predictions)
    assert torch.equal(series_log_prob(posterior.model, data, draws), before)


def test_what_is_hidden_is_not_measured():
    posterior, data = ps.GuidePosterior(model()), videos(4)
    mask = torch.ones_like(data.values, dtype=torch.bool)
    mask[:, ::2] = False
    measure_noise(posterior, ps.Sequences(torch.where(mask, 0.5, 0.9), mask=mask))
    assert bool((posterior.model.emission.quantiles == 0.5).all())
    measure_noise(posterior, ps.Sequences(data.values, mask=torch.zeros_like(mask)))
    assert bool((posterior.model.emission.quantiles == 0.5).all())


def test_validation_is_measured_where_there_is_some():
    torch.manual_seed(0)
    fitted, method, trainer = model(), ps.SVI(num_steps=1), ps.Trainer(progress=False, validate_every=1)
    black = ps.Sequences(torch.zeros(3, 9, 8))
    ps.fit(fitted, videos(4), method, validation=black, trainer=trainer)
    assert bool((fitted.emission.quantiles == 0).all())
    ps.fit(fitted, videos(4), method, trainer=QUIET)
    assert bool((fitted.emission.quantiles > 0).all())


def test_files_keep_what_was_measured(tmp_path):
    torch.manual_seed(0)
    posterior = ps.fit(model(), videos(4), ps.SVI(num_steps=1), trainer=QUIET)
    ps.save(posterior, tmp_path / "file.pt")
    for again in (ps.load(tmp_path / "file.pt"), ps.load(tmp_path / "file.pt", model())):
        drawn = (ps.forecast(p, videos(2), horizon=2, num_samples=2).samples for p in (posterior, again))
        assert torch.equal(*drawn)
    twin = copy.deepcopy(posterior.model)
    assert torch.equal(twin.emission.quantiles, posterior.model.emission.quantiles)


def test_a_file_without_a_measurement_says_so_and_can_be_measured(tmp_path):
    ps.save(ps.GuidePosterior(model()), tmp_path / "file.pt")
    into = model()
    into.emission.quantiles = torch.zeros(128, 65)
    for given in (None, into):
        with pytest.warns(UserWarning, match="holds no measured noise.*measure_noise"):
            posterior = ps.load(tmp_path / "file.pt", given)
        assert posterior.model.emission.quantiles is None
        measure_noise(posterior, videos(4))
        assert posterior.model.emission.quantiles is not None


def test_a_run_of_a_model_that_was_measured_resumes(tmp_path):
    torch.manual_seed(0)
    first, method = model(), ps.SVI(num_steps=2)
    ps.fit(first, videos(4), method, trainer=QUIET)
    ps.fit(first, videos(4), method, trainer=ps.Trainer(progress=False, directory=tmp_path))
    again = ps.Trainer(progress=False, directory=tmp_path, resume=True)
    ps.fit(second := model(), videos(4), method, trainer=again)
    assert torch.equal(second.emission.quantiles, first.emission.quantiles)


def test_an_emission_of_one_s_own_may_draw_otherwise():
    class Spiked(dist.Normal):
        def predictive(self) -> dist.TorchDistribution:
            return dist.Delta(self.mean + 7)

    class SpikedEmission(ps.Emission):
        def given(self, decoded: torch.Tensor) -> dist.TorchDistribution:
            return Spiked(decoded, 1.0)

    own = ps.ODE2VAE((2,), 2, emission=SpikedEmission(nn.Linear(2, 2)))
    drawn = ps.forecast(ps.GuidePosterior(own), ps.Sequences(torch.rand(3, 4, 2)), horizon=2, num_samples=5)
    torch.testing.assert_close(drawn.samples, drawn.emission_means)  # the mean of a Delta is where it lies
    assert float(drawn.samples.min()) > 3


def test_numbers_that_are_not_finite_leave_the_fit_alone():
    """Training saw short windows, and the path of a whole series runs away; or a decoder does."""

    class Explosion(nn.Module):
        def forward(self, state: torch.Tensor) -> torch.Tensor:
            return 1e30 * state

    for part, broken in (("vector_field", ps.DeterministicField(Explosion())), ("emission.decoder", nan_decoder())):
        posterior = ps.GuidePosterior(model())
        posterior.model.set_submodule(part, broken)
        with pytest.warns(UserWarning, match="could not be measured"):
            measure_noise(posterior, videos(2))
        assert posterior.model.emission.quantiles is None


def nan_decoder() -> nn.Module:
    """One that says nothing."""
    decoder = nn.Linear(2, 8)
    nn.init.constant_(decoder.weight, torch.nan)
    return decoder


def test_a_video_model_measures_in_its_fit():
    torch.manual_seed(0)
    data = ps.Sequences(torch.rand(3, 7, 1, 8, 8))
    posterior = ps.fit(srvp(), data, ps.SVI(num_steps=1), trainer=QUIET)
    samples = ps.forecast(posterior, data.first(4), horizon=3, num_samples=50).samples
    assert float(samples.min()) >= 0 and float(samples.max()) <= 1
