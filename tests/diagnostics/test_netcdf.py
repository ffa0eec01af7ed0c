"""Exported posteriors as files: round trips, and files that are not whole."""

from __future__ import annotations

import numpy as np
import pytest

from pyro_seq.diagnostics import load_netcdf, save_netcdf, to_arviz
from pyro_seq.errors import DataError


def test_file_round_trip(make_posterior, make_data, tmp_path):
    idata = to_arviz(make_posterior(), make_data(is_gappy=True).extend(horizon=2), num_samples=3)
    path = save_netcdf(idata, tmp_path / "deep" / "er" / "posterior.nc")
    save_netcdf(idata, path)
    again = load_netcdf(path)
    assert type(again) is type(idata) and [file.name for file in path.parent.iterdir()] == ["posterior.nc"]
    for group in ("posterior", "posterior_predictive", "predictions", "log_likelihood", "observed_data"):
        for name, values in idata[group].data_vars.items():
            np.testing.assert_array_equal(again[group][name].values, values.values)
            assert again[group][name].dims == values.dims
    assert list(again["posterior"]["state"].values) == list(idata["posterior"]["state"].values)
    assert again["posterior"].attrs["inference"] == "guide"


def test_sampler_statistics_survive_a_file(make_stored, tmp_path):
    posterior = make_stored()
    again = load_netcdf(save_netcdf(to_arviz(posterior, posterior.data), tmp_path / "chains.nc"))
    assert again["sample_stats"]["diverging"].dtype == bool


def test_broken_file(tmp_path):
    path = tmp_path / "half.nc"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for wrong in (path, tmp_path / "missing.nc"):
        with pytest.raises(DataError, match="whole file"):
            load_netcdf(wrong)
