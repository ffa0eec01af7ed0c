"""`Mode` against closed forms, its warnings, and what it refuses."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError, NumericalError, UnsupportedError

QUIET = ps.Trainer(progress=False)


class Coins(ps.SequenceModel):
    """Values around a mean with a precision, both shared by all series; the latter is positive."""

    dims: ClassVar = {"mean": ("entry",), "precision": ("entry",)}
    obs_shape = (1,)
    limit = float("inf")
    num_walls = 0

    def model(self, data):
        self.bind()
        mean = pyro.sample("mean", dist.Normal(data.values.new_zeros(1), 10.0).to_event(1))
        one = data.values.new_ones(1)
        precision = pyro.sample("precision", dist.Gamma(3.0 * one, 2.0 * one).to_event(1))
        if bool((precision > self.limit).any()):
            self.num_walls += 1
            raise NumericalError("too precise")
        with self.series(data):
            path = mean[..., None, None, :].expand(*mean.shape[:-1], data.num_series, data.times.shape[-1], 1)
            if mean.ndim > 1:
                path = mean[..., None, :].expand(*mean.shape[:-2], data.num_series, data.times.shape[-1], 1)
                precision = precision[..., None, :]
            self.observe(lambda state: dist.Normal(state, precision.rsqrt()), path, data)


def make_data(dtype: torch.dtype = torch.float64) -> ps.Sequences:
    values = 2.0 + 0.5 * torch.randn(3, 8, 1, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return ps.Sequences(values).hide(values > 2.8)


def test_maximum_likelihood_is_mean_and_variance():
    data = make_data()
    posterior = ps.fit(Coins(), data, ps.Mode(has_prior=False), trainer=QUIET)
    seen = data.values[data.entry_mask]
    torch.testing.assert_close(posterior.sites["mean"], seen.mean()[None], rtol=1e-6, atol=0)
    torch.testing.assert_close(1 / posterior.sites["precision"], seen.var(correction=0)[None], rtol=1e-6, atol=0)
    height = dist.Normal(seen.mean(), seen.std(correction=0)).log_prob(seen).sum()
    assert posterior.history["log_density"][-1] == pytest.approx(float(height), abs=1e-9)
    climbed = torch.tensor(posterior.history["log_density"]).diff()
    assert bool((climbed >= 0).all()) and posterior.history["step"] == [*map(float, range(len(climbed) + 1))]


def test_the_prior_counts_as_the_model_writes_it():
    """Both derivatives of the joint density vanish, without a Jacobian of the coordinates."""
    data = make_data()
    sites = ps.fit(Coins(), data, ps.Mode(), trainer=QUIET).sites
    seen, mean, precision = data.values[data.entry_mask], sites["mean"], sites["precision"]
    by_mean = precision * (seen - mean).sum() - mean / 100
    by_precision = (3 - 1) / precision - 2 + len(seen) / (2 * precision) - (seen - mean).square().sum() / 2
    assert abs(float(by_mean)) < 1e-5 and abs(float(by_precision)) < 1e-5


def test_same_seed_same_bits_and_no_trace():
    data, model = make_data(), Coins()
    state = torch.get_rng_state()
    one, other = (ps.fit(model, data, ps.Mode(num_starts=2), seed=3, trainer=QUIET) for _ in range(2))
    assert all(torch.equal(one.sites[name], other.sites[name]) for name in one.sites)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_steps_back_from_where_a_model_breaks_down():
    """A step of the search leads beyond a wall, and the maximum lies before it."""
    data, model = make_data(), Coins()
    data = ps.Sequences(2.0 + 0.3 * (data.values - 2.0), mask=data.mask)
    seen = data.values[data.entry_mask]
    model.limit = 1.2 / float(seen.var(correction=0))
    posterior = ps.fit(model, data, ps.Mode(has_prior=False, num_starts=1), trainer=QUIET)
    assert model.num_walls > 0
    torch.testing.assert_close(1 / posterior.sites["precision"], seen.var(correction=0)[None], rtol=1e-6, atol=0)


def test_single_precision():
    data = make_data(torch.float32)
    sites = ps.fit(Coins(), data, ps.Mode(has_prior=False), trainer=QUIET).sites
    assert sites["mean"].dtype == torch.float32
    torch.testing.assert_close(sites["mean"], data.values[data.entry_mask].mean()[None], rtol=1e-3, atol=0)


def test_predictions_share_the_point(tmp_path):
    data = make_data()
    posterior = ps.fit(Coins(), data, ps.Mode(), trainer=QUIET)
    ahead = ps.forecast(posterior, data, horizon=2, num_samples=400)
    assert torch.equal(ahead.latents["mean"], posterior.sites["mean"].expand(400, 1))
    assert float(ahead.samples.mean()) == pytest.approx(float(posterior.sites["mean"]), abs=0.05)
    idata = ps.to_arviz(posterior, data, num_samples=7)
    assert idata["posterior"]["mean"].shape == (1, 7, 1) and idata["posterior"].attrs["inference"] == "point"
    ps.save(posterior, tmp_path / "point.pt")
    again = ps.load(tmp_path / "point.pt", Coins())
    assert again.history == posterior.history and again.sites.keys() == posterior.sites.keys()
    assert all(torch.equal(again.sites[name], value) for name, value in posterior.sites.items())


def test_a_search_that_has_not_arrived_says_so():
    with pytest.warns(UserWarning, match="not arrived after 1 of 1 steps"):
        ps.fit(Coins(), make_data(), ps.Mode(num_starts=1, num_steps=1), trainer=QUIET)


class OwnMeans(ps.SequenceModel):
    """Values of variance 1 around a mean of each series, which is standard normal."""

    dims: ClassVar = {"mean": ("entry",)}
    obs_shape = (1,)

    def model(self, data):
        self.bind()
        with self.series(data):
            mean = pyro.sample("mean", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            path = mean[..., None, :].expand(*mean.shape[:-1], data.times.shape[-1], 1)
            self.observe(lambda state: dist.Normal(state, 1.0), path, data)


def test_latents_of_single_series_are_found_for_these():
    """A mean shrinks to its sum over one more than there are."""
    data = make_data()
    posterior = ps.fit(OwnMeans(), data, ps.Mode(), trainer=QUIET)
    expected = data.values.sum(1) / (data.entry_mask.sum(1) + 1)
    torch.testing.assert_close(posterior.sites["mean"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(posterior.draws(data[[2]], 2)["mean"], posterior.sites["mean"][[2]].expand(2, 1, 1))
    with pytest.raises(DataError, match="Series 1 is not among them"):
        posterior.draws(ps.Sequences(torch.cat([data.values[:1], data.values[1:2] + 1])), 2)


def test_what_it_refuses():
    class Scales(Coins):
        sites_without_mode = ("precision",)

    with pytest.raises(UnsupportedError, match=r"Got \['precision'\] in Scales"):
        ps.fit(Scales(), make_data(), ps.Mode(), trainer=QUIET)
    data = make_data()
    with pytest.raises(UnsupportedError, match="validation"):
        ps.fit(Coins(), data, ps.Mode(), validation=data, trainer=QUIET)
    with pytest.raises(DataError, match="whole data set"):
        ps.fit(Coins(), data.minibatch(torch.tensor([1])), ps.Mode(), trainer=QUIET)
    for options in ({"has_prior": 1}, {"num_starts": 0}, {"num_steps": 0.5}):
        with pytest.raises(DataError, match=next(iter(options))):
            ps.Mode(**options)


def test_a_model_that_is_nowhere_finite():
    class Broken(Coins):
        def model(self, data):
            super().model(data)
            pyro.factor("broken", data.values.new_tensor(float("-inf")))

    with pytest.raises(NumericalError, match="None of 2 starts"):
        ps.fit(Broken(), make_data(), ps.Mode(num_starts=2), trainer=QUIET)
