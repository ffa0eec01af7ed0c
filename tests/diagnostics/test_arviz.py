"""Exports: every number against the verbs and a second route, labels."""

from __future__ import annotations

import dataclasses
import math

import arviz as az
import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch

from pyro_seq.data import Labels, Sequences
from pyro_seq.diagnostics import load_netcdf, save_netcdf, to_arviz
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.models import DynamicFactors
from pyro_seq.posterior import GuidePosterior, StoredPosterior
from pyro_seq.predict.verbs import forecast, reconstruct
from tests.toy import NOISE, make_lines
from tests.toy import make_data as make_line_data


def numbers(idata, group, name) -> torch.Tensor:
    return torch.as_tensor(idata[group][name].values)


def test_draws_are_those_of_the_verbs(make_posterior, make_data):
    posterior, data = make_posterior(), make_data(is_gappy=True).extend(horizon=2)
    idata = to_arviz(posterior, data, num_samples=7, seed=3)
    seen, future = reconstruct(posterior, data, num_samples=7, seed=3), forecast(posterior, data, num_samples=7, seed=3)
    for name in ("initial", "weights", "path"):
        torch.testing.assert_close(numbers(idata, "posterior", name)[0], seen.latents[name], rtol=0, atol=0)
    torch.testing.assert_close(numbers(idata, "posterior_predictive", "x")[0], seen.samples, rtol=0, atol=0)
    torch.testing.assert_close(numbers(idata, "predictions", "x_future")[0], future.samples, rtol=0, atol=0)
    torch.testing.assert_close(
        numbers(idata, "predictions", "path")[0], future.latents["path"][:, :, 6:], rtol=0, atol=0
    )
    torch.testing.assert_close(future.latents["path"][:, :, :6], seen.latents["path"], rtol=0, atol=0)


def test_dims_and_coords(make_posterior, make_data):
    data = make_data().extend(times=torch.tensor([8.0, 9.5]))
    idata = to_arviz(make_posterior(), data, num_samples=4)
    path = idata["posterior"]["path"]
    assert path.dims == ("chain", "draw", "series", "time", "state") and path.shape == (1, 4, 5, 6, 4)
    assert list(path.coords["state"].values) == ["position_0", "position_1", "velocity_0", "velocity_1"]
    assert list(path.coords["time"].values) == [0, 1, 2, 3, 4, 5]
    assert list(idata["predictions"]["time"].values) == [8.0, 9.5]
    assert idata["posterior"]["weights"].dims == ("chain", "draw", "weight")
    assert idata["posterior_predictive"]["x"].dims == ("chain", "draw", "series", "time", "obs")
    assert idata["log_likelihood"]["x"].dims == ("chain", "draw", "series")
    assert idata["posterior"].attrs["inference"] == "guide"
    assert idata["posterior"]["initial"].dtype == np.float32


def test_labels_of_the_caller(make_posterior, make_data):
    names = ["hip", "knee", "ankle"]
    idata = to_arviz(
        make_posterior(),
        make_data(),
        num_samples=2,
        dims={"x": ("joint",)},
        coords={"joint": names, "series": list("abcde")},
    )
    assert list(idata["observed_data"]["joint"].values) == names
    assert idata["posterior"]["initial"].sel(series="c").shape == (1, 2, 4)


def test_labels_of_the_data(make_posterior, make_data):
    labels = Labels(variables=["hip", "knee", "ankle"], series=list("abcde"))
    data = dataclasses.replace(make_data(), labels=labels)
    idata = to_arviz(make_posterior(), data, num_samples=2, groups=["posterior_predictive"])
    assert list(idata["posterior_predictive"]["series"].values) == list("abcde")
    assert list(idata["posterior_predictive"]["obs"].values) == ["hip", "knee", "ankle"]


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_times_are_dates_where_the_data_have_dates(make_posterior, make_data, tz, tmp_path):
    days = pd.date_range("2024-03-29", periods=8, freq="D", tz=tz)
    data = dataclasses.replace(make_data(), times=days)
    posterior = make_posterior()
    posterior.model.take_units(data)
    idata = to_arviz(posterior, data, num_samples=2)
    utc = days if tz is None else days.tz_convert("UTC").tz_localize(None)
    assert list(pd.to_datetime(idata["observed_data"]["time"].values)) == list(utc[:6])
    assert list(pd.to_datetime(idata["predictions"]["time"].values)) == list(utc[6:])
    save_netcdf(idata, tmp_path / "dates.nc")
    again = load_netcdf(tmp_path / "dates.nc")
    assert list(pd.to_datetime(again["predictions"]["time"].values)) == list(utc[6:])
    later = 3600 * torch.arange(5.0)[:, None]
    own = dataclasses.replace(data, times=data.times + later)
    stamps = to_arviz(posterior, own, num_samples=2)["observed_data"]["time_stamp"]
    assert stamps.dims == ("series", "time") and pd.Timestamp(stamps.values[3, 0]) == utc[0] + pd.Timedelta(hours=3)


def test_inputs_have_their_names_and_times():
    data = Sequences(torch.randn(3, 5, 1), inputs=torch.rand(3, 5, 2), labels=Labels(inputs=["dose", "age"]))
    posterior = GuidePosterior(DynamicFactors((1,), 1, input_dim=2))
    inputs = to_arviz(posterior, data, num_samples=2)["constant_data"]["inputs"]
    assert list(inputs["input"].values) == ["dose", "age"] and list(inputs["input_time"].values) == [0, 1, 2, 3, 4]


def test_image_axes_have_names(make_posterior, make_data):
    posterior, data = make_posterior((1, 8, 8)), make_data(3, 4, (1, 8, 8))
    idata = to_arviz(posterior, data, num_samples=2, groups=["posterior_predictive", "observed_data"])
    assert idata["posterior_predictive"]["x"].dims[-3:] == ("channel", "row", "column")
    assert "posterior" not in list(idata.children if hasattr(idata, "children") else idata.groups())


def test_times_of_each_series_are_a_second_coordinate(make_posterior, make_data):
    times = torch.arange(8.0) + 0.01 * torch.arange(5.0)[:, None]
    data = make_data()
    data = Sequences(data.values, times=times)
    idata = to_arviz(make_posterior(), data, num_samples=2)
    np.testing.assert_array_equal(idata["posterior"]["time_stamp"].values, times[:, :6].double())
    np.testing.assert_array_equal(idata["predictions"]["time_stamp"].values, times[:, 6:].double())
    assert list(idata["predictions"]["time"].values) == [6, 7]


def test_hidden_entries_are_nan(make_posterior, make_data):
    data = make_data(is_gappy=True)
    observed = numbers(to_arviz(make_posterior(), data, num_samples=2), "observed_data", "x")
    assert torch.equal(observed.isnan(), ~data.entry_mask)
    assert torch.equal(observed[data.entry_mask], data.values[data.entry_mask])


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_log_likelihood_is_the_density_of_what_was_seen(make_posterior, make_data, chunk_size):
    posterior, data = make_posterior(), make_data(is_gappy=True)
    idata = to_arviz(posterior, data.minibatch(torch.tensor([3, 1])), num_samples=7, chunk_size=chunk_size, seed=5)
    model, path = posterior.model, numbers(idata, "posterior", "path")[0]
    with torch.no_grad():
        emission = model.emission(model.flow.position(path))
    kept = data[[3, 1]]
    entries = torch.where(kept.entry_mask, emission.log_prob(kept.values), 0.0)
    torch.testing.assert_close(numbers(idata, "log_likelihood", "x")[0], entries.sum((-2, -1)), rtol=1e-5, atol=1e-4)


def test_log_likelihood_of_lines_in_closed_form():
    model, data = make_lines(), make_line_data(3, 9)
    sites = {"line": torch.randn(2, 50, 3, 2), "drift": torch.randn(2, 50, 1)}
    idata = to_arviz(StoredPosterior(model, data, sites, frozenset({"drift"})), data)
    slope = sites["line"][..., 1:] + sites["drift"][..., None, :]
    path = sites["line"][..., :1] + slope * model.model_times(data)
    means = path[..., None] * model.emit.weight.detach()[:, 0] + model.emit.bias.detach()
    exact = dist.Normal(means, NOISE).log_prob(data.values).sum((-2, -1))
    torch.testing.assert_close(numbers(idata, "log_likelihood", "x"), exact, rtol=1e-5, atol=1e-3)


def test_loo_leaves_out_series():
    generator = torch.Generator().manual_seed(0)
    sites = {"line": 0.001 * torch.randn(2, 200, 3, 2, generator=generator), "drift": torch.zeros(2, 200, 1)}
    data = make_line_data(3, 9)
    idata = to_arviz(StoredPosterior(make_lines(), data, sites, frozenset({"drift"})), data, sites=["line"])
    result = az.loo(idata)
    # draws that hardly differ have nearly equal weights, so leaving out a series changes little
    likelihood = numbers(idata, "log_likelihood", "x").double()
    exact = -torch.logsumexp(-likelihood.flatten(0, 1), 0).sub(math.log(400)).sum()
    assert result.n_data_points == 3
    assert float(getattr(result, "elpd", None) or result.elpd_loo) == pytest.approx(float(exact), rel=1e-3)


def test_chains_stay_apart(make_stored):
    posterior = make_stored()
    idata = to_arviz(posterior, posterior.data.extend(horizon=1))
    assert torch.equal(numbers(idata, "posterior", "line"), posterior.sites["line"])
    assert torch.equal(numbers(idata, "posterior", "drift"), posterior.sites["drift"])
    assert torch.equal(numbers(idata, "sample_stats", "diverging"), posterior.sample_stats["diverging"])
    assert idata["posterior"].attrs["inference"] == "MCMC"
    assert idata["posterior"]["path"].shape == (2, 50, 4, 9, 1), "a site without names is exported all the same"


def test_thinned_chains_keep_their_statistics(make_stored):
    posterior = make_stored()
    idata = to_arviz(posterior, posterior.data, num_samples=10)
    lines, lp = numbers(idata, "posterior", "line"), numbers(idata, "sample_stats", "lp")
    kept = [0, 12, 24, 37, 49]
    assert torch.equal(lines, posterior.sites["line"][:, kept]) and torch.equal(
        lp, posterior.sample_stats["lp"][:, kept]
    )
    for count in (101, 200, 7):
        with pytest.raises(DataError, match="num_samples"):
            to_arviz(posterior, posterior.data, num_samples=count)


def test_selected_sites(make_posterior, make_data):
    idata = to_arviz(make_posterior(), make_data().extend(horizon=2), num_samples=2, sites=["initial"])
    assert set(idata["posterior"].data_vars) == {"initial"} and set(idata["predictions"].data_vars) == {"x_future"}


def test_field_at_probes_has_the_draws_of_the_export(make_posterior, make_data):
    posterior, data, probes = make_posterior(), make_data(), torch.randn(4, 4)
    idata = to_arviz(posterior, data, num_samples=6, probes=probes)
    weights, field = numbers(idata, "posterior", "weights")[0], numbers(idata, "posterior", "field")[0]
    for draw in range(6):
        one = posterior.model.vector_field.function(weights[draw])
        torch.testing.assert_close(field[draw], one(probes).detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(numbers(idata, "constant_data", "probes"), probes)
    assert idata["posterior"]["field"].dims == ("chain", "draw", "probe", "output")


def test_extra_quantities(make_posterior, make_data):
    energy = torch.rand(4, 5)
    idata = to_arviz(make_posterior(), make_data(), num_samples=4, extra={"energy": (energy, ["series"])})
    torch.testing.assert_close(numbers(idata, "posterior", "energy")[0], energy)
    with pytest.raises(ShapeError, match="4 draws"):
        to_arviz(make_posterior(), make_data(), num_samples=4, extra={"energy": (energy[:3], ["series"])})


def test_wrong_names(make_posterior, make_data):
    posterior, data = make_posterior(), make_data()
    with pytest.raises(DataError, match="`sites`"):
        to_arviz(posterior, data, sites=["speed"])
    with pytest.raises(DataError, match="`groups`"):
        to_arviz(posterior, data, groups="posterior")
    with pytest.raises(DataError, match="one label for each of 3"):
        to_arviz(posterior, data, num_samples=2, coords={"obs": ["a", "b"]})
    with pytest.raises(ShapeError, match="name its 1 axes"):
        to_arviz(posterior, data, num_samples=2, dims={"initial": ("state", "time")})
    with pytest.raises(ShapeError, match="'time' for sizes"):
        to_arviz(posterior, data, num_samples=2, dims={"initial": ("time",)})


def test_export_leaves_the_random_state(make_posterior, make_data, assert_rng_untouched):
    with assert_rng_untouched():
        to_arviz(make_posterior(), make_data().extend(horizon=1), num_samples=2)
