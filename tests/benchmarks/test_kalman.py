"""All sides of the Kalman benchmark compute the same numbers; no timing."""

from __future__ import annotations

import pytest
import torch

from benchmarks._kalman_precision import CASES, precision_rows, single_precision_errors
from benchmarks._measure import gap
from benchmarks.kalman import DOUBLE, Sizes, make_task, sides
from benchmarks.kalman_choice import rows_of, shapes
from benchmarks.kalman_sensors import TINY, likelihood


@pytest.mark.parametrize("is_shared", [False, True], ids=["per step", "shared"])
@pytest.mark.parametrize("smooth", [False, True], ids=["log-likelihood", "smoothing"])
def test_all_sides_agree_in_values_and_gradients(smooth, is_shared):
    task = make_task(Sizes(7, num_series=3, state_dim=3, is_shared=is_shared), dtype=torch.float64)
    results = {side: call() for side, call in sides(task, smooth=smooth).items()}
    assert len(results) == 4
    for side, result in results.items():
        # Pyro's factors carry a jitter
        assert gap(result, results["baseline"]) < (1e-6 if side == "GaussianHMM" else DOUBLE)
        assert all(part.abs().sum() > 0 for part in result)


@pytest.mark.parametrize("is_parallel", [False, True], ids=["sequential", "parallel"])
def test_errors_of_single_precision_are_those_of_its_epsilon(is_parallel):
    errors = single_precision_errors(CASES[0], 20, is_parallel=is_parallel)
    epsilon = torch.finfo(torch.float32).eps
    # some hundreds of operations on a path, and a variance that the first observation shrinks by 700
    assert all(0 < error < 1000 * epsilon for name, error in errors.items() if "deviations" not in name)


def test_rows_of_precision_name_their_unit():
    rows = precision_rows((3,), CASES[:1])
    assert {row.unit for row in rows} == {"relative error", "deviations"} and all(row.cpu is None for row in rows)


@pytest.mark.slow
def test_rows_of_the_choice_say_which_form_is_taken():
    for num_steps, form in ((3, "steps"), (30, "scan")):
        rows = rows_of(Sizes(num_steps, num_series=2, state_dim=2))
        assert [row.name.split(": ")[1] for row in rows] == [form, form] and all(row.ratio for row in rows)
    assert set(shapes(True)) < set(shapes(False))


@pytest.mark.parametrize("is_hidden", [False, True])
def test_compressed_and_dense_sensors_have_the_same_gradients(is_hidden):
    mask = torch.rand(1, 30, 9, generator=torch.Generator().manual_seed(0)) < 0.7 if is_hidden else None
    assert gap(likelihood(9, mask, 0.0), likelihood(9, mask, TINY)) < DOUBLE
