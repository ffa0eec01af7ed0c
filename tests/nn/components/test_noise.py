"""Student-t noise of a series: against numerical integrals, with outliers, and on values that have such noise."""

from __future__ import annotations

import math

import pytest
import torch
from pyro import poutine
from torch.distributions import Normal, StudentT

import pyro_seq as ps
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.model import over_samples
from pyro_seq.nn.components import Cycle, GaussianNoise, Level, StudentTNoise
from pyro_seq.posterior import prediction_context
from pyro_seq.testing import check_model
from pyro_seq.training.schedules import Cosine

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def walk(num_steps: int, df: float, *, num_series: int = 1, seed: int = 0) -> tuple[ps.Sequences, torch.Tensor]:
    """A walk with steps of 0.3 and noise of scale 1, and the walk itself."""
    torch.manual_seed(seed)
    level = 0.3 * torch.randn(num_series, num_steps).double().cumsum(1)
    return ps.Sequences((level + StudentT(df).sample(level.shape))[..., None]), level


def at(data: ps.Sequences, noise, **parameters: float) -> tuple[ps.StructuralSeries, torch.Tensor]:
    """A model with units of the data, and coordinates."""
    model = ps.StructuralSeries(Level(), noise=noise).double()
    model.take_units(data)
    return model, model.coordinates_of({"level_scale": 0.3, "noise_scale": 1.0} | parameters)


def by_grid(data: ps.Sequences, df: float) -> float:
    """The log likelihood with a flat start: densities of the level on a grid, one step after the other.

    A diffuse start is flat, of density one over the root of 2 pi.
    """
    values = data.values[0, :, 0]
    grid = torch.linspace(float(values.min()) - 12, float(values.max()) + 12, 3001).double()
    width = grid[1] - grid[0]
    move = Normal(grid, 0.3).log_prob(grid[:, None]).exp() * width
    density, height = torch.ones_like(grid), 0.0
    for step, value in enumerate(values):
        density = move @ density if step else density
        if bool(data.mask[0, step]):
            density = density * StudentT(df, grid).log_prob(value).exp()
        total = density.sum() * width
        density, height = density / total, height + float(total.log())
    return height - math.log(2 * math.pi) / 2


@pytest.mark.parametrize("df", [3.0, 8.0])
def test_weights_that_are_drawn_give_the_likelihood_of_numerical_integration(df):
    """By importance sampling from the guide's weights; their mean log weight, the bound, lies below, but not far."""
    data, _ = walk(5, df)
    data = data.hide(torch.tensor([[False, False, True, False, False]]))
    data = ps.Sequences(data.values + 6 * torch.eye(5)[3, :, None].double(), mask=data.mask)
    model, coordinates = at(data, StudentTNoise(df))
    values = model._table.values(coordinates, model.units).noise
    prior = model.noise.weights(values, data)
    law = model.noise.weights_given(lambda weights: model.path(coordinates, data, weights), values, data)
    torch.manual_seed(1)
    weights = law.rsample((20_000,))
    ratios = (
        model.path(coordinates, data, weights).log_prob(data.values) + prior.log_prob(weights) - law.log_prob(weights)
    )[:, 0]
    found, exact = torch.logsumexp(ratios, 0) - torch.tensor(20_000.0).log(), by_grid(data, df)
    error = (ratios - found).exp().std() / 20_000**0.5
    assert abs(float(found) - exact) < 4 * float(error) + 1e-4 and float(error) < 0.02
    assert exact - 0.5 < float(ratios.mean()) < exact


def test_given_weights_the_path_is_gaussian_with_their_noise():
    data, _ = walk(12, 4.0)
    model, coordinates = at(data, StudentTNoise(4.0))
    plain = ps.StructuralSeries(Level()).double()
    plain.take_units(data)
    ones = torch.ones_like(data.values)
    expected = plain.path(coordinates, data).log_prob(data.values)
    torch.testing.assert_close(model.path(coordinates, data, ones).log_prob(data.values), expected)
    alone = ones.clone()
    alone[:, 5] = 1e-12  # no weight is as good as hidden, but for the density of the entry itself
    far = model.path(coordinates, data, alone).replicate(data.values).states().loc
    hidden = data.hide(torch.arange(12)[None] == 5)
    torch.testing.assert_close(far, plain.path(coordinates, hidden).replicate(hidden.values).states().loc)


def smoothed(data: ps.Sequences, noise) -> torch.Tensor:
    """Mean level (time,) at fixed parameters, by the guide's weights."""
    model, coordinates = at(ps.Sequences(data.values.clamp(-5, 5)), noise)
    weights = None
    if noise.has_weights:
        values = model._table.values(coordinates, model.units).noise
        weights = noise.weights_given(lambda w: model.path(coordinates, data, w), values, data).mean
    return model.path(coordinates, data, weights).replicate(data.values).states().loc[0, :, 0]


def test_an_outlier_moves_the_level_by_no_more_than_it_may():
    """Under normal noise as far as it is far; under Student's t ever nearer to where it is without that entry."""
    data, _ = walk(40, 30.0)
    hidden = smoothed(data.hide(torch.arange(40)[None] == 20), StudentTNoise(4.0))
    moved, left = [], []
    for size in (10.0, 100.0, 1000.0):
        values = data.values.clone()
        values[0, 20] += size
        moved.append(
            float((smoothed(ps.Sequences(values), GaussianNoise()) - smoothed(data, GaussianNoise())).abs().max())
        )
        left.append(float((smoothed(ps.Sequences(values), StudentTNoise(4.0)) - hidden).abs().max()))
    assert moved[2] == pytest.approx(100 * moved[0], rel=1e-6) and moved[0] > 1.0
    assert 0.5 > left[0] > left[1] > left[2] and left[2] < 0.02


def test_a_guide_and_chains_through_the_verbs(tmp_path):
    data, _ = walk(14, 4.0, num_series=2)
    data = data.hide(torch.arange(14)[None].expand(2, -1) == 6)
    model = ps.StructuralSeries(Cycle(), noise=StudentTNoise()).double()
    method = ps.MCMC(ps.NUTS(max_tree_depth=2), num_samples=3, warmup_steps=3)
    chains = ps.fit(model, data, method, trainer=QUIET)
    guide = ps.fit(model, data, ps.SVI(num_steps=3), trainer=QUIET)
    for posterior in (chains, guide):
        ahead = ps.forecast(posterior, data, horizon=3, num_samples=3)
        assert ahead.latents["weights"].shape == (3, 2, 14, 1) and ahead.latents["weights_future"].shape == (
            3,
            2,
            3,
            1,
        )
        assert ahead.latents["components"].shape == (3, 2, 17, 1) and ahead.latents["noise_df"].shape == (3,)
        filled = ps.impute(posterior, data, num_samples=3)
        assert torch.equal(filled.samples[0, :, 5], data.values[:, 5])
    ps.save(guide, tmp_path / "t.pt")
    again = ps.forecast(ps.load(tmp_path / "t.pt"), data, horizon=3, num_samples=3)
    assert torch.equal(again.samples, ahead.samples)
    with pytest.raises(UnsupportedError, match=r"Got \['weights'\]"):
        ps.fit(model, data, ps.Mode(), trainer=QUIET)
    with pytest.raises(UnsupportedError, match="latents of single series"):
        ps.start_filter(guide, data)


def test_it_keeps_the_contract():
    source = torch.Generator().manual_seed(0)
    data = ps.Sequences(10 + torch.randn(4, 14, 1, generator=source).cumsum(1))
    check_model(ps.StructuralSeries(Cycle(), noise=StudentTNoise()), data)


@pytest.mark.parametrize("noise", [StudentTNoise(), StudentTNoise(5.0)], ids=["learned", "given"])
def test_single_precision_and_draws(noise):
    """Prior and guide in the type of the data."""
    data = ps.Sequences(torch.randn(2, 9, 1, generator=torch.Generator().manual_seed(0)).cumsum(1))
    model = ps.StructuralSeries(Level(), noise=noise)
    model.take_units(data)
    with prediction_context(model):
        trace = poutine.trace(over_samples(model.guide, 4)).get_trace(data)
    assert (
        trace.nodes["weights"]["value"].shape == (4, 2, 9, 1) and trace.nodes["weights"]["value"].dtype == torch.float32
    )


def test_what_it_refuses():
    with pytest.raises(DataError, match="df"):
        StudentTNoise(2.0)
    with pytest.raises(DataError, match="noise"):
        ps.StructuralSeries(Level(), noise="t")


@pytest.mark.slow
def test_intervals_hold_what_comes_and_the_degrees_are_found():
    """Forty walks with noise of three degrees of freedom, five steps ahead of sixty."""
    data, _ = walk(65, 3.0, num_series=40, seed=2)
    train = data.first(60)
    scores = {}
    for noise in (StudentTNoise(), GaussianNoise()):
        model = ps.StructuralSeries(Level(), noise=noise).double()
        posterior = ps.fit(model, train, ps.SVI(num_steps=200, learning_rate=0.1, schedule=Cosine(200)), trainer=QUIET)
        scores[noise] = ps.evaluate(posterior, data, ps.Forecasting(60), num_samples=400).means()
        if noise.has_weights:
            drawn = posterior.draws(train, 200)["coordinates"][:, 0]
            found = {name: value.median() for name, value in model.parameters_at(drawn).items()}
    assert float(found["level_scale"]) == pytest.approx(0.3, rel=0.25)
    assert float(found["noise_scale"]) == pytest.approx(1.0, rel=0.2)
    assert 2.2 < float(found["noise_df"]) < 5.0
    robust, normal = scores.values()
    assert (
        abs(robust["coverage_90"] - 0.9) < 0.05 and abs(robust["coverage_50"] - 0.5) < 0.08
    )  # 200 values: 0.02, 0.035
    assert robust["crps"] < normal["crps"]
