"""Data sets as `Sequences`, one function each; nothing is downloaded unless requested."""

from pyro_seq.datasets._ball_world import BallWorld
from pyro_seq.datasets._digit_images import MNIST, BundledDigits
from pyro_seq.datasets._splits import SourceSplits, Splits
from pyro_seq.datasets._stay_files import PHYSIONET_2012_VARIABLES
from pyro_seq.datasets._video_folder import VideoFolder
from pyro_seq.datasets._walkers import Walker
from pyro_seq.datasets.bair import bair
from pyro_seq.datasets.ball_in_world import ball_in_world
from pyro_seq.datasets.ball_with_friction import ball_with_friction
from pyro_seq.datasets.bouncing_balls import bouncing_balls
from pyro_seq.datasets.cmu_walking import cmu_walking
from pyro_seq.datasets.intensive_care import intensive_care_stays
from pyro_seq.datasets.irregular_sinusoids import irregular_sinusoids, observe_share
from pyro_seq.datasets.kth import kth
from pyro_seq.datasets.moving_digits import MovingDigits, moving_digits
from pyro_seq.datasets.mujoco_walkers import mujoco_walkers
from pyro_seq.datasets.nile import nile
from pyro_seq.datasets.physionet_2012 import physionet_2012
from pyro_seq.datasets.rotating_digits import rotating_digits
from pyro_seq.datasets.spirals import spirals
from pyro_seq.datasets.torque_pendulum import Pendulum, torque_pendulum

__all__ = [
    "MNIST",
    "PHYSIONET_2012_VARIABLES",
    "BallWorld",
    "BundledDigits",
    "MovingDigits",
    "Pendulum",
    "SourceSplits",
    "Splits",
    "VideoFolder",
    "Walker",
    "bair",
    "ball_in_world",
    "ball_with_friction",
    "bouncing_balls",
    "cmu_walking",
    "intensive_care_stays",
    "irregular_sinusoids",
    "kth",
    "moving_digits",
    "mujoco_walkers",
    "nile",
    "observe_share",
    "physionet_2012",
    "rotating_digits",
    "spirals",
    "torque_pendulum",
]
