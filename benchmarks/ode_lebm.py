"""ODE-LEBM: time of a training step by posterior chains beside a Latent ODE's, and test error against time.

Baseline of a step: the evidence lower bound of a Latent ODE on the same networks, solver and minibatch. Library: the
same networks trained by chains that start cold, go on from the last visit, or start from the encoder; with and without
an energy-based prior, whose own chains have 20 steps. A step is all of it: minibatch, chains, gradients, clipping and
Adam; with the guide as start, the guide's bound too. The published implementation pays 16.7 Latent ODE steps for one
with 20 cold Langevin steps; warm chains may cost 6 at equal error.

Test error: spirals of which three tenths of 100 points are seen, the mean of four draws against the truth of all
points, after so many processor seconds of training from scratch. Time of inference is not counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

import pyro_seq as ps
from benchmarks._measure import Row, Timing, folder, interleave, options, plot_curves, report, row
from benchmarks._ode_lebm_tasks import BASELINE, BEST, COLD, VARIANTS, Task, Training, image_task, spiral_task
from pyro_seq.data import Sequences
from pyro_seq.datasets import observe_share, spirals

CEILING = 6.0  # Latent ODE steps that a step of warm chains may cost
SHARE_SEEN, NUM_DRAWS = 0.3, 4


class Point(NamedTuple):
    """How far a training is."""

    seconds: float
    num_steps: int
    error: float


Curves = Mapping[str, Sequence[Point]]


def main() -> None:
    quick = options("ode_lebm", __doc__).quick
    spiral, image = spiral_task(*((60, 20) if quick else ())), image_task(*((4, 4, 5, 12) if quick else ()))
    steps = {"spirals": step_times(spiral, 2 if quick else 9), "images": step_times(image, 1 if quick else 5)}
    rows = [row for name, times in steps.items() for row in cost_rows(name, times)]
    test = spirals(num_train=1, num_validation=0, num_test=8 if quick else 100, num_test_steps=100).test
    curves = error_curves(spiral, test, budget=0.5 if quick else 60.0, num_points=2 if quick else 5)
    (folder() / "ode_lebm_errors.json").write_text(json.dumps(curves, indent=1) + "\n")
    plot_errors(curves)
    report("ode_lebm", rows, notes=[*_costs(steps), *_errors(curves)], packages=("torch", "pyro-ppl"))


# ---------------------------------------------------------------- time of a step


def step_times(task: Task, repeats: int) -> dict[str, Timing]:
    """A step of the Latent ODE, and of every variant with and without an energy-based prior."""
    trainings = {BASELINE.name: Training(task, BASELINE)}
    for ending, has_energy in (("", False), (", energy", True)):
        trainings |= {v.name + ending: Training(task, v, has_energy=has_energy) for v in VARIANTS}
    return interleave({name: training.step for name, training in trainings.items()}, repeats)


def cost_rows(name: str, times: Mapping[str, Timing]) -> list[Row]:
    """One row a variant; its ratio is that of the Latent ODE's step to it, so that a cost of 6 is 0.17."""
    rows = []
    for variant, timing in times.items():
        if variant != BASELINE.name:
            bound = None if variant.startswith("cold") else round(1 / CEILING, 3)
            pair = {"library": timing, "baseline": times[BASELINE.name]}
            rows.append(row(f"{name}, {variant}", pair, bound=bound))
    return rows


def _costs(steps: Mapping[str, Mapping[str, Timing]]) -> list[str]:
    lines = [f"Costs in Latent ODE steps, by processor time: {', '.join(steps)}. Warm chains may cost {CEILING:g}."]
    for variant in next(iter(steps.values())):
        costs = [times[variant].cpu / times[BASELINE.name].cpu for times in steps.values()]
        lines.append(f"  {variant:64s}" + "".join(f"{cost:8.2f}" for cost in costs))
    return lines


# ---------------------------------------------------------------- error against time


def error_curves(task: Task, test: Sequences, *, budget: float, num_points: int) -> dict[str, list[Point]]:
    """Test error of every way of training at times that double up to the budget, in processor seconds."""
    marks = [budget / 2**k for k in range(num_points)][::-1]
    plain = {variant.name: Training(task, variant) for variant in (BASELINE, *VARIANTS)}
    tilted = {f"{v.name}, energy": Training(task, v, has_energy=True) for v in (COLD, BEST)}
    curves = {}
    for name, training in (plain | tilted).items():
        curves[name] = _curve(training, test, marks)
        print(f"{name:64s}", *(f"{point.error:.3f} ({point.num_steps})" for point in curves[name]), flush=True)
    return curves


def _curve(training: Training, test: Sequences, marks: Sequence[float]) -> list[Point]:
    seconds, num_steps, points = 0.0, 0, []
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for mark in marks:
            while seconds < mark:
                begin = time.process_time()
                training.step()
                seconds, num_steps = seconds + time.process_time() - begin, num_steps + 1
            points.append(Point(seconds, num_steps, error_of(training, test)))
    return points


def error_of(training: Training, test: Sequences) -> float:
    """Mean squared error of all points, given some, against the series without noise."""
    seen = observe_share(test, SHARE_SEEN)
    prediction = ps.reconstruct(training.posterior, seen, num_samples=NUM_DRAWS)
    return float((prediction.mean - test.context["truth"]).square().mean())


def _errors(curves: Curves) -> list[str]:
    """When each way of training reached what cold chains end with."""
    goal = curves[COLD.name][-1].error
    lines = [f"Test error at the end, and processor seconds to {goal:.3f}, which {COLD.name} ends with:"]
    for name, points in curves.items():
        reached = [point.seconds for point in points if point.error <= goal]
        lines.append(f"  {name:64s}{points[-1].error:8.3f}" + (f"{reached[0]:8.1f}" if reached else f"{'-':>8s}"))
    return lines


def plot_errors(curves: Curves) -> None:
    """Test error against the processor seconds of training."""
    points = {name: ([p.seconds for p in curve], [p.error for p in curve]) for name, curve in curves.items()}
    labels = "processor seconds of training", "mean squared error on test series"
    plot_curves("ode_lebm_errors", points, labels, "Spirals")


if __name__ == "__main__":
    main()
