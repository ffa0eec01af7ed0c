"""The faster form: sequential or parallel over time, march or loop, observations compressed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyro_seq.ops.kalman.system import System

FEW_STEPS = 25
FEW_OBS = 8
MANY_NUMBERS = 2**11
MARCHING = 8


def choose_parallel(is_parallel: bool | None, system: System) -> bool:
    """The requested form, or by default the faster one, according to the sizes."""
    if is_parallel is not None:
        return is_parallel
    if system.values.device.type != "cpu":
        # on such a device a call is a kernel launch, which costs more, and arithmetic costs less
        return system.num_steps >= FEW_STEPS
    state_dim, num_series = system.initial_mean.shape[-2], system.batch_shape.numel()
    return is_parallel_faster(system.num_steps, state_dim, num_series, system.num_covs)


def is_parallel_faster(num_steps: int, state_dim: int, num_series: int, num_covs: int) -> bool:
    """Whether the parallel form takes less time, forward and backward, on one CPU thread.

    The time of a step of the loop is that of its calls until the numbers per step, covariances and means of the state
    over all series, reach about two thousand. The parallel form needs few calls but more arithmetic. `python -m
    benchmarks.kalman_choice` measures both. Processor time of the loop over that of the parallel form, for smoothing
    with gradients in single precision, observations of 2::

        steps                                           10    20    50   100   500  2000
        matrices per series and step: 1 state of 4     0.85  0.91  1.43  2.29  6.48  14.5
                                      32 of 4          0.88  0.96  1.32  1.60  2.17  1.84
                                      500 of 4         0.97  1.01  1.06  0.99  0.87
                                      1 of 16          0.74  0.90  1.25  1.85  3.43  4.15
                                      32 of 16         0.76  0.78  0.76  0.75  0.76
                                      1 of 32          0.75  0.86  1.12  1.31  1.67  1.62
                                      32 of 32         0.68  0.66  0.64  0.66
        matrices shared:              500 of 4         0.85  0.92  1.16  1.37  1.46
                                      32 of 16         0.78  0.87  1.09  1.17  1.34
                                      32 of 32         0.78  0.85  0.92  0.89
    """
    numbers = num_covs * state_dim**2 + num_series * state_dim
    return num_steps >= FEW_STEPS and numbers < MANY_NUMBERS


def is_compression_faster(num_obs: int, state_dim: int) -> bool:
    """Whether compressing observations with independent noise to the number of states takes less time.

    A dense step costs the cube of the observations; a compressed one, the square of the states times the observations,
    and a few more calls. `python -m benchmarks.kalman_sensors` measures both. Processor time of the dense form over
    that of the compressed one, for the likelihood with gradients in single precision::

        observations for each state                         1.5     2     3     4     8
        matrices shared, 32 series of 50:    2 states       0.97  0.96  1.09  1.15  2.08
                                             4 states       1.04  1.09  1.37  1.63  4.67
                                             16 states      1.22  1.43  2.65  3.79
        per series and step, 32 series of 50: 2 states      0.86  0.88  0.91  1.35  3.44
                                             4 states       0.88  0.96  1.83  2.34  6.86
                                             16 states      1.26  1.53  2.74  3.54
        per series and step, 1 series of 200: 4 states      1.03  1.06  1.16  1.29  2.36
    """
    return num_obs >= FEW_OBS and num_obs > 2 * state_dim


def is_march_faster(system: System) -> bool:
    """Whether the march, over parts of the series, takes less time than the loop that stores all steps at once.

    Its matrices stay in the cache, and series that share covariances are columns of one product, but each product is
    one call per step and matrix: small matrices of many series are faster with their axes in front. Processor time of
    the loop over that of the march, forward and backward in single precision, observations of a quarter of the states::

                                          likelihood    smoothing
        per step:  1 of 1, T=100                0.68         0.69
                   5000 of 1, T=15                           0.53
                   32 of 4, T=100               0.66         0.72
                   500 of 4, T=100              0.83         0.92
                   5000 of 4, T=15              0.69         0.76
                   500 of 8, T=20                            1.74
                   32 of 16, T=100              1.62         2.20
                   500 of 16, T=100; T=30       4.13         2.59
                   32 of 32, T=100; T=50        3.37         3.49
                   1 of 64, T=50                1.22         1.50
        shared:    1 of 8, T=50                              0.66
                   500 of 4, T=100                           0.94
                   5000 of 4, T=15              1.85
                   500 of 8, T=20               1.60
                   32 of 16, T=100              0.91         1.30
                   500 of 16, T=50              8.94
                   32 of 32, T=100; T=50        5.33         2.81
    """
    if system.is_compressed or system.values.device.type != "cpu":
        return False
    state_dim, num_series = system.initial_mean.shape[-2], system.batch_shape.numel()
    return state_dim >= MARCHING or (system.num_covs == 1 and num_series * state_dim >= 2 * MANY_NUMBERS)
