"""Where a solver's steps are bounded, a value at a time does not depend on which other times are asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import pyro_seq as ps
from pyro_seq.errors import DataError
from pyro_seq.ops.odeint import RK4, odeint

QUIET = ps.Trainer(progress=False, accelerator="cpu")


def waves(num_series: int) -> ps.Sequences:
    """Sine and cosine with a gap of forty steps in the middle."""
    times = torch.cat([0.1 * torch.arange(10), 4.9 + 0.1 * torch.arange(10)]).double()
    phase = 6.28 * torch.rand(num_series, 1, generator=torch.Generator().manual_seed(0))
    angle = times.float() + phase
    return ps.Sequences(torch.stack([angle.sin(), angle.cos()], -1), times=times)


@pytest.mark.parametrize("kind", ["ODE2VAE", "ODELEBM"])
def test_a_forecast_alone_is_that_among_others(kind):
    torch.manual_seed(0)
    data = waves(24)
    if kind == "ODE2VAE":
        model: ps.SequenceModel = ps.ODE2VAE((2,), 2, flow=ps.Flow(2, solver=RK4(step_size=0.1)))
    else:
        flow = ps.Flow(3, order=1, solver=RK4(step_size=0.1))
        model = ps.ODELEBM((2,), 3, flow=flow, encoder=ps.RNNEncoder((2,), 3))
    posterior = ps.fit(model, data, ps.SVI(num_steps=60, learning_rate=1e-2), trainer=QUIET)

    def at_the_end(times) -> torch.Tensor:
        given = data.first(10)
        return ps.forecast(posterior, given, times=times, num_samples=10, seed=1).emission_means[:, :, -1]

    alone = at_the_end([5.5])
    for others in (np.linspace(1.0, 5.5, 46), [1.05, 1.9, 5.5], [5.4999, 5.5]):
        assert float((alone - at_the_end(others)).abs().max()) < 1e-4 * float(data.values.std())


def test_steps_of_a_typical_interval_follow_an_oscillator_over_a_gap():
    # two periods in one step of RK4 are 927 for 1; in steps of a twentieth of a period h^4 is about 1e-2
    def spring(_, state):
        return torch.stack([state[..., 1], -((2 * torch.pi) ** 2) * state[..., 0]], -1)

    start, times = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 0.05, 2.0], dtype=torch.float64)
    path = odeint(spring, start, times, RK4(step_size=0.05)).path
    assert float((path[-1] - start).abs()[0]) < 0.01


@pytest.mark.parametrize("is_dense", [False, True])
def test_a_time_stamp_of_another_unit_is_refused_before_work(is_dense):
    model = ps.ODE2VAE((2,), 2, flow=ps.Flow(2, solver=RK4(step_size=0.05, is_dense=is_dense)))
    values, times = torch.rand(3, 5, 2), torch.arange(5.0).double()
    posterior = ps.fit(model, ps.Sequences(values), ps.SVI(num_steps=1), trainer=QUIET)
    with pytest.raises(DataError, match=r"steps of the solver. Got .* between times 4 and 5 of series 0"):
        ps.forecast(posterior, ps.Sequences(values), times=[1.7e9], num_samples=2)
    times[4] = 1.7e9
    with pytest.raises(DataError, match="between times 3 and 4"):
        ps.reconstruct(posterior, ps.Sequences(values, times=times), num_samples=2)
