"""Emissions of every kind of value through models, files and verbs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.data import one_hot
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.metrics import accuracy, brier
from pyro_seq.testing import check_model
from tests.kinds import KINDS, kind

QUIET = ps.Trainer(progress=False, accelerator="cpu")
MODELS: dict[str, Callable[..., ps.SequenceModel]] = {
    "ODE2VAE": lambda shape, emission: ps.ODE2VAE(shape, 2, emission=emission),
    "ODELEBM": lambda shape, emission: ps.ODELEBM(shape, 3, emission=emission, encoder=ps.RNNEncoder(shape, 3)),
    "KalmanVAE": lambda shape, emission: ps.KalmanVAE(shape, emission=emission),
    "RecurrentVAE": lambda shape, emission: ps.RecurrentVAE(shape, emission=emission),
}
QUICK = [("RecurrentVAE", "columns"), ("ODE2VAE", "categorical"), ("KalmanVAE", "negative binomial")]
SLOW = [(model, name) for model in MODELS for name in KINDS]
IMAGE = (1, 8, 8)
IMAGES = {"continuous Bernoulli": ps.ContinuousBernoulliEmission, "Poisson": ps.PoissonEmission}


@pytest.mark.parametrize(("model", "name"), QUICK)
def test_a_few_pairs_keep_the_rules(model, name):
    emission, data = kind(name)
    assert not check_model(MODELS[model](data.obs_shape, emission), data).names("failed")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "name"), SLOW)
def test_every_model_keeps_the_rules_with_every_kind(model, name):
    emission, data = kind(name)
    assert not check_model(MODELS[model](data.obs_shape, emission), data, slow=True).names("failed")


def frames(name: str) -> ps.Sequences:
    levels = torch.rand(4, 6, *IMAGE, generator=torch.Generator().manual_seed(0))
    return ps.Sequences((9 * levels).round() if name == "Poisson" else levels)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(IMAGES))
@pytest.mark.parametrize("model", [*MODELS, "SRVP"])
def test_models_of_images_keep_the_rules(model, name):
    small = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: nn.GroupNorm(1, channels))
    video = dict(noise_dim=2, content_dim=4, num_frames=3, hidden_dim=8, architecture=small)
    emission = IMAGES[name]()
    made = ps.SRVP(IMAGE, 3, emission=emission, **video) if model == "SRVP" else MODELS[model](IMAGE, emission)
    assert not check_model(made, frames(name)).names("failed")


@pytest.mark.parametrize("name", list(KINDS))
def test_a_file_alone_restores_the_model_and_what_verbs_say(name, tmp_path):
    emission, data = kind(name)
    posterior = ps.fit(MODELS["RecurrentVAE"](data.obs_shape, emission), data, ps.SVI(num_steps=2), trainer=QUIET)
    ps.save(posterior, tmp_path / "model.pt")
    pair = [ps.forecast(one, data, horizon=2, num_samples=3) for one in (posterior, ps.load(tmp_path / "model.pt"))]
    assert torch.equal(pair[0].samples, pair[1].samples)
    assert torch.equal(pair[0].emission_means, pair[1].emission_means)
    emission.check(ps.Sequences(pair[0].samples.flatten(0, 1)))  # draws are values of the kind


def test_options_of_parts_of_a_table_are_compared(tmp_path):
    def model(columns: list[list[int]], initial_dispersion: float = 0.1) -> ps.SequenceModel:
        counts = ps.NegativeBinomialEmission(initial_dispersion=initial_dispersion)
        parts = list(zip(columns, [ps.GaussianEmission(), counts], strict=True))
        return ps.RecurrentVAE((2,), emission=ps.ColumnsEmission(parts))

    ps.save(ps.GuidePosterior(model([[0], [1]])), tmp_path / "model.pt")
    assert ps.load(tmp_path / "model.pt").model.emission.columns == ((0,), (1,))
    with pytest.raises(ps.CheckpointError, match="columns"):
        ps.load(tmp_path / "model.pt", model([[1], [0]]))


def test_a_table_of_all_kinds_is_imputed_in_each_kind():
    emission, data = kind("columns", num_series=6, num_steps=8)
    hidden = torch.rand(6, 8, generator=torch.Generator().manual_seed(1)) < 0.3
    columns = torch.stack([hidden, hidden.roll(1, 0), hidden.roll(2, 0), hidden.roll(2, 0), hidden.roll(3, 0)], -1)
    data = data.hide(columns)
    posterior = ps.fit(MODELS["KalmanVAE"](data.obs_shape, emission), data, ps.SVI(num_steps=5), trainer=QUIET)
    filled = ps.impute(posterior, data, num_samples=20)
    emission.check(ps.Sequences(filled.samples.flatten(0, 1)))
    seen = data.entry_mask.expand(20, -1, -1, -1)
    assert torch.equal(filled.samples[seen], data.values.expand(20, -1, -1, -1)[seen])
    torch.testing.assert_close(filled.mean[..., 2:4].sum(-1), torch.ones(6, 8))  # probabilities of the two classes
    scores = ps.evaluate(posterior, data, ps.Forecasting(6), num_samples=20)
    assert all(math.isfinite(mean) for mean in scores.means().values())
    assert scores.table()["log_score"].notna().tolist() == [True] * 5


def test_columns_that_do_not_vary_in_training_are_fine_for_encoders():
    """A count that never came, and a class that always did; then both change."""
    classes = one_hot(torch.zeros(4, 6, 1), 2)
    data = ps.Sequences(torch.cat([torch.zeros(4, 6, 1), classes], -1))
    for model in MODELS.values():
        emission = ps.ColumnsEmission([([0], ps.PoissonEmission()), ([1, 2], ps.CategoricalEmission(2))])
        posterior = ps.fit(model((3,), emission), data, ps.SVI(num_steps=3), trainer=QUIET)
        with pytest.warns(UserWarning, match="far outside"):
            changed = ps.Sequences(torch.cat([torch.full((4, 6, 1), 9.0), 1 - classes], -1))
            scores = ps.evaluate(posterior, changed, ps.Reconstruction(), num_samples=5)
        assert all(math.isfinite(scores.means()[name]) for name in ("mse", "crps", "log_score"))


@pytest.mark.parametrize("name", list(KINDS))
def test_chains_find_latents_by_the_curvature_of_each_kind(name):
    emission, data = kind(name)
    model = ps.ODELEBM(data.obs_shape, 3, emission=emission)
    method = ps.MaximumLikelihood(num_steps=2, chain_steps=2, inference_steps=2, preconditioner=GaussNewton())
    posterior = ps.fit(model, data, method, trainer=QUIET)
    emission.check(ps.Sequences(ps.forecast(posterior, data, horizon=2, num_samples=3).samples.flatten(0, 1)))


def waves(num_series: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """Sines of random phase, (series, 20, 1), and the generator that made them."""
    generator = torch.Generator().manual_seed(seed)
    phase = 2 * math.pi * torch.rand(num_series, 1, 1, generator=generator)
    return torch.sin(phase + 0.5 * torch.arange(20.0)[None, :, None]), generator


def forecaster(emission: ps.Emission, train: ps.Sequences) -> ps.GuidePosterior:
    torch.manual_seed(0)
    shape = train.obs_shape
    model = ps.ODELEBM(shape, 3, emission=emission, encoder=ps.RNNEncoder(shape, 3, hidden_dim=16))
    return ps.fit(model, train, ps.SVI(num_steps=300, learning_rate=1e-2), trainer=QUIET)


@pytest.mark.slow
def test_counts_are_forecast_better_by_their_own_law():
    """Counts with rates of 0.4 to 4.5: against normal noise, whose score counts its density over a step of one."""

    def counts(num_series: int, seed: int) -> ps.Sequences:
        wave, generator = waves(num_series, seed)
        return ps.Sequences(torch.poisson((0.3 + 1.2 * wave).exp().repeat(1, 1, 2), generator=generator))

    train, test = counts(150, 0), counts(150, 1)
    normal, poisson = (
        ps.evaluate(forecaster(emission, train), test, ps.Forecasting(14))
        for emission in (ps.GaussianEmission(), ps.PoissonEmission())
    )
    # by series, paired: three standard errors above nothing
    for gain in (poisson.log_score - normal.log_score, normal.crps - poisson.crps):
        assert float(gain.mean()) > 3 * float(gain.std()) / 150**0.5
    # a share of 150 series, of which each has 12 entries that depend on one phase
    assert abs(poisson.means()["coverage_90"] - 0.9) < 0.05


@pytest.mark.slow
def test_classes_are_forecast_better_than_by_their_shares():
    """Three states that follow each other; the best possible forecast has the probabilities that made them."""

    def states(num_series: int, seed: int) -> tuple[ps.Sequences, torch.Tensor]:
        wave, generator = waves(num_series, seed)
        shares = torch.cat([2.5 * wave, torch.zeros_like(wave), -2.5 * wave], -1).softmax(-1)
        drawn = torch.multinomial(shares.flatten(0, 1), 1, generator=generator).reshape(wave.shape)
        return ps.Sequences(one_hot(drawn, 3)), shares

    (train, _), (test, known) = states(150, 0), states(150, 1)
    task = ps.Forecasting(14)
    prediction = ps.forecast(forecaster(ps.CategoricalEmission(3), train), task.given(test), num_samples=100)
    truth = test.values[:, 14:]
    usual = train.values.mean((0, 1)).expand_as(truth)
    found, base, best = (float(brier(shares, truth, 3)) for shares in (prediction.mean, usual, known[:, 14:]))
    assert best < found < base - 0.6 * (base - best)
    assert float(accuracy(prediction.mean, truth, 3)) > float(accuracy(usual, truth, 3)) + 0.15
