"""Draws of states and observations: the recursion without noise, exact moments with it, the generator."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.errors import ShapeError, UnsupportedError
from pyro_seq.ops.kalman import simulate
from tests.dense_gaussian import assert_moments, dense_path
from tests.ops.kalman.cases import of_series, random_case

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


@ROUTES
def test_draws_have_the_moments_of_the_joint_gaussian(is_parallel):
    case = of_series(random_case(TIME), (1, 2))
    generator, count = torch.Generator().manual_seed(0), 20_000
    draws = simulate(case.parameters, TIME, sample_shape=(count,), generator=generator, is_parallel=is_parallel)
    joint = dense_path(case.parameters, TIME).joint
    assert_moments(torch.cat([draws.states.flatten(1), draws.values.flatten(1)], -1), joint, errors=5.5)


def test_axes_in_front_are_samples_then_batch():
    parameters = random_case(TIME).parameters
    draws = simulate(parameters, TIME, sample_shape=(5,), batch_shape=(3, 2, 4))
    assert draws.states.shape == (5, 3, 2, 4, TIME, 3) and draws.values.shape == (5, 3, 2, 4, TIME, 2)


def test_what_cannot_be_drawn():
    parameters = random_case(TIME).parameters
    with pytest.raises(ShapeError, match="`num_steps` must be at least 1"):
        simulate(parameters, 0)
    with pytest.raises(UnsupportedError, match="diffuse start cannot be drawn before anything is observed"):
        simulate(parameters._replace(diffuse=torch.ones(3, dtype=torch.bool)), TIME)
