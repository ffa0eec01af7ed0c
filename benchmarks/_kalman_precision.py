"""Errors of the Kalman filter and smoother in single precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks._measure import Row
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter, kalman_smoother, simulate


class Case(NamedTuple):
    """A constant-velocity track in two dimensions; variances of the acceleration and of the observation."""

    name: str
    process: float
    noise: float


CASES = (Case("ordinary", 0.1, 0.03), Case("Q nearly singular", 1e-6, 0.1), Case("Q and R nearly singular", 1e-4, 1e-6))


def track(case: Case, num_steps: int) -> tuple[Tensor, LinearGaussianParameters, Tensor]:
    """Eight series, a tenth of the steps hidden, in double precision."""
    step = 0.2
    unit = torch.eye(2, dtype=torch.float64)
    move = torch.tensor([[1.0, step], [0.0, 1.0]], dtype=torch.float64)
    push = torch.tensor([[step**3 / 3, step**2 / 2], [step**2 / 2, step]], dtype=torch.float64)
    parameters = LinearGaussianParameters(
        torch.kron(move, unit),
        case.process * torch.kron(push, unit),
        torch.kron(torch.tensor([[1.0, 0.0]], dtype=torch.float64), unit),
        case.noise * unit,
        torch.zeros(4, dtype=torch.float64),
        20 * torch.eye(4, dtype=torch.float64),
    )
    generator = torch.Generator().manual_seed(0)
    values = simulate(parameters, num_steps, batch_shape=(8,), generator=generator).values
    return values, parameters, torch.rand(8, num_steps, generator=generator) < 0.9


def single_precision_errors(case: Case, num_steps: int, *, is_parallel: bool) -> dict[str, float]:
    """Largest error relative to the largest entry, and of smoothed means also to the posterior deviation."""
    values, parameters, mask = track(case, num_steps)
    rounded = LinearGaussianParameters(*(None if part is None else part.float() for part in parameters))
    # the same data for both: their own rounding is not the filter's
    values = values.float().double()
    parameters = LinearGaussianParameters(*(None if part is None else part.double() for part in rounded))
    filtered, smoothed = (f(values, parameters, mask) for f in (kalman_filter, kalman_smoother))
    single = values.float(), rounded, mask
    found, found_smoothed = (f(*single, is_parallel=is_parallel) for f in (kalman_filter, kalman_smoother))
    deviation = smoothed.smoothed_covs.diagonal(dim1=-2, dim2=-1).sqrt()
    return {
        "filtered means": _relative(found.filtered_means, filtered.filtered_means),
        "filtered covs": _relative(found.filtered_covs, filtered.filtered_covs),
        "log-likelihood": _relative(found.log_likelihood, filtered.log_likelihood),
        "smoothed means": _relative(found_smoothed.smoothed_means, smoothed.smoothed_means),
        "smoothed covs": _relative(found_smoothed.smoothed_covs, smoothed.smoothed_covs),
        "smoothed means in deviations": float(
            ((found_smoothed.smoothed_means - smoothed.smoothed_means) / deviation).abs().max()
        ),
    }


def precision_rows(lengths: Sequence[int], cases: Iterable[Case] = CASES) -> list[Row]:
    """Errors of the parallel form; in the column of the baseline, those of the sequential one."""
    rows = []
    for case in cases:
        for num_steps in lengths:
            parallel, sequential = (
                single_precision_errors(case, num_steps, is_parallel=is_parallel) for is_parallel in (True, False)
            )
            rows += [
                Row(
                    f"float32 {name}, {case.name}, T={num_steps}",
                    parallel[name],
                    "deviations" if "deviations" in name else "relative error",
                    sequential[name],
                    *(None, None, None, None, None),
                )
                for name in parallel
            ]
    return rows


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())
