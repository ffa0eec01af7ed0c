"""The study of known inputs: its truth, and that models find it."""

from __future__ import annotations

import pytest
import torch

from benchmarks import inputs
from pyro_seq.ops.forcing import Forcing
from pyro_seq.ops.odeint import RK4, odeint

SMALL = {"num_train": 6, "num_test": 3}


@pytest.mark.parametrize("name", ["oscillator", "doses"])
def test_the_truth_solves_the_equation(name: str) -> None:
    system, generator = inputs.SYSTEMS[name], torch.Generator().manual_seed(3)
    matrix, drive = torch.tensor(system.transition).double(), torch.tensor(system.drive).double()
    times = torch.rand(4, 9, generator=generator).double().cumsum(1)
    told = torch.randn(4, 9, 1, generator=generator).double()
    initial = torch.randn(4, len(drive), generator=generator).double()
    path = odeint(
        lambda _, state, u: state @ matrix.mT + u * drive, initial, times, RK4(step_size=0.01), forcing=Forcing(told)
    ).path
    torch.testing.assert_close(system.path(initial, times, told), path[..., :1], rtol=0, atol=1e-8)


def test_responses_begin_after_the_pulse_and_are_those_of_the_series() -> None:
    doses, promotions = (inputs.simulate(name, **SMALL, seed=0) for name in ("doses", "promotions"))
    assert not doses.response[:, 0].any() and (doses.response[:, 1:] > 0).all()
    unit = promotions.response[0, 0, 0]
    expected = [unit, 1.7 * unit, 2.19 * unit, 0.7 * 2.19 * unit]
    torch.testing.assert_close(promotions.response[0, :4, 0], torch.stack(expected))
    assert torch.equal(doses.pulse - doses.inputs > 1, torch.arange(inputs.HORIZON)[:, None].expand(3, -1, 1) < 3)


@pytest.mark.parametrize(("name", "kind"), inputs.MODELS)
def test_every_study_runs(name: str, kind: str) -> None:
    row = inputs.study(name, kind, 0, steps=1, **SMALL)
    assert all(row[column] > 0 for column in ("response", "right", "permuted"))


def test_least_squares_is_near_the_noise() -> None:
    rows = {row["model"]: row["right"] for row in inputs.baselines("promotions", 0, num_train=200, num_test=50)}
    assert rows["least squares"] < 0.2 < rows["training mean"] and rows["least squares"] < rows["last value"]
    assert {row["model"] for row in inputs.baselines("doses", 0, **SMALL)} == {"last value", "training mean"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "kind"), [("doses", "ODELEBM"), ("promotions", "KalmanVAE")])
def test_responses_are_found(name: str, kind: str) -> None:
    row = inputs.study(name, kind, 0, steps=700 if kind == "ODELEBM" else 1500, num_train=200, num_test=50)
    assert row["response"] < 0.1 and row["right"] < 0.3 * row["permuted"]
