"""Kalman filter and smoother: forward and backward, beside a plain loop with explicit inverses.

Log-likelihood: value and gradient. Smoothing: means and covariances and the gradient of a random function of them.
Gradients are of the observations and of all parameters. "Per step" gives every series and step its own transition and
observation matrix, as a Kalman VAE does; "shared" has one for all, and the library then computes covariances once.

Baseline: `benchmarks._kalman_baseline`, which collects steps in lists, so that its cost is linear in time. "Slices" is
the same loop written into slices of whole tensors, as a public PyTorch port does, whose backward is quadratic.
Values and gradients agree in double precision before anything is timed; times are in single precision, batch 32,
state 4, observations of 2, unless the row says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from benchmarks import _kalman_baseline as plain
from benchmarks._kalman_precision import precision_rows
from benchmarks._measure import Row, Timing, gap, interleave, options, plot_costs, report, require_equal, row
from pyro_seq.ops.kalman import LinearGaussianParameters, kalman_filter, kalman_smoother

DOUBLE = 1e-9
BOUNDS = {100: 3.0, 500: 6.0}
PACKAGES = ("torch", "pyro-ppl")
Call = Callable[[], list[Tensor]]


class Sizes(NamedTuple):
    """Of one task."""

    num_steps: int
    num_series: int = 32
    state_dim: int = 4
    obs_dim: int = 2
    is_shared: bool = False


@dataclass(frozen=True)
class Task:
    """Observations and parameters that all sides share; leaves, of which every side returns the gradients."""

    values: Tensor
    model: plain.Model
    mean_cotangent: Tensor
    cov_cotangent: Tensor

    def library(self, *, is_parallel: bool | None, smooth: bool) -> list[Tensor]:
        """By the operations of the library, in the form that it chooses where none is given."""
        parameters = LinearGaussianParameters(
            self.model.transition if self.model.transition.shape[1] > 1 else self.model.transition[0, 0],
            self.model.transition_cov,
            self.model.observation if self.model.observation.shape[1] > 1 else self.model.observation[0, 0],
            self.model.observation_cov,
            self.model.initial_mean,
            self.model.initial_cov,
        )
        if smooth:
            result = kalman_smoother(self.values, parameters, is_parallel=is_parallel)
            return self._with_gradients([result.smoothed_means, result.smoothed_covs])
        return self._with_gradients([kalman_filter(self.values, parameters, is_parallel=is_parallel).log_likelihood])

    def baseline(self, *, smooth: bool) -> list[Tensor]:
        """By the plain loop."""
        if smooth:
            return self._with_gradients(list(plain.smooth(self.values, self._whole())))
        return self._with_gradients([plain.log_likelihood(self.values, self._whole())])

    def slices(self) -> list[Tensor]:
        """Smoothing by the loop that writes into whole tensors."""
        return self._with_gradients(list(plain.smooth_into_slices(self.values, self._whole())))

    def hidden_markov_model(self) -> list[Tensor]:
        """Log-likelihood by Pyro's distribution, which moves before the first observation: a move to the start."""
        model = self._whole()
        start, cov = model.initial_mean, model.initial_cov
        transition = torch.cat([torch.zeros_like(model.transition[:, :1]), model.transition[:, 1:]], 1)
        steps = self.values.shape[1]
        loc = torch.cat([start[None], start.new_zeros(steps - 1, len(start))])
        noise = torch.cat([cov[None], model.transition_cov.expand(steps - 1, -1, -1)])
        zero = start.new_zeros(self.values.shape[-1])
        chain = dist.GaussianHMM(
            dist.MultivariateNormal(start.new_zeros(len(start)), torch.eye(len(start), dtype=start.dtype)),
            transition.mT,
            dist.MultivariateNormal(loc, noise, validate_args=False),
            model.observation.mT,
            dist.MultivariateNormal(zero, model.observation_cov, validate_args=False),
        )
        return self._with_gradients([chain.log_prob(self.values)])

    def _whole(self) -> plain.Model:
        shape = (*self.values.shape[:2], -1, -1)
        transition, observation = self.model.transition.expand(shape), self.model.observation.expand(shape)
        return self.model._replace(transition=transition, observation=observation)

    def _with_gradients(self, results: list[Tensor]) -> list[Tensor]:
        cotangents = [self.mean_cotangent, self.cov_cotangent] if len(results) > 1 else [torch.ones_like(results[0])]
        values, *parameters = torch.autograd.grad(results, (self.values, *self.model), cotangents)
        # of a covariance only the symmetric part of the gradient is defined
        covs = [(gradient + gradient.mT) / 2 for gradient in (*parameters[2:4], parameters[5])]
        return [*(result.detach() for result in results), values, *parameters[:2], *covs, parameters[4]]


def make_task(sizes: Sizes, *, dtype: torch.dtype) -> Task:
    """A stable random model with the noise of the public Kalman VAE."""
    generator = torch.Generator().manual_seed(0)
    state, obs = sizes.state_dim, sizes.obs_dim
    lead = (1, 1) if sizes.is_shared else (sizes.num_series, sizes.num_steps)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def leaf(value: Tensor) -> Tensor:
        return value.to(dtype).requires_grad_()

    unit, unit_obs = torch.eye(state, dtype=torch.float64), torch.eye(obs, dtype=torch.float64)
    model = plain.Model(
        leaf(0.95 * unit + 0.1 / state**0.5 * normal(*lead, state, state)),
        leaf(normal(*lead, obs, state) / state**0.5),
        leaf(0.08 * unit),
        leaf(0.03 * unit_obs),
        leaf(torch.zeros(state, dtype=torch.float64)),
        leaf(20 * unit),
    )
    series = (sizes.num_series, sizes.num_steps)
    cotangents = [normal(*series, state).to(dtype), normal(*series, state, state).to(dtype)]
    return Task(leaf(normal(*series, obs)), model, *cotangents)


def sides(task: Task, *, smooth: bool) -> dict[str, Call]:
    """All ways to the same values."""
    calls: dict[str, Call] = {
        "parallel": lambda: task.library(is_parallel=True, smooth=smooth),
        "sequential": lambda: task.library(is_parallel=False, smooth=smooth),
        "baseline": lambda: task.baseline(smooth=smooth),
    }
    if smooth:
        return calls | {"slices": task.slices}
    return calls | {"GaussianHMM": task.hidden_markov_model}


def check(name: str, sizes: Sizes, *, smooth: bool, skip: tuple[str, ...] = ()) -> float:
    """Equal values and gradients in double precision; how far they are apart in single."""
    exact = sides(make_task(sizes, dtype=torch.float64), smooth=smooth)
    expected = exact["baseline"]()
    for side, call in exact.items():
        if side not in ("baseline", *skip):
            # Pyro adds a relative jitter of 4 machine epsilons at each of its factors
            require_equal(f"{name}, {side}", call(), expected, 1e-6 if side == "GaussianHMM" else DOUBLE)
    single = sides(make_task(sizes, dtype=torch.float32), smooth=smooth)
    return gap([x.double() for x in single["parallel"]()], expected)


def main() -> None:
    quick = options("kalman", __doc__).quick
    rows = []
    for is_shared in (False, True):
        for smooth in (False, True):
            for num_steps in (20, 100) if quick else (20, 100, 500, 2000):
                rows += _rows(Sizes(num_steps, is_shared=is_shared), smooth, quick)
    rows += _scaling_rows(quick)
    rows += precision_rows((20, 200) if quick else (20, 200, 2000))
    report(
        "kalman",
        rows,
        notes=[
            "Library and baseline columns in seconds; spread is (third - first quartile) / median of the library.",
            "Bounds hold the parallel form against the linear loop.",
            "Float32 rows are errors relative to float64; the column of the baseline is the sequential form's.",
        ],
        packages=PACKAGES,
    )


def _rows(sizes: Sizes, smooth: bool, quick: bool) -> list[Row]:
    kind = "shared" if sizes.is_shared else "per step"
    name = f"{'smoothing' if smooth else 'log-likelihood'}, {kind}, T={sizes.num_steps}"
    # quadratic in time
    skip = ("slices",) if sizes.num_steps > 100 else ()
    difference = check(name, sizes, smooth=smooth, skip=skip)
    task = make_task(sizes, dtype=torch.float32)
    calls = {side: call for side, call in sides(task, smooth=smooth).items() if side not in skip}
    times = interleave(calls, _repeats(sizes.num_steps, quick))
    bound = BOUNDS.get(sizes.num_steps)
    rows = []
    for side, timing in times.items():
        if side != "baseline":
            pair = {"library": timing, "baseline": times["baseline"]}
            is_bound = side == "parallel"
            rows.append(row(f"{name}, {side}", pair, bound=bound if is_bound else None, difference=difference))
    return rows


def _repeats(num_steps: int, quick: bool) -> int:
    return 3 if quick else max(5, min(31, 5_000 // num_steps))


def _scaling_rows(quick: bool) -> list[Row]:
    """Cost of smoothing against one size at a time."""
    rows = []
    for file, label, sizes in (
        ("length", "steps", [Sizes(size) for size in ((10, 30) if quick else (10, 30, 100, 300, 1000, 3000))]),
        (
            "batch",
            "series",
            [Sizes(20 if quick else 100, size) for size in ((1, 8, 64) if quick else (1, 4, 16, 64, 256, 1024))],
        ),
        (
            "state",
            "state size",
            [Sizes(20 if quick else 100, 32, size) for size in ((2, 8, 16) if quick else (1, 2, 4, 8, 16, 32))],
        ),
    ):
        curves: dict[str, tuple[list[float], list[float]]] = {}
        for size in sizes:
            times = _times(make_task(size, dtype=torch.float32), 1 if quick else 7)
            x = {"steps": size.num_steps, "series": size.num_series}.get(label, size.state_dim)
            for side, timing in times.items():
                points = curves.setdefault(side, ([], []))
                points[0].append(x)
                points[1].append(timing.cpu)
            pair = {"library": times["parallel"], "baseline": times["baseline"]}
            rows.append(row(f"smoothing, per step, {label} {x}", pair))
        plot_costs(f"kalman_{file}", label, curves, "Kalman smoother, forward and backward")
    return rows


def _times(task: Task, repeats: int) -> Mapping[str, Timing]:
    calls = sides(task, smooth=True)
    del calls["slices"]
    return interleave(calls, repeats)


if __name__ == "__main__":
    main()
