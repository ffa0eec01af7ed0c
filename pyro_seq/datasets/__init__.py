"""Data sets as `Sequences`, one function each; nothing is downloaded unless asked for."""

from pyro_seq.datasets._ball_world import BallWorld
from pyro_seq.datasets._digit_images import MNIST, BundledDigits
from pyro_seq.datasets._splits import Splits
from pyro_seq.datasets.ball_in_world import ball_in_world
from pyro_seq.datasets.bouncing_balls import bouncing_balls
from pyro_seq.datasets.cmu_walking import cmu_walking
from pyro_seq.datasets.nile import nile
from pyro_seq.datasets.rotating_digits import rotating_digits
from pyro_seq.datasets.torque_pendulum import Pendulum, torque_pendulum

__all__ = [
    "MNIST",
    "BallWorld",
    "BundledDigits",
    "Pendulum",
    "Splits",
    "ball_in_world",
    "bouncing_balls",
    "cmu_walking",
    "nile",
    "rotating_digits",
    "torque_pendulum",
]
