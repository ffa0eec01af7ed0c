"""Data sets as `Sequences`, one function each; nothing is downloaded unless asked for."""

from pyro_seq.datasets._digit_images import MNIST, BundledDigits
from pyro_seq.datasets._splits import Splits
from pyro_seq.datasets.bouncing_balls import bouncing_balls
from pyro_seq.datasets.cmu_walking import cmu_walking
from pyro_seq.datasets.rotating_digits import rotating_digits

__all__ = ["MNIST", "BundledDigits", "Splits", "bouncing_balls", "cmu_walking", "rotating_digits"]
