"""A state seen by many sensors with independent noise: likelihood and gradient, compressed and dense.

The library compresses what the sensors of a step say to as many numbers as the state has; the baseline is its own dense
form, to which one entry of correlation as small as rounding sends it. Values and gradients agree in double precision
before anything is timed, to a relative 1e-9. "Hidden" hides a third of the entries, one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks._measure import Row, interleave, options, report, require_equal, row
from benchmarks.kalman import PACKAGES
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter

STATE, STEPS, SERIES = 2, 30, 1
TINY = 1e-300  # covariance of two sensors


def main() -> None:
    quick = options("kalman_sensors", __doc__).quick
    rows = [entry for sensors in ((100, 400) if quick else (10, 30, 100, 400, 800)) for entry in rows_of(sensors)]
    report("kalman_sensors", rows, packages=PACKAGES)


def rows_of(sensors: int) -> list[Row]:
    """All entries seen, and a third hidden."""
    rows = []
    for name in ("whole", "hidden"):
        generator = torch.Generator().manual_seed(0)
        mask = torch.rand(SERIES, STEPS, sensors, generator=generator) < 2 / 3 if name == "hidden" else None
        calls = {
            "library": lambda mask=mask: likelihood(sensors, mask, 0.0),
            "baseline": lambda mask=mask: likelihood(sensors, mask, TINY),
        }
        require_equal(name, calls["library"](), calls["baseline"](), 1e-9)
        rows.append(row(f"{sensors} sensors, {name}, state {STATE}, T={STEPS}", interleave(calls, 3)))
    return rows


def likelihood(sensors: int, mask: Tensor | None, correlation: float) -> list[Tensor]:
    """Of random values, with the gradients by the values, by what the sensors see, and by their variances."""
    generator = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    values, observation, scale = leaf(SERIES, STEPS, sensors), leaf(sensors, STATE), leaf(sensors)
    unit = torch.eye(STATE, dtype=torch.float64)
    noise = torch.diag(0.5 + scale.square())
    noise = noise + correlation * torch.ones_like(noise).triu(1).tril(1)
    model = LinearGaussianParameters(0.9 * unit, unit, observation, noise, torch.zeros_like(unit[0]), unit)
    total = kalman_filter(values, model, mask).log_likelihood.sum()
    return [total.detach(), *torch.autograd.grad(total, (values, observation, scale))]


if __name__ == "__main__":
    main()
