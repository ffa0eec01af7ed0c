"""Pictures of a pendulum driven by a known torque."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq.data import Sequences
from pyro_seq.datasets._splits import Splits
from pyro_seq.errors import DataError

_MAX_START_SPEED = 5.0  # radians a second
_SUBSTEP = 0.005  # seconds; the error over 15 frames is below 1e-7
_SWING, _BLOB = 5 / 16, 1.25 / 16  # distance of the bob from the centre and its width, as shares of the image


@dataclass(frozen=True)
class Pendulum:
    r"""A damped pendulum whose motor is too weak to lift it in one go.

    .. math::
        m l^2 \ddot\theta = -\mu \dot\theta + m g l \sin\theta + u, \qquad |u| \le u_{max} < m g l

    with the angle from the upright position.

    Args:
        mass: m, in kg.
        length: l, in metres.
        friction: mu, in newton metre seconds.
        gravity: g, in metres per second squared.
        max_torque: Largest absolute torque, in newton metres; torques are uniform in this range.
        dt: Seconds per frame.

    Raises:
        DataError: When a number is negative, not finite, or zero where it must be positive.
    """

    mass: float = 1.0
    length: float = 1.0
    friction: float = 0.5
    gravity: float = 9.81
    max_torque: float = 5.0
    dt: float = 0.1

    def __post_init__(self) -> None:
        for name in ("mass", "length", "dt"):
            if not 0 < getattr(self, name) < math.inf:
                raise DataError(f"`{name}` must be positive and finite. Got {getattr(self, name)!r}.")
        for name in ("friction", "gravity", "max_torque"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DataError(f"`{name}` must be finite and not negative. Got {getattr(self, name)!r}.")

    def acceleration(self, angle: np.ndarray, velocity: np.ndarray, torque: np.ndarray) -> np.ndarray:
        """Second derivative of the angle."""
        moment = self.mass * self.gravity * self.length * np.sin(angle)
        return (torque + moment - self.friction * velocity) / (self.mass * self.length**2)


def torque_pendulum(
    pendulum: Pendulum = Pendulum(),
    *,
    num_train: int = 500,
    num_validation: int = 500,
    num_test: int = 500,
    num_steps: int = 15,
    size: int = 16,
    seed: int = 0,
) -> Splits:
    r"""Grey pictures of a pendulum's bob, with the torque that drives it as inputs.

    The start angle is uniform on the circle, the start velocity uniform in -5 to 5 radians per second, the torque
    uniform and independent from frame to frame, constant in between; the path is integrated by RK4 in steps of 5 ms.
    The bob is a Gaussian blob 5/16 of the image's size s away from its centre, at an angle counted clockwise from the
    top:

    .. math::
        \exp\Bigl(-\frac{\|p - c(\theta)\|^2}{2 w^2}\Bigr), \qquad w = \frac{1.25}{16} s

    A *re-creation* of the experiment of Deep Variational Bayes Filters: sizes and equation of motion are as published,
    but the original data, time step, torques and drawing are not public. Pixel densities on these data can be compared
    between models, not with the literature.

    Args:
        pendulum: Physical parameters.
        num_train: Number of training series.
        num_validation: Number of validation series; 0 makes this part None.
        num_test: Number of test series.
        num_steps: Frames per series.
        size: Height and width in pixels.
        seed: Each part has a separate random stream, so its series do not depend on the other parts' sizes.

    Returns:
        Splits with values (series, time, 1, size, size) in [0, 1], single precision, times counted in frames. `inputs`
        (series, time, 1) hold at t the torque between frames t - 1 and t, and zero at the first frame. The context has
        the `state` (series, time, 2) at the frame: the angle, not wrapped, and its velocity.

    Raises:
        DataError: When an argument is out of range.

    References:
        Karl, Soelch, Bayer and van der Smagt (2017), Deep variational Bayes filters; Fraccaro, Kamronn, Paquet and
        Winther (2017), A disentangled recognition and nonlinear dynamics model for unsupervised learning.

    Example:
        >>> train = torque_pendulum(num_train=4, num_validation=0, num_test=2).train
        >>> train.inputs.shape
        torch.Size([4, 15, 1])
    """
    if not isinstance(pendulum, Pendulum):
        raise DataError(f"`pendulum` must be a `Pendulum`. Got {pendulum!r}.")
    counts = (
        whole_number(num_train, "num_train", 1),
        whole_number(num_validation, "num_validation"),
        whole_number(num_test, "num_test", 1),
    )
    num_steps, size = whole_number(num_steps, "num_steps", 1), whole_number(size, "size", 1)
    children = np.random.SeedSequence(seed_number(seed)).spawn(len(counts))

    def part(num_series: int, rng: np.random.Generator) -> Sequences:
        start = rng.uniform(-1.0, 1.0, (num_series, 2)) * (np.pi, _MAX_START_SPEED)
        torque = rng.uniform(-pendulum.max_torque, pendulum.max_torque, (num_series, num_steps))
        torque[:, 0] = 0.0
        states = simulate(pendulum, start, torque)
        values, inputs = torch.from_numpy(render(states[..., 0], size)), torch.from_numpy(torque[..., None])
        return Sequences(values, inputs=inputs.float(), context={"state": torch.from_numpy(states).float()})

    train, validation, test = zip(counts, map(np.random.default_rng, children), strict=True)
    return Splits(part(*train), part(*validation) if num_validation else None, part(*test))


def simulate(pendulum: Pendulum, start: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """Angle and velocity (series, time, 2) from a start (series, 2), under torque (series, time) before each step."""
    states = np.empty((*torque.shape, 2))
    states[:, 0] = start
    num_substeps = math.ceil(pendulum.dt / _SUBSTEP - 1e-9)
    h = pendulum.dt / num_substeps
    for step in range(1, torque.shape[1]):
        state, push = states[:, step - 1], torque[:, step]

        def slope(at: np.ndarray, push: np.ndarray = push) -> np.ndarray:
            return np.stack((at[:, 1], pendulum.acceleration(at[:, 0], at[:, 1], push)), axis=-1)

        for _ in range(num_substeps):
            k1 = slope(state)
            k2 = slope(state + h / 2 * k1)
            k3 = slope(state + h / 2 * k2)
            k4 = slope(state + h * k3)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states[:, step] = state
    return states


def render(angles: np.ndarray, size: int) -> np.ndarray:
    """Images (series, time, 1, size, size) of angles (series, time)."""
    pixels = np.arange(size) - (size - 1) / 2
    rows = np.square(pixels + _SWING * size * np.cos(angles)[..., None])
    columns = np.square(pixels - _SWING * size * np.sin(angles)[..., None])
    squares = rows[..., :, None] + columns[..., None, :]
    return np.exp(-squares / (2 * (_BLOB * size) ** 2)).astype(np.float32)[:, :, None]
