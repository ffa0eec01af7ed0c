"""The driven pendulum: its path against an independent integrator, its inputs, its pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from pyro_seq.datasets import Pendulum, torque_pendulum
from pyro_seq.datasets.torque_pendulum import render, simulate
from pyro_seq.errors import DataError

FEW = {"num_train": 5, "num_validation": 2, "num_test": 3}


def test_path_against_scipy() -> None:
    """Piece by piece, so that the other integrator does not step over a jump of the torque."""
    pendulum = Pendulum(mass=0.8, length=1.2, friction=0.3)
    rng = np.random.default_rng(0)
    start, torque = rng.uniform(-3, 3, (4, 2)), rng.uniform(-5, 5, (4, 15))
    states = simulate(pendulum, start, torque)
    inertia = 0.8 * 1.2**2
    for series in range(4):
        state = start[series]
        for step in range(1, 15):
            push = torque[series, step]

            def slope(_: float, at: np.ndarray, push: float = push) -> list[float]:
                return [at[1], (push + 0.8 * 9.81 * 1.2 * np.sin(at[0]) - 0.3 * at[1]) / inertia]

            state = solve_ivp(slope, (0.0, 0.1), state, rtol=1e-11, atol=1e-11).y[:, -1]
            np.testing.assert_allclose(states[series, step], state, rtol=0, atol=1e-6)


def test_energy_is_conserved_without_friction_and_torque() -> None:
    pendulum = Pendulum(friction=0.0)
    states = simulate(pendulum, np.array([[2.0, 1.0], [-0.3, 4.0]]), np.zeros((2, 100)))
    energy = 0.5 * states[..., 1] ** 2 + 9.81 * np.cos(states[..., 0])
    np.testing.assert_allclose(energy, energy[:, :1].repeat(100, 1), rtol=0, atol=1e-5)


def test_torque_moves_the_frames_from_its_own_on() -> None:
    start, torque = np.array([[0.5, 0.0]]), np.zeros((1, 10))
    kicked = torque.copy()
    kicked[0, 4] = 3.0
    calm, moved = (simulate(Pendulum(), start, which) for which in (torque, kicked))
    np.testing.assert_array_equal(calm[:, :4], moved[:, :4])
    assert (np.abs(calm - moved)[:, 4:] > 1e-3).all()
    ignored = torque.copy()
    ignored[0, 0] = 3.0
    np.testing.assert_array_equal(simulate(Pendulum(), start, ignored), calm)


def test_inputs_reproduce_the_path() -> None:
    train = torque_pendulum(**FEW).train
    state, inputs = train.context["state"].double().numpy(), train.inputs[..., 0].double().numpy()
    assert (inputs[:, 0] == 0).all()
    again = simulate(Pendulum(), state[:, 0], inputs)
    np.testing.assert_allclose(again, state, rtol=1e-4, atol=1e-4)  # single precision, which the motion amplifies
    np.testing.assert_allclose(render(again[..., 0], 16), train.values.numpy(), atol=1e-3)


def test_torque_is_limited_and_starts_fill_the_circle() -> None:
    train = torque_pendulum(num_train=2_000, num_validation=0, num_test=1, num_steps=3).train
    torque, start = train.inputs[:, 1:].numpy(), train.context["state"][:, 0].numpy()
    for values, limit in ((torque.ravel(), 5.0), (start[:, 0], np.pi), (start[:, 1], 5.0)):
        ranks = (np.arange(values.size) + 0.5) / values.size
        # Kolmogorov's distance stays below 1.95 / sqrt(n) with probability 0.999.
        assert np.abs((np.sort(values) / limit + 1) / 2 - ranks).max() < 1.95 / np.sqrt(values.size)
    assert Pendulum().max_torque < 9.81


def test_pixels_by_hand() -> None:
    picture = render(np.array([[0.0, np.pi / 2]]), 16)
    up, right = picture[0, :, 0]
    for row in range(16):
        for column in range(16):
            above = (row - 2.5) ** 2 + (column - 7.5) ** 2  # the centre is at 7.5, the bob 5 pixels from it
            assert up[row, column] == pytest.approx(np.exp(-above / (2 * 1.25**2)), abs=1e-6)
    np.testing.assert_allclose(right, np.rot90(up, -1), atol=1e-6)  # clockwise
    assert picture.dtype == np.float32
    # A Gaussian blob far from the edges sums to 2 pi w^2.
    assert render(np.array([[1.0]]), 64).sum() == pytest.approx(2 * np.pi * 5.0**2, rel=1e-2)


def test_shapes_seeds_and_parts(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        train, validation, test = torque_pendulum(**FEW)
    assert train.values.shape == (5, 15, 1, 16, 16)
    assert train.inputs.shape == (5, 15, 1)
    assert train.values.dtype == train.inputs.dtype == torch.float32
    assert 0.0 <= train.values.min() <= train.values.max() <= 1.0
    assert (validation.num_series, test.num_series) == (2, 3)
    again = torque_pendulum(num_train=5, num_validation=0, num_test=1)
    assert again.validation is None
    assert torch.equal(train.values, again.train.values)
    assert torch.equal(train.inputs, again.train.inputs)
    assert not torque_pendulum(seed=1, **FEW).train.values.equal(train.values)
    starts = torch.cat([part.context["state"][:, 0] for part in (train, validation, test)])
    assert len(starts.unique(dim=0)) == 10


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_train": 0}, "num_train"),
        ({"size": 1.5}, "size"),
        ({"num_steps": 0}, "num_steps"),
        ({"seed": -1}, "seed"),
        ({"pendulum": 1.0}, "pendulum"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        torque_pendulum(**arguments)


@pytest.mark.parametrize(("name", "value"), [("mass", 0.0), ("dt", float("nan")), ("friction", -1.0)])
def test_wrong_pendulums(name: str, value: float) -> None:
    with pytest.raises(DataError, match=name):
        Pendulum(**{name: value})
