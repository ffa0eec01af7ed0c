"""Exported posteriors as files: round trips, and files that are not whole."""

from __future__ import annotations

import resource
import signal

import arviz as az
import h5netcdf
import numpy as np
import pytest

from pyro_seq.diagnostics import load_netcdf, save_netcdf, to_arviz
from pyro_seq.errors import CheckpointError, DataError


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


def test_a_full_disk_costs_the_new_file_only(make_posterior, make_data, tmp_path):
    """Where HDF5 itself writes, such a limit ends the whole process."""
    idata = to_arviz(make_posterior(), make_data(), num_samples=3)
    path = save_netcdf(idata, tmp_path / "posterior.nc")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="could not be written"):
            save_netcdf(idata, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_file_is_that_of_arviz(make_posterior, make_data, tmp_path):
    """What ArviZ itself reads from it has the same groups, values and attributes as what ArviZ itself writes."""
    idata = to_arviz(make_posterior(), make_data(), num_samples=3)
    idata.to_netcdf(str(tmp_path / "theirs.nc"), engine="h5netcdf")
    theirs = az.from_netcdf(str(tmp_path / "theirs.nc"), engine="h5netcdf")
    ours = az.from_netcdf(str(save_netcdf(idata, tmp_path / "ours.nc")), engine="h5netcdf")
    assert ours.attrs == theirs.attrs
    names = theirs.children if hasattr(theirs, "children") else theirs.groups()
    for name in names:
        assert ours[name].identical(theirs[name]) and ours[name].attrs == theirs[name].attrs


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


def test_an_altered_name_is_noticed_and_a_file_without_a_sum_is_read(make_posterior, make_data, tmp_path):
    path = save_netcdf(to_arviz(make_posterior(), make_data(), num_samples=3), tmp_path / "posterior.nc")
    content = path.read_bytes()
    altered = content.replace(b"velocity_0", b"velocity_8")
    assert altered != content
    path.write_bytes(altered)
    with pytest.raises(DataError, match="altered"):
        load_netcdf(path)
    path.write_bytes(altered[: altered.rindex(b"\npyro_seq sha256")])  # as another library would have written it
    assert "velocity_8" in load_netcdf(path)["posterior"]["state"].values


def test_a_file_that_unpacks_to_more_than_a_memory_is_refused(tmp_path):
    """HDF5 keeps nothing of what was never written, and fills it in where it is read."""
    path = tmp_path / "huge.nc"
    with h5netcdf.File(path, "w") as file:
        group = file.create_group("posterior")
        group.dimensions = {"draw": 2**40}
        group.create_variable("x", ("draw",), dtype="f4", chunks=(2**20,))
    with pytest.raises(DataError, match=r"bytes would unpack to 4398046511104"):
        load_netcdf(path)
