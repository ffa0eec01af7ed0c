"""Parameters of many series: alone as so many single fits, around those of all in between, and through every verb."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.nn.components import Hierarchical, Level, PerSeries, Seasonal, Shared, Trend
from pyro_seq.nn.components.sharing import Common
from pyro_seq.nn.variogram import VariogramEncoder
from pyro_seq.testing import check_model

QUIET = ps.Trainer(progress=False, accelerator="cpu")
TRUTH = torch.tensor([[1.0, 1.0], [0.3, 1.0], [2.0, 3.0]]).double()  # scales of level and noise, of each kind of series


def walks(num_steps: int = 100, each: int = 1, *, seed: int = 0) -> ps.Sequences:
    """Noisy walks of three kinds, with gaps, one of them at the start."""
    source = torch.Generator().manual_seed(seed)
    level, noise = TRUTH.repeat_interleave(each, 0).unbind(-1)
    shape = (len(level), num_steps)
    walk = level[:, None] * torch.randn(shape, generator=source).double().cumsum(1)
    values = 20 + walk + noise[:, None] * torch.randn(shape, generator=source).double()
    hidden = torch.rand(shape, generator=source) < 0.1
    hidden[0, :2] = True
    return ps.Sequences(values[..., None]).hide(hidden)


def at_mode(data: ps.Sequences, sharing, *, units: ps.Sequences | None = None, has_prior: bool = True):
    model = ps.StructuralSeries(Level(), sharing=sharing).double()
    model.take_units(data if units is None else units)
    return ps.fit(model, data, ps.Mode(has_prior=has_prior, num_starts=1), trainer=QUIET)


def shown(posterior: ps.PointPosterior, data: ps.Sequences) -> torch.Tensor:
    """Coordinates of each series, (series, parameter)."""
    return ps.reconstruct(posterior, data, num_samples=1).latents["coordinates"][0].expand(len(data), -1)


@pytest.mark.parametrize("has_prior", [True, False])
def test_own_parameters_are_those_of_single_fits(has_prior):
    data = walks()
    together = at_mode(data, PerSeries(), has_prior=has_prior)
    singles = [at_mode(data[[k]], Shared(), units=data, has_prior=has_prior) for k in range(3)]
    alone = torch.stack([single.sites["coordinates"] for single in singles])
    torch.testing.assert_close(together.sites["coordinates"], alone, rtol=0, atol=2e-3)
    height = sum(single.history["log_density"][-1] for single in singles)
    assert together.history["log_density"][-1] == pytest.approx(height, abs=1e-5)
    one, other = (
        ps.forecast(fit, data[[2]], horizon=4, num_samples=3).emission_means for fit in (together, singles[2])
    )
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_a_hierarchy_lies_between_one_set_of_parameters_and_so_many():
    """Towards no spread it is the former, towards any the latter; and on the way series go apart."""
    data = walks()
    shared, own = (
        shown(at_mode(data, each, has_prior=prior), data) for each, prior in ((Shared(), True), (PerSeries(), False))
    )
    found = [shown(at_mode(data, Hierarchical(spread)), data) for spread in (1e-3, 0.3, 100.0)]
    torch.testing.assert_close(found[0], shared, rtol=0, atol=5e-3)
    torch.testing.assert_close(found[-1], own, rtol=0, atol=5e-3)
    apart = [float(each.std(0).norm()) for each in found]
    assert apart == sorted(apart) and apart[0] < 0.01 * apart[-1]


def test_each_series_has_the_law_of_its_own_parameters_at_its_own_times():
    data = walks(20)
    times = torch.rand(3, 20, generator=torch.Generator().manual_seed(3)).double().add(0.1).cumsum(1)
    data = ps.Sequences(data.values, mask=data.mask, times=times)
    model = ps.StructuralSeries(Level() + Seasonal(5.5, harmonics=2), sharing=PerSeries()).double()
    model.take_units(data)
    coordinates = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(4)).double()
    found = model.path(coordinates, data).log_prob(data.values)
    for k in range(3):
        alone = model.path(coordinates[:, k, None], data[[k]]).log_prob(data[[k]].values)
        torch.testing.assert_close(found[:, k, None], alone)


def test_evidence_and_prior_make_a_posterior():
    """The product of two normal densities of a deviation, on a grid; and the prior where nothing is seen."""
    place, spread = torch.tensor([0.3]).double(), torch.tensor([0.7]).double()
    evidence = torch.distributions.Normal(torch.tensor([[1.2]]).double(), 0.4)
    law = Common(place, spread).given(evidence, torch.tensor([[True]])).base_dist
    grid = torch.linspace(-8, 8, 4001).double()
    density = torch.exp(-grid.square() / 2 + evidence.log_prob(place + spread * grid[:, None])[..., 0])
    mean = (grid * density).sum() / density.sum()
    deviation = ((grid - mean).square() * density).sum().div(density.sum()).sqrt()
    torch.testing.assert_close(torch.stack([law.loc.squeeze(), law.scale.squeeze()]), torch.stack([mean, deviation]))
    law = Common(place, spread).given(evidence, torch.tensor([[False]])).base_dist
    assert float(law.loc) == 0.0 and float(law.scale) == 1.0


@pytest.mark.parametrize("sharing", [PerSeries(), Hierarchical()], ids=["own", "around"])
def test_it_keeps_the_contract(sharing):
    source = torch.Generator().manual_seed(0)
    check_model(
        ps.StructuralSeries(Level(), sharing=sharing),
        ps.Sequences(10 + torch.randn(4, 14, 1, generator=source).cumsum(1)),
    )


def test_chains_of_a_hierarchy_through_the_verbs(tmp_path):
    data = walks(15)
    model = ps.StructuralSeries(Trend(), sharing=Hierarchical()).double()
    chains = ps.MCMC(ps.NUTS(max_tree_depth=2), num_samples=4, warmup_steps=4)
    posterior = ps.fit(model, data, chains, trainer=QUIET)
    ahead = ps.forecast(posterior, data[[1]], horizon=2, num_samples=4)
    assert ahead.latents["noise_scale"].shape == (4, 1) and ahead.latents["components"].shape == (4, 1, 17, 1)
    assert ahead.latents["common"].shape == ahead.latents["spread"].shape == (4, 3)
    idata = ps.to_arviz(posterior, data)
    assert idata["posterior"]["trend_level_scale"].dims == ("chain", "draw", "series")
    assert idata["posterior"]["deviations"].dims == ("chain", "draw", "series", "parameter")
    with pytest.raises(DataError, match=r"series that were fitted.*fit with a guide"):
        ps.forecast(posterior, walks(15, seed=1), horizon=2)
    ps.save(posterior, tmp_path / "chains.pt")
    again = ps.forecast(ps.load(tmp_path / "chains.pt"), data[[1]], horizon=2, num_samples=4)
    assert torch.equal(again.samples, ahead.samples)


def test_a_mode_of_each_series_is_for_the_fitted_ones(tmp_path):
    data = walks(15)
    posterior = at_mode(data, PerSeries())
    filled = ps.impute(posterior, data[[2, 0]], num_samples=2)
    assert filled.latents["level_scale"].shape == (2, 2)
    with pytest.raises(DataError, match=r"Series 0 is not among them"):
        ps.forecast(posterior, walks(15, seed=1), horizon=2)
    ps.save(posterior, tmp_path / "mode.pt")
    again = ps.load(tmp_path / "mode.pt")
    assert torch.equal(again.draws(data[[1]], 2)["coordinates"], posterior.draws(data[[1]], 2)["coordinates"])
    idata = ps.to_arviz(posterior, data, num_samples=3)
    assert idata["posterior"]["level_scale"].shape == (1, 3, 3)
    with pytest.raises(UnsupportedError, match=r"Got \['spread'\] in StructuralSeries"):
        at_mode(data, Hierarchical())


def test_what_it_refuses():
    for spread in (0.0, "wide"):
        with pytest.raises(DataError, match="spread"):
            Hierarchical(spread)
    with pytest.raises(DataError, match="sharing"):
        ps.StructuralSeries(Level(), sharing="own")
    for sharing, dim in ((Shared(), 2), (PerSeries(), 3)):
        with pytest.raises(DataError, match="encoder"):
            ps.StructuralSeries(Level(), sharing=sharing, encoder=VariogramEncoder(dim))


@pytest.mark.slow
def test_the_guide_recovers_parameters_of_series_it_was_not_trained_on():
    """Of three kinds of walks; nearer than what all share."""
    train, test = walks(100, 40), walks(100, 20, seed=1)
    model = ps.StructuralSeries(Level(), sharing=Hierarchical()).double()
    method = ps.SVI(num_steps=300, learning_rate=0.02, batch_size=60)
    posterior = ps.fit(model, train, method, trainer=QUIET)
    drawn = ps.reconstruct(posterior, test, num_samples=50).latents
    found = torch.stack([drawn[name].log().mean(0) for name in ("level_scale", "noise_scale")], -1)
    truth = TRUTH.log().repeat_interleave(20, 0)
    error, constant = ((found - truth).square().mean().sqrt(), (truth - truth.mean(0)).square().mean().sqrt())
    assert float(error) < 0.5 * float(constant)
    deviations = torch.stack([drawn[name].log().std(0) for name in ("level_scale", "noise_scale")], -1)
    assert 0.4 < float(((found - truth) / deviations).square().mean().sqrt()) < 2.0  # as sure as it is right
