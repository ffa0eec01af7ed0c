"""The form of the recursions that is taken when none is asked for."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter, kalman_smoother, sample_posterior, simulate
from pyro_seq.ops.kalman._choice import choose_parallel
from pyro_seq.ops.kalman.system import prepare


def walk(state: int, *, num_series: int = 1) -> LinearGaussianParameters:
    unit = torch.eye(state, dtype=torch.float64)
    noise = unit.expand(num_series, 1, state, state) if num_series > 1 else unit
    return LinearGaussianParameters(0.9 * unit, noise, unit[:2], unit[:2, :2], 0 * unit[0], unit)


def chosen(state: int, num_steps: int, *, num_series: int = 1, is_shared: bool = True) -> bool:
    values = torch.zeros(num_series, num_steps, 2, dtype=torch.float64)
    return choose_parallel(None, prepare(values, walk(state, num_series=1 if is_shared else num_series), None))


def test_long_series_run_in_parallel_unless_arithmetic_is_the_cost():
    assert not chosen(4, 10) and chosen(4, 100) and chosen(32, 500)
    assert chosen(4, 100, num_series=32, is_shared=False) and chosen(16, 100, num_series=32)
    assert not chosen(16, 100, num_series=32, is_shared=False) and not chosen(32, 100, num_series=32, is_shared=False)
    assert not chosen(16, 100, num_series=500)


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_wish_is_followed(is_parallel):
    system = prepare(torch.zeros(10, 2, dtype=torch.float64), walk(4), None)
    assert choose_parallel(is_parallel, system) is is_parallel


@pytest.mark.parametrize("num_steps", [10, 60])
def test_every_routine_takes_the_same_form(num_steps):
    generator = torch.Generator().manual_seed(0)
    parameters, values = walk(4), torch.randn(3, num_steps, 2, dtype=torch.float64, generator=generator)
    form = chosen(4, num_steps)

    def results(is_parallel):
        generator = torch.Generator().manual_seed(1)
        path = LinearGaussian(parameters, num_steps, is_parallel=is_parallel)
        draws = sample_posterior(values, parameters, num_samples=2, generator=generator, is_parallel=is_parallel)
        return (
            *kalman_filter(values, parameters, is_parallel=is_parallel),
            *kalman_smoother(values, parameters, is_parallel=is_parallel),
            *simulate(parameters, num_steps, generator=generator, is_parallel=is_parallel),
            draws,
            path.log_prob(values),
        )

    same = [torch.equal(one, two) for one, two in zip(results(None), results(form), strict=True)]
    other = [torch.equal(one, two) for one, two in zip(results(None), results(not form), strict=True)]
    assert all(same) and not all(other)
