"""Tables: moments against NumPy, convergence figures where they mean something."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.diagnostics import summary, to_arviz
from pyro_seq.errors import DataError
from pyro_seq.posterior import StoredPosterior
from tests.toy import make_data, make_lines


def chains(offset=0.0, num_chains=4, length=500):
    lines = torch.randn(num_chains, length, 3, 2, generator=torch.Generator().manual_seed(0))
    lines[0] += offset
    drift = torch.randn(num_chains, length, 1, generator=torch.Generator().manual_seed(1))
    data = make_data(3)
    return to_arviz(StoredPosterior(make_lines(), data, {"line": lines, "drift": drift}, frozenset({"drift"})), data)


def test_moments_and_intervals():
    idata = chains()
    table = summary(idata, ["line"], level=0.8)
    flat = idata["posterior"]["line"].values.reshape(2000, 6)
    np.testing.assert_allclose(table["mean"], flat.mean(0), atol=1e-5)
    np.testing.assert_allclose(table["sd"], flat.std(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(table[["lower", "upper"]].to_numpy().T, np.quantile(flat, [0.1, 0.9], axis=0), atol=1e-4)
    assert list(table.index[:3]) == ["line[0, 0]", "line[0, 1]", "line[1, 0]"]


def test_mixed_chains_pass_and_stuck_ones_fail():
    mixed, stuck = summary(chains(), ["line", "drift"]), summary(chains(offset=3.0), ["line", "drift"])
    assert mixed["rhat"].max() < 1.01 and mixed["ess_bulk"].min() > 1000
    assert stuck["rhat"][:6].min() > 1.2 and stuck["ess_bulk"][:6].max() < 50 and stuck["rhat"].iloc[6] < 1.01


def test_one_chain_has_no_rhat():
    table = summary(chains(num_chains=1), ["drift"])
    assert "rhat" not in table and "ess_bulk" in table and "R-hat" in table.attrs["note"]


def test_a_guide_has_no_convergence_figures(make_posterior, make_data):
    table = summary(to_arviz(make_posterior(), make_data(), num_samples=20), ["initial"])
    assert list(table.columns) == ["mean", "sd", "lower", "upper"] and "guide" in table.attrs["note"]
    assert table.index[-1] == "initial[4, velocity_1]"


def test_wrong_names(make_posterior, make_data):
    idata = to_arviz(make_posterior(), make_data(), num_samples=3)
    for names in (["speed"], "initial", []):
        with pytest.raises(DataError, match="`names`"):
            summary(idata, names)
    with pytest.raises(DataError, match="level"):
        summary(idata, level=90)
