"""Linear Gaussian state-space models: filter, smoother, draws, single steps, continuous time, leave-one-out scores."""

from pyro_seq.ops.kalman.continuous import discretise
from pyro_seq.ops.kalman.leave_out import leave_one_out_log_density
from pyro_seq.ops.kalman.processes import Process, add_processes, damped_oscillator, matern, periodic
from pyro_seq.ops.kalman.routines import (
    FilterResult,
    SmootherResult,
    kalman_filter,
    kalman_smoother,
    sample_posterior,
)
from pyro_seq.ops.kalman.simulation import Simulation, simulate
from pyro_seq.ops.kalman.single_step import step
from pyro_seq.ops.kalman.system import LinearGaussianParameters

__all__ = [
    "FilterResult",
    "LinearGaussianParameters",
    "Process",
    "Simulation",
    "SmootherResult",
    "add_processes",
    "damped_oscillator",
    "discretise",
    "kalman_filter",
    "kalman_smoother",
    "leave_one_out_log_density",
    "matern",
    "periodic",
    "sample_posterior",
    "simulate",
    "step",
]
