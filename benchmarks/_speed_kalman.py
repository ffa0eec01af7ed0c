"""Filters and smoothers with gradients, as the library chooses to run them, beside the plain loop and dynamax."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks._measure import require_equal
from benchmarks._speed_rows import LIBRARY, LOOP, Work, is_installed
from benchmarks.kalman import DOUBLE, Sizes, Task, make_task

# steps, series, state, and whether all steps share their matrices
SHAPES = (
    Sizes(100),
    Sizes(500),
    Sizes(2000),
    Sizes(100, 32, 16, 4),
    Sizes(100, 32, 32, 8),
    Sizes(100, 500, 16, 4),
    Sizes(20, 500, 32, 8),
    Sizes(100, 1, is_shared=True),
    Sizes(100, 500),
)
QUICK_SHAPES = (Sizes(5, 3),)
SINGLE = 1e-3  # of a sum of log densities in single precision


def works(is_quick: bool) -> list[Work]:
    """Log-likelihood and smoothing of each shape."""
    found = []
    for sizes in QUICK_SHAPES if is_quick else SHAPES:
        exact, task = make_task(sizes, dtype=torch.float64), make_task(sizes, dtype=torch.float32)
        for smooth in (False, True):
            if smooth and sizes.num_steps > 500:
                continue  # the loop takes minutes
            values = {LIBRARY: _by_library(exact, smooth), LOOP: partial(exact.baseline, smooth=smooth)}
            sides: dict[str, Callable[[], Any]] = {
                LIBRARY: _by_library(task, smooth),
                LOOP: partial(task.baseline, smooth=smooth),
            }
            if not smooth and not sizes.is_shared and is_installed("dynamax"):
                sides["dynamax, compiled"] = _checked(by_dynamax(task), task)
            what = "smoothing" if smooth else "log-likelihood"
            name = f"Kalman {what} with gradient, {sizes.num_series} series, {sizes.num_steps} steps"
            name += f", state {sizes.state_dim}" + ", shared matrices" * sizes.is_shared
            found.append(Work(name, sides, values, tolerance=DOUBLE, repeats=3))
    return found


def _by_library(task: Task, smooth: bool) -> Callable[[], Any]:
    return partial(task.library, is_parallel=None, smooth=smooth)  # type: ignore[arg-type]


def _checked(call: Callable[[], Any], task: Task) -> Callable[[], Any]:
    """A peer's call, once its log-likelihood was seen to be the library's."""
    expected = _by_library(task, False)()[0].sum()
    require_equal("dynamax", [torch.tensor(float(call()[0]))], [expected], SINGLE)
    return call


def by_dynamax(task: Task) -> Callable[[], Any]:
    """Log-likelihoods and their gradients by dynamax's sequential filter."""
    import jax
    from dynamax.linear_gaussian_ssm import inference

    numpy = jax.numpy

    def log_likelihood(values: Any, *model: Any) -> Any:
        transition, observation, transition_cov, observation_cov, mean, cov = model
        state, obs = mean.shape[0], values.shape[-1]
        parameters = inference.ParamsLGSSM(
            initial=inference.ParamsLGSSMInitial(mean, cov),
            dynamics=inference.ParamsLGSSMDynamics(
                transition, numpy.zeros(state), numpy.zeros((state, 0)), transition_cov
            ),
            emissions=inference.ParamsLGSSMEmissions(
                observation, numpy.zeros(obs), numpy.zeros((obs, 0)), observation_cov
            ),
        )
        return inference.lgssm_filter(parameters, values).marginal_loglik

    axes = (0, 0, 0, None, None, None, None)
    batched = jax.vmap(log_likelihood, in_axes=axes)
    function = jax.jit(jax.value_and_grad(lambda *inputs: batched(*inputs).sum(), argnums=tuple(range(7))))
    inputs = [numpy.asarray(value.detach().numpy()) for value in (task.values, *task.model)]
    return lambda: jax.block_until_ready(function(*inputs))
