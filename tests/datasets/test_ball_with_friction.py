"""A ball with friction: laws of motion in closed form, and what a frame shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from pyro_seq.datasets import ball_with_friction
from pyro_seq.datasets.ball_with_friction import render, simulate
from pyro_seq.errors import DataError

FEW = {"num_train": 5, "num_validation": 2, "num_test": 3}
WALL = 4.0  # where the centre of the ball turns back


def test_speed_falls_by_the_friction_each_frame() -> None:
    """max(1 - (k + 1) friction, 0), whatever the bounces."""
    test = ball_with_friction(num_train=1, num_validation=0, num_test=50, num_test_steps=40, max_friction=0.1).test
    speed = test.context["state"][..., 2:].double().norm(dim=-1)
    friction = test.context["friction"].double()[:, None]
    expected = (1 - friction * torch.arange(1, 41)).clamp(min=0)
    assert (expected == 0).any()
    torch.testing.assert_close(speed, expected, rtol=0, atol=1e-5)  # the context is in single precision


def test_free_flight_is_exact() -> None:
    """Displacement after k frames: the direction times k - friction k (k + 1) / 2, until the ball lies still."""
    friction = np.array([0.0, 0.02, 0.3, 1.0])
    angle = np.array([0.3, 2.0, 4.0, 5.5])
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    states = simulate(np.zeros((4, 2)), direction, friction, 4)
    frames = np.arange(4)
    moving = np.minimum(frames, np.floor(1 / np.maximum(friction, 1e-9))[:, None])
    path = moving - friction[:, None] * moving * (moving + 1) / 2
    np.testing.assert_allclose(states[..., :2], path[..., None] * direction[:, None], rtol=0, atol=1e-12)


def test_reflection_is_a_mirror_up_to_the_substep() -> None:
    """Unfolded at the walls the motion is straight; each bounce happens up to one sub-step late."""
    test = ball_with_friction(num_train=1, num_validation=0, num_test=200, max_friction=0.0).test
    state = test.context["state"].double().numpy()
    first = state[:, :1]
    straight = first[..., :2] + first[..., 2:] * np.arange(40)[None, :, None]
    phase = np.mod(straight + WALL, 4 * WALL)
    mirrored = np.where(phase > 2 * WALL, 4 * WALL - phase, phase) - WALL
    bounces = np.floor((straight + WALL) / (2 * WALL))
    late = np.abs(mirrored - state[..., :2])
    assert (late <= 0.2 * np.abs(bounces) + 1e-4).all()
    np.testing.assert_allclose(np.abs(state[..., 2:]), np.abs(first[..., 2:]).repeat(40, 1), rtol=0, atol=1e-6)
    assert (np.abs(bounces) > 3).any()


def test_ball_stays_in_the_box_and_slows_down() -> None:
    for part in ball_with_friction(num_train=200, num_validation=20, num_test=20):
        state = part.context["state"]
        assert state[..., :2].abs().max() <= WALL + 0.1  # one sub-step
        assert (state[..., 2:].norm(dim=-1).diff(dim=1) <= 1e-6).all()


def test_laws_of_the_start() -> None:
    train = ball_with_friction(num_train=1_000, num_validation=0, num_test=1, num_steps=1, size=4).train
    state, friction = train.context["state"][:, 0].numpy(), train.context["friction"].numpy()
    assert kstest(friction, "uniform", (0.0, 0.02)).pvalue > 1e-3
    assert kstest(state[:, :2].ravel(), "uniform", (-3.0, 6.0)).pvalue > 1e-3
    angle = np.arctan2(state[:, 3], state[:, 2])
    assert kstest(angle, "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_frame_shows_the_ball() -> None:
    """The centre of brightness is the centre of the ball, right is the first coordinate, down the second."""
    positions = np.array([[[0.0, 0.0], [2.5, -1.0], [-3.9, 3.9]]])
    frames = render(positions, 28)[0, :, 0].astype(float)
    axis = (np.arange(28) + 0.5) * 10 / 28 - 5
    weight = frames.sum((1, 2))
    x, y = (frames.sum(1) * axis).sum(-1) / weight, (frames.sum(2) * axis).sum(-1) / weight
    np.testing.assert_allclose(np.stack([x, y], -1), positions[0], rtol=0, atol=0.02)
    # Integral of exp(-r^8) over the plane: pi gamma(5 / 4), in pixels of (10 / 28)^2.
    np.testing.assert_allclose(weight, np.pi * 0.9064024771 * 2.8**2, rtol=0.01)
    inside = np.hypot(axis[None, :], axis[:, None])
    assert (frames[0][inside < 0.6] > 0.98).all()
    assert (frames[0][inside > 1.3] < 0.01).all()


def test_seeds_and_parts(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        train, validation, test = ball_with_friction(**FEW)
    assert train.values.shape == (5, 20, 1, 28, 28)
    assert test.values.shape == (3, 40, 1, 28, 28)
    assert train.dtype == torch.float32
    assert (train.values.min() >= 0) and (train.values.max() <= 1)
    assert train.times.tolist() == list(range(20))
    again = ball_with_friction(num_train=2, num_validation=0, num_test=3)
    assert again.validation is None
    assert torch.equal(again.test.values, test.values)
    assert torch.equal(ball_with_friction(**FEW).train.values, train.values)
    assert not torch.equal(ball_with_friction(seed=1, **FEW).train.values, train.values)
    assert len(torch.cat([part.context["friction"] for part in (train, validation, test)]).unique()) == 10


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"num_train": 0}, "num_train"),
        ({"num_validation": -1}, "num_validation"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_test_steps": 1.5}, "num_test_steps"),
        ({"max_friction": -0.1}, "max_friction"),
        ({"max_friction": 1.1}, "max_friction"),
        ({"size": 0}, "size"),
        ({"seed": None}, "seed"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], name: str) -> None:
    with pytest.raises(DataError, match=name):
        ball_with_friction(**(FEW | arguments))
