"""Every model forecasts a short series among longer ones as it forecasts it alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pyro_seq as ps
from pyro_seq.nn.components import Cycle, Trend
from pyro_seq.posterior import GuidePosterior
from pyro_seq.testing import assert_close_mc

SMALL = ps.DCGAN(channels=(4, 6), code_dim=6, norm=lambda channels: nn.GroupNorm(1, channels))
MODELS = {
    "DynamicFactors": lambda: ps.DynamicFactors((2,), 2),
    "StructuralSeries": lambda: ps.StructuralSeries(Trend() + Cycle()),
    "KalmanVAE": lambda: ps.KalmanVAE((2,)),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,)),
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2),
    "ODELEBM": lambda: ps.ODELEBM((2,), 2, encoder=ps.ODERNNEncoder((2,), 2)),
    "SRVP": lambda: ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=2, hidden_dim=8, architecture=SMALL),
}
LENGTHS = (12, 7, 4)
HORIZON = 3


@pytest.mark.parametrize("name", MODELS)
def test_a_short_series_is_forecast_as_if_alone(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    generator = torch.Generator().manual_seed(1)
    parts = [torch.rand(length, *model.obs_shape, generator=generator) for length in LENGTHS]
    data = ps.Sequences.from_list(parts)
    model.adapt(data)
    posterior = GuidePosterior(model)
    together = ps.forecast(posterior, data, horizon=HORIZON, num_samples=400)
    assert together.times.tolist() == [[length + i for i in range(HORIZON)] for length in LENGTHS]
    for i, part in enumerate(parts):
        alone = ps.forecast(posterior, ps.Sequences(part[None]), horizon=HORIZON, num_samples=400, seed=i + 1)
        difference = together.emission_means[:, i].flatten(1) - alone.emission_means[:, 0].flatten(1)
        assert_close_mc(difference, torch.zeros_like(difference[0]))
