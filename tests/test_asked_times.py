"""A value at a time does not depend on which other times are asked for: solvers step by a unit of time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from pyro import poutine

import pyro_seq as ps
from pyro_seq.errors import DataError
from pyro_seq.model import local_parameters
from pyro_seq.ops.odeint import RK4

QUIET = ps.Trainer(progress=False, accelerator="cpu")
KINDS = pytest.mark.parametrize("kind", ["ODE2VAE", "ODELEBM"])
GAP = torch.cat([0.1 * torch.arange(10), 4.9 + 0.1 * torch.arange(10)]).double()  # of forty steps


def waves(times: torch.Tensor, num_series: int = 12, unit: float = 1.0) -> ps.Sequences:
    """Sine and cosine at times (time,) or (series, time), which are then given in another unit."""
    phase = 6.28 * torch.rand(num_series, 1, generator=torch.Generator().manual_seed(0))
    angle = times.float() + phase
    return ps.Sequences(torch.stack([angle.sin(), angle.cos()], -1), times=unit * times)


def make(kind: str) -> ps.SequenceModel:
    torch.manual_seed(0)
    return ps.ODE2VAE((2,), 2) if kind == "ODE2VAE" else ps.ODELEBM((2,), 3, encoder=ps.RNNEncoder((2,), 3))


def trained(model: ps.SequenceModel, data: ps.Sequences, num_steps: int = 15) -> ps.Posterior:
    return ps.fit(model, data, ps.SVI(num_steps=num_steps, learning_rate=1e-2), trainer=QUIET)


def asked(posterior: ps.Posterior, given: ps.Sequences, times) -> torch.Tensor:
    return ps.forecast(posterior, given, times=times, num_samples=10, seed=1).emission_means[:, :, -1]


def uneven(num_series: int = 12) -> torch.Tensor:
    """Times per series with exponential intervals, and a gap of forty of them in the first series alone."""
    intervals = torch.empty(num_series, 12, dtype=torch.float64)
    intervals.exponential_(generator=torch.Generator().manual_seed(2)).mul_(0.1).add_(1e-3)
    intervals[0, 6] = 4.0
    return intervals.cumsum(-1)


@KINDS
@pytest.mark.parametrize("times", [GAP, uneven()], ids=["a gap", "times per series, a gap in one of them"])
def test_a_forecast_alone_is_that_among_others(kind: str, times: torch.Tensor) -> None:
    data = waves(times)
    posterior, given = trained(make(kind), data), data.first(8)
    far = float(times.max()) + 1
    alone = asked(posterior, given, [far])
    start = float(given.times.max()) + 0.05
    for others in (np.linspace(start, far, 46), [start, (start + far) / 2, far], [far - 1e-4, far]):
        assert float((alone - asked(posterior, given, others)).abs().max()) < 1e-4 * float(data.values.std())


@KINDS
def test_the_unit_of_time_stamps_does_not_matter(kind: str) -> None:
    """Days and seconds."""
    days, seconds = waves(GAP), waves(GAP, unit=86400.0)
    there = asked(trained(make(kind), days, 10), days.first(10), [5.5])
    here = asked(trained(make(kind), seconds, 10), seconds.first(10), [5.5 * 86400])
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-4)


@KINDS
def test_a_unit_that_comes_with_a_later_fit_counts_from_then_on(kind: str) -> None:
    """Single steps have no interval between them."""
    model = make(kind)
    model.take_units(waves(GAP[:1]))
    assert float(model.time_scale) == 1.0
    posterior = trained(model, waves(GAP), 10)
    assert float(model.time_scale) == pytest.approx(0.1)
    given = waves(GAP).first(10)
    apart = asked(posterior, given, [5.5]) - asked(posterior, given, np.linspace(1.0, 5.5, 46))
    assert float(apart.abs().max()) < 1e-4


def path_of_spring(times: list[float], solver: RK4 | None) -> torch.Tensor:
    """Path (time, 2) by ODELEBM, adapted to a day of hourly steps, of a spring whose period is a day."""
    omega = 2 * torch.pi / (24 * 0.1)  # in model time, where an hour is a tenth
    field = ps.DeterministicField(lambda y: torch.stack([y[..., 1], -(omega**2) * y[..., 0]], -1))
    model = ps.ODELEBM((2,), 2, vector_field=field, flow=ps.Flow(2, order=1, solver=solver)).double()
    model.take_units(ps.Sequences(torch.zeros(1, 24, 2).double(), times=torch.arange(24.0) / 24))
    data = ps.Sequences(torch.zeros(1, len(times), 2).double(), times=torch.tensor(times))
    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    with local_parameters():
        return poutine.trace(poutine.condition(model.model, {"initial": start})).get_trace(data).nodes["path"]["value"]


def test_an_oscillator_is_followed_over_a_gap() -> None:
    # 48 steps of 0.26 radians, whose phase is off by 0.26^5 / 120 each, are off by 5e-4; one step over all is at 927
    path = path_of_spring([0.0, 1 / 24, 2.0], None)[0, -1]
    assert float((path[0] - 1).abs()) < 1e-3
    assert float(path_of_spring([0.0, 1 / 24, 2.0], RK4())[0, -1, 0]) > 900


@pytest.mark.parametrize("is_dense", [False, True])
def test_a_time_stamp_of_another_unit_is_refused_before_work(is_dense: bool) -> None:
    solver = RK4(step_size=0.05, is_dense=True) if is_dense else None
    model = ps.ODE2VAE((2,), 2, flow=ps.Flow(2, solver=solver))
    values, times = torch.rand(3, 5, 2), torch.arange(5.0).double()
    posterior = ps.fit(model, ps.Sequences(values), ps.SVI(num_steps=1), trainer=QUIET)
    with pytest.raises(DataError, match=r"steps of the solver. Got .* between times 4 and 5 of series 0"):
        ps.forecast(posterior, ps.Sequences(values), times=[1.7e9], num_samples=2)
    times[4] = 1.7e9
    with pytest.raises(DataError, match="between times 3 and 4"):
        ps.reconstruct(posterior, ps.Sequences(values, times=times), num_samples=2)


# ---------------------------------------------------------------- the unit of time


def unit_of(times: torch.Tensor) -> float:
    model = make("ODE2VAE")
    model.take_units(waves(times, len(times) if times.ndim == 2 else 2))
    return float(model.time_scale)


def test_the_unit_is_the_median_interval() -> None:
    with warnings.catch_warnings(action="error"):
        assert unit_of(GAP) == pytest.approx(0.1)
        assert unit_of(uneven()) == pytest.approx(float(uneven().diff().median()))
        # just below the bound: intervals of mean 143.9 / 9 = 15.99 and median 1
        assert unit_of(torch.cat([torch.arange(9.0), torch.tensor([143.9])]).double()) == 1.0


@pytest.mark.parametrize("per_series", [False, True])
def test_bursts_have_a_unit_that_bounds_the_steps_and_a_warning(per_series: bool) -> None:
    times = torch.cat([hour + 1e-3 * torch.arange(4).double() for hour in 6.0 * torch.arange(5)])
    times = torch.stack([torch.arange(20.0).double() * 1e-3, times]) if per_series else times
    where = "time 3 to 4 of series 1" if per_series else r"time 3 to 4\. "
    with pytest.warns(UserWarning, match=rf"longest 6, from {where}.*split series at long gaps") as caught:
        unit = unit_of(times)
    assert len(caught) == 1
    intervals = times.diff()
    assert unit == pytest.approx(float(intervals.mean()) / 16)
    assert float((intervals / unit).ceil().sum()) <= 17 * intervals.numel()


@KINDS
def test_stamps_in_another_unit_than_in_training_bring_a_warning(kind: str) -> None:
    """Minutes and seconds; every second step is none."""
    posterior = trained(make(kind), waves(GAP), 1)
    with warnings.catch_warnings(action="error"):
        ps.reconstruct(posterior, waves(GAP), num_samples=1)
        ps.reconstruct(posterior, waves(2.0 * GAP), num_samples=1)
    for unit in (60.0, 1 / 60):
        with pytest.warns(UserWarning, match="in training|the training data had 0.1: are they in another unit"):
            ps.reconstruct(posterior, waves(GAP, unit=unit), num_samples=1)
