"""Parameters: the way to a value and back, and priors by their quantiles."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from pyro_seq.nn.components.parameter import Parameter, log_uniform, positive, share, uniform

UNITS = {"spread": torch.tensor(3.0), "change": torch.tensor(0.1)}
PRIORS = {
    "positive": (positive(0.2, deviation=1.5), lambda level: 0.2 * stats.lognorm(1.5).ppf(level)),
    "above": (positive(0.3, floor=0.1), lambda level: 0.1 + 0.2 * stats.lognorm(2.0).ppf(level)),
    "share": (share(0.9), lambda level: 1 / (1 + 1 / (9 * stats.lognorm(2.0).ppf(level)))),
    "uniform": (uniform(-1.0, 3.0), lambda level: 4 * level - 1),
    "log_uniform": (log_uniform(2.0, 50.0), lambda level: 2.0 * 25.0**level),
}


@pytest.mark.parametrize("name", PRIORS)
def test_a_standard_normal_coordinate_gives_the_prior(name):
    transform, quantile = PRIORS[name]
    levels = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)
    coordinates = torch.as_tensor(stats.norm.ppf(levels))
    torch.testing.assert_close(transform(coordinates), torch.as_tensor(quantile(levels.numpy())), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("unit", [None, "change"])
def test_there_and_back(name, unit):
    parameter = Parameter("scale", PRIORS[name][0], unit)
    coordinates = torch.linspace(-3, 3, 7, dtype=torch.float64)
    value = parameter.value(coordinates, UNITS)
    torch.testing.assert_close(parameter.coordinate(value, UNITS), coordinates, rtol=1e-8, atol=1e-8)
    assert value.dtype == torch.float64
    if unit:
        torch.testing.assert_close(value, PRIORS[name][0](coordinates) * 0.1, rtol=1e-6, atol=0)
