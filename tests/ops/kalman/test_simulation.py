"""Draws of states and observations: the recursion without noise, exact moments with it, the generator."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.ops.kalman import simulate
from tests.ops.kalman.cases import random_case

TIME = 6
ROUTES = pytest.mark.parametrize("is_parallel", [False, True], ids=["sequential", "parallel"])


@ROUTES
def test_simulation_without_noise_is_the_recursion(is_parallel):
    parameters = random_case(TIME).parameters
    silent = parameters._replace(
        **{name: torch.zeros_like(getattr(parameters, name)) for name in parameters._fields if name.endswith("_cov")}
    )
    states, values = simulate(silent, TIME, generator=torch.Generator().manual_seed(0), is_parallel=is_parallel)
    state = parameters.initial_mean[..., None]
    for t in range(TIME):
        if t:
            pushed = parameters.input_matrix[..., t, :, :] @ parameters.inputs[..., t, :, None]
            state = parameters.transition[..., t, :, :] @ state + pushed
        torch.testing.assert_close(states[..., t, :], state.squeeze(-1), rtol=0, atol=1e-12)
        seen = (parameters.observation[..., t, :, :] @ state).squeeze(-1)
        torch.testing.assert_close(values[..., t, :], seen, rtol=0, atol=1e-12)


def test_simulation_keeps_to_its_generator(assert_rng_untouched):
    parameters = random_case(TIME).parameters
    with assert_rng_untouched():
        draws = [simulate(parameters, TIME, generator=torch.Generator().manual_seed(seed)).values for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
