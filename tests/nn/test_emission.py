"""Emissions: densities against formulas, shapes with any axes in front, units and ranges of the data."""

from __future__ import annotations

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch
from torch import nn
from torch.nn import functional

import pyro_seq as ps
from pyro_seq._recipes import rebuilt, recipe
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.emission import BernoulliEmission, Emission, GaussianEmission, MeanAndNoise, PixelEmission
from pyro_seq.nn.units import Standardise
from pyro_seq.testing import check_model

LEADS = pytest.mark.parametrize("lead", [(), (5,), (2, 3, 5)])


class LaplaceEmission(Emission):
    """What a user writes."""

    def given(self, decoded):
        return dist.Laplace(decoded, 0.1)


def position(*lead: int) -> torch.Tensor:
    return torch.randn(*lead, 2, dtype=torch.float64)


def decoder() -> nn.Linear:
    return nn.Linear(2, 3).double()


@LEADS
@pytest.mark.parametrize("kind", [LaplaceEmission, BernoulliEmission, PixelEmission, GaussianEmission])
def test_entries_are_the_batch_after_any_leading_axes(kind, lead):
    emission = kind(decoder()).double()
    where = position(*lead)
    seen = emission(where)
    assert seen.batch_shape == (*lead, 3) and seen.event_shape == ()
    flat = emission(where.reshape(-1, 2)).mean
    torch.testing.assert_close(seen.mean, flat.reshape(*lead, 3), rtol=1e-12, atol=1e-12)


def test_bernoulli_is_the_cross_entropy_of_the_logits():
    emission, where = BernoulliEmission(decoder()), position(7)
    pixels = torch.rand(7, 3, dtype=torch.float64)
    expected = -functional.binary_cross_entropy_with_logits(emission.decoder(where), pixels, reduction="none")
    torch.testing.assert_close(emission(where).log_prob(pixels), expected, rtol=1e-12, atol=1e-12)


def test_pixels_are_normal_around_the_sigmoid():
    emission, where = PixelEmission(decoder(), scale=0.2), position(7)
    pixels = torch.rand(7, 3, dtype=torch.float64)
    mean = 1 / (1 + (-emission.decoder(where)).exp())
    constant = torch.log(torch.tensor(0.2 * (2 * torch.pi) ** 0.5, dtype=torch.float64))
    expected = -0.5 * ((pixels - mean) / 0.2) ** 2 - constant
    torch.testing.assert_close(emission(where).log_prob(pixels), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale_shape", [None, (), (3,)])
def test_gaussian_noise_is_a_share_of_the_unit_of_each_variable(scale_shape):
    emission = GaussianEmission(decoder(), initial_scale=0.25, scale_shape=scale_shape).double()
    values = 50 + torch.tensor([1e-9, 0.1, 2e9]) * torch.randn(9, 4, 3, dtype=torch.float64)
    emission.adapt(Sequences(values))
    where = position(7)
    centre, unit = values.mean((0, 1)), values.std((0, 1), correction=0)
    torch.testing.assert_close(emission(where).mean, centre + unit * emission.decoder(where), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(emission.scale.detach(), 0.25 * unit, rtol=1e-6, atol=0)  # the start is a float32
    assert emission.log_scale.shape == ((3,) if scale_shape is None else scale_shape)


def test_gaussian_densities_are_those_of_the_formula():
    emission = GaussianEmission(decoder(), initial_scale=0.25).double()
    values = torch.tensor([80.0, 7.4, 2e5]) + torch.tensor([10.0, 0.05, 3e4]) * torch.randn(9, 4, 3).double()
    emission.adapt(Sequences(values))
    seen, where = values[:, 0], position(9)
    scale = emission.scale.detach()
    expected = -0.5 * ((seen - emission(where).mean) / scale) ** 2 - (scale * (2 * torch.pi) ** 0.5).log()
    torch.testing.assert_close(emission(where).log_prob(seen), expected, rtol=1e-9, atol=1e-9)


def test_all_entries_are_one_variable_where_that_is_asked_for():
    emission = GaussianEmission(decoder(), units=Standardise(())).double()
    values = torch.tensor([1.0, 2.0, 9.0]) * torch.randn(9, 4, 3, dtype=torch.float64)
    emission.adapt(Sequences(values))
    assert emission.scale.shape == emission.log_scale.shape == ()
    assert float(emission.scale.detach()) == pytest.approx(0.5 * float(values.std(correction=0)), rel=1e-6)


def test_pixels_of_an_image_are_one_variable():
    emission = GaussianEmission(nn.Sequential(nn.Linear(2, 18), nn.Unflatten(1, (2, 3, 3))))
    emission.adapt(Sequences(torch.rand(4, 5, 2, 3, 3)))
    assert emission.scale.shape == () and emission(torch.zeros(6, 2)).batch_shape == (6, 2, 3, 3)


def test_the_noise_takes_its_shape_once_and_stays_the_same_parameter():
    emission = GaussianEmission(decoder(), initial_scale=0.1)
    emission.log_scale.requires_grad_(False)
    before = emission.log_scale
    emission.adapt(Sequences(torch.randn(9, 4, 3)))
    assert emission.log_scale is before and not before.requires_grad and before.shape == (3,)
    before.copy_(torch.tensor([1.0, 2.0, 3.0]))
    emission.adapt(Sequences(torch.randn(9, 4, 3)))
    assert before.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("is_adapted", [True, False])
def test_saved_noise_brings_its_shape(is_adapted):
    """One number for all variables is what files of earlier versions hold."""
    data = Sequences(torch.randn(9, 4, 3))
    for options in ({}, {"units": Standardise(())}):
        emission, saved = GaussianEmission(decoder()), GaussianEmission(decoder(), initial_scale=0.2, **options)
        saved.adapt(data)
        if is_adapted:
            emission.adapt(Sequences(5 * data.values))
        emission.load_state_dict(saved.state_dict())
        where = torch.randn(7, 2)
        found, expected = emission.double()(where.double()), saved.double()(where.double())
        assert torch.equal(found.mean, expected.mean) and torch.equal(found.stddev, expected.stddev)
        assert emission.log_scale.shape == saved.log_scale.shape


def test_gaussian_noise_has_a_floor():
    emission = GaussianEmission(decoder(), minimum_scale=0.01)
    with torch.no_grad():
        emission.log_scale.fill_(-1e4)
    assert float(emission.scale.detach()) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", [BernoulliEmission, PixelEmission])
@pytest.mark.parametrize("worst", [-0.01, 1.01, 255.0])
def test_pixels_lie_between_zero_and_one(kind, worst):
    values = torch.full((1, 2, 3), 0.5)
    kind().check(Sequences(values))
    values[0, 1, 2] = worst
    with pytest.raises(DataError, match=r"`data.values` must lie in \[0, 1\].*Divide 8-bit images by 255"):
        kind().check(Sequences(values))
    LaplaceEmission().check(Sequences(values))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_scales_are_positive(scale):
    with pytest.raises(DataError, match="`scale` must be a positive number"):
        PixelEmission(scale=scale)


def test_an_emission_without_a_likelihood_says_what_to_write():
    with pytest.raises(NotImplementedError, match="`given"):
        Emission(decoder())(position(2))


def state_noise() -> GaussianEmission:
    """Two decoders of three variables, in units of their own."""
    torch.manual_seed(0)
    emission = GaussianEmission(MeanAndNoise(decoder(), decoder()), has_state_noise=True).double()
    emission.adapt(Sequences(torch.randn(9, 7, 3, dtype=torch.float64) * torch.tensor([1.0, 20.0, 0.1]) + 5))
    return emission


@LEADS
def test_noise_that_depends_on_the_state_is_normal_with_that_scale(lead):
    emission, where = state_noise(), position(*lead)
    values = 5 + torch.randn(*lead, 3, dtype=torch.float64)
    law, units = emission(where), emission.units
    mean = (units.centre + units.unit * emission.decoder.mean(where)).detach().numpy()
    times = np.exp(4 * np.tanh(emission.decoder.noise(where).detach().numpy() / 4))
    scale = units.unit.numpy() * (emission.minimum_scale + emission.log_scale.detach().exp().numpy() * times)
    assert law.batch_shape == (*lead, 3)
    np.testing.assert_allclose(law.log_prob(values).detach(), scipy.stats.norm(mean, scale).logpdf(values), rtol=1e-9)
    np.testing.assert_allclose(law.stddev.detach(), scale, rtol=1e-12)


def test_gradients_of_a_noise_that_depends_on_the_state_are_those_of_differences():
    emission, values = state_noise(), 5 + torch.randn(4, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda where: emission(where).log_prob(values), position(4).requires_grad_(), eps=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("h", [-1e9, 1e9])
def test_no_state_makes_the_noise_vanish_or_explode(h):
    emission = GaussianEmission(has_state_noise=True)
    with torch.no_grad():
        law = emission.given(torch.tensor([[0.0, h]]))
    assert 0.5 / 60 < float(law.stddev) < 0.5 * 60 and bool(law.log_prob(torch.tensor([3.0])).isfinite())


def by_calm_and_rough(emission: GaussianEmission) -> list[float]:
    """Share of new values inside central 90 % intervals, in fifths of the states, whose noise grows 20-fold."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        where = 2 * torch.rand(count, 1, generator=generator) - 1
        noise = (1.5 * where).exp() * torch.randn(count, 1, generator=generator)
        return where, 100 + 30 * (2 * where.sin() + 0.3 * noise)

    where, values = drawn(4000)
    emission.adapt(Sequences(values[None]))
    optimiser = torch.optim.Adam(emission.parameters(), lr=1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        (-emission(where).log_prob(values).mean()).backward()
        optimiser.step()
    where, values = drawn(5000)
    law = emission(where)
    is_inside = ((values - law.mean).abs() < 1.6449 * law.stddev)[:, 0].float()
    return [float(part.mean()) for part in is_inside[where[:, 0].argsort()].chunk(5)]


def test_intervals_hold_their_share_where_it_is_calm_and_where_it_is_rough():
    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1))

    torch.manual_seed(0)
    error = (0.9 * 0.1 / 1000) ** 0.5
    own = by_calm_and_rough(GaussianEmission(MeanAndNoise(network(), network()), has_state_noise=True))
    assert max(abs(share - 0.9) for share in own) < 4 * error + 0.01
    one = by_calm_and_rough(GaussianEmission(network()))
    assert one[0] > 0.99 and one[-1] < 0.75


def test_a_decoder_must_fit_the_noise():
    for options in ({"has_state_noise": True}, {}):
        wrong = decoder() if options else MeanAndNoise(decoder(), decoder())
        with pytest.raises(DataError, match="`decoder` must be a `MeanAndNoise` with `has_state_noise`, and only then"):
            GaussianEmission(wrong, **options)
    with pytest.raises(DataError, match="`parts` must read one number for each column"):
        ps.ColumnsEmission([([0], GaussianEmission(has_state_noise=True))])


@pytest.mark.parametrize(("model", "shape"), [("ODELEBM", (2,)), ("ODE2VAE", (1, 16, 16))])
def test_models_keep_the_rules_with_noise_that_depends_on_the_state(model, shape):
    torch.manual_seed(0)
    emission = GaussianEmission(has_state_noise=True)
    if model == "ODELEBM":
        made = ps.ODELEBM(shape, 2, encoder=ps.RNNEncoder(shape, 2), emission=emission)
    else:
        made = ps.ODE2VAE(shape, 2, emission=emission)
    again = rebuilt(recipe(made))
    assert again.emission.has_state_noise and isinstance(again.emission.decoder, MeanAndNoise)
    data = Sequences(torch.rand(4, 5, *shape, generator=torch.Generator().manual_seed(1)))
    assert not check_model(made, data).names("failed")
