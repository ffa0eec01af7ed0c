"""The Kalman VAE in continuous time, learned from what was seen at irregular times alone.

``python -m benchmarks.kalman_continuous`` runs both studies, one row of a table a run:

* ``sinusoids``: waves of random frequency and level at 100 random times. Training and test see a share of the points of
  each series and nothing else; the score is the squared error of the posterior mean at all points of test series. The
  points are those of `benchmarks.studies.ode_lebm --data sinusoids --learn observed`.
* ``pendulum``: video of a swinging pendulum, of which half of the frames are dropped at random. One model in continuous
  time learns from the frames that are left, at their times, or with hidden frames at the times of the dropped ones, at
  which it will be asked; others need a grid, and have the dropped frames hidden on it or filled in by linear
  interpolation. The score is the squared error a pixel at the dropped frames of test series.

``--quick`` takes few series and steps, to see that all runs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.metrics.baselines import linear_interpolation
from pyro_seq.nn.frame import FrameEncoder
from pyro_seq.training.schedules import Cosine, WarmUp

QUIET = ps.Trainer(progress=False, accelerator="cpu")
NUM_OSCILLATORS = 5
FASTEST, SLOWEST = 0.1, 1.2  # periods of the oscillators at the start of training, in durations of the series


def only_seen(data: ps.Sequences) -> ps.Sequences:
    """The same series without their hidden steps, each at times of its own; all have seen as many."""
    seen = data.step_mask
    (count,) = seen.sum(1).unique().tolist()
    index = seen.float().argsort(dim=1, descending=True, stable=True)[:, :count]
    rows = torch.arange(data.num_series)[:, None]
    times = data.times.expand(data.num_series, -1)[rows, index]
    return ps.Sequences(data.values[rows, index], times=times)


# ---------------------------------------------------------------------- sinusoids


def oscillators(duration: float, num_modes: int) -> ps.ContinuousDynamics:
    """A level and a few oscillators, whose periods and all else are learned; modes differ in tempo.

    Args:
        duration: Of the series, in typical intervals.
        num_modes: Number of modes.
    """
    size = 2 * NUM_OSCILLATORS + 1
    dynamics = ps.ContinuousDynamics(
        1, size, num_modes, diffusion=1e-3, observation_variance=1e-3, initial_variance=1.0
    )
    periods = duration * torch.logspace(math.log10(FASTEST), math.log10(SLOWEST), NUM_OSCILLATORS)
    tempo = 1 + 0.1 * (torch.arange(num_modes) - (num_modes - 1) / 2)
    speed = 2 * math.pi / periods * tempo[:, None]
    first = torch.arange(0, size - 1, 2)
    with torch.no_grad():
        dynamics.drift[:, first, first + 1] = -speed
        dynamics.drift[:, first + 1, first] = speed
        dynamics.observation.zero_()
        dynamics.observation[:, 0, 0::2] = 0.5
    return dynamics


def sinusoids(share: float, num_modes: int, seed: int, options: argparse.Namespace) -> str:
    """One run: learn from a share of the points, and fill in all of test series from as few."""
    num_train, num_test, num_steps = (50, 20, 30) if options.quick else (800, 200, options.steps)
    complete, _, test = ps.datasets.irregular_sinusoids(num_train=num_train, num_test=num_test)
    given = ps.datasets.observe_share(test, share, seed=1)
    train = only_seen(ps.datasets.observe_share(complete, share, seed=2))
    torch.manual_seed(seed)
    unit = float(train.times.diff(dim=-1).median())
    model = ps.KalmanVAE((1,), dynamics=oscillators(5.0 / unit, num_modes))
    method = ps.SVI(
        num_steps=num_steps,
        batch_size=50,
        learning_rate=5e-3,
        schedule=Cosine(num_steps, warmup=num_steps // 20, final=0.02),
        clip_norm=20.0,
    )
    start = time.process_time()
    posterior = ps.fit(model, train, method, seed=seed, trainer=QUIET)
    seconds = time.process_time() - start
    filled = ps.reconstruct(posterior, given, num_samples=32, chunk_size=16)
    square = (filled.emission_means.mean(0) - test.values).square().squeeze(-1)
    inside = ps.metrics.coverage(filled.samples, test.values, 0.9, mask=~given.step_mask, keep=0).mean()
    hidden = float(square[~given.step_mask].mean())
    return (
        f"| {share} | {num_modes} | {seed} | {float(square.mean()):.5f} | {hidden:.5f} | {inside:.3f} | {seconds:.0f} |"
    )


# ---------------------------------------------------------------------- pendulum


def pendulums(num_train: int, num_test: int) -> tuple[ps.Sequences, ps.Sequences]:
    """Video of a pendulum without a motor, 24 frames of 16 x 16 pixels."""
    swing = ps.datasets.Pendulum(max_torque=0.0)
    splits = ps.datasets.torque_pendulum(swing, num_train=num_train, num_validation=0, num_test=num_test, num_steps=24)
    return tuple(ps.Sequences(part.values) for part in (splits.train, splits.test))


def filled_in(given: ps.Sequences) -> ps.Sequences:
    """Hidden frames between seen ones by linear interpolation, those before and after as the nearest."""
    return ps.Sequences(linear_interpolation(given), times=given.times)


def video_model(dynamics: ps.MixedDynamics | ps.ContinuousDynamics) -> ps.KalmanVAE:
    """Codes of size 2 of small frames, a state of size 4 and four modes."""
    shape = (1, 16, 16)
    with torch.no_grad():
        dynamics.observation += torch.eye(2, dynamics.state_dim)
    return ps.KalmanVAE(
        shape,
        dynamics=dynamics,
        encoder=FrameEncoder(ps.MLPTrunk(1, shape, (64, 64), noise=0.5), 2),
        emission=ps.GaussianEmission(ps.MLPDecoder(2, shape, (64, 64))),
    )


FORMS: dict[str, tuple[Callable[[], ps.KalmanVAE], Callable[[ps.Sequences], ps.Sequences]]] = {
    "continuous time": (lambda: video_model(ps.ContinuousDynamics(2, 4, 4)), only_seen),
    "continuous time, frames hidden": (lambda: video_model(ps.ContinuousDynamics(2, 4, 4)), lambda given: given),
    "grid, frames hidden": (lambda: video_model(ps.MixedDynamics(2, 4, 4)), lambda given: given),
    "grid, frames interpolated": (lambda: video_model(ps.MixedDynamics(2, 4, 4)), filled_in),
}


def pendulum(form: str, seed: int, options: argparse.Namespace) -> str:
    """One run: learn from the frames that are left, and fill in those of test series."""
    num_train, num_test, num_steps = (20, 10, 8) if options.quick else (500, 200, options.steps)
    train, test = (
        ps.datasets.observe_share(data, 0.5, seed=k) for k, data in enumerate(pendulums(num_train, num_test))
    )
    truth = pendulums(num_train, num_test)[1].values
    make, seen_by = FORMS[form]
    torch.manual_seed(seed)
    model = make()
    start = time.process_time()
    for part, is_first in ((num_steps // 4, True), (num_steps - num_steps // 4, False)):
        model.dynamics.mixture.requires_grad_(not is_first)  # the linear part of the dynamics first, as in the paper
        schedule = WarmUp(50) if is_first else Cosine(part, warmup=part // 10, final=0.01)
        scales = {"x": 0.3 if is_first else WarmUp(part * 2 // 3, start=0.3)}
        method = ps.SVI(
            num_steps=part, batch_size=50, learning_rate=7e-3, clip_norm=150.0, schedule=schedule, scales=scales
        )
        posterior = ps.fit(model, seen_by(train), method, seed=seed + part, trainer=QUIET)
    seconds = time.process_time() - start
    hidden = ~test.step_mask
    filled = ps.impute(posterior, test, num_samples=25, chunk_size=5)
    error = error_at(filled.emission_means.mean(0), truth, hidden)
    plain = error_at(linear_interpolation(test), truth, hidden)
    return f"| {form} | {seed} | {error:.5f} | {plain:.5f} | {seconds:.0f} |"


def error_at(values: Tensor, truth: Tensor, hidden: Tensor) -> float:
    """Squared error an entry at hidden steps."""
    return float((values - truth)[hidden].square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", nargs="+", choices=["sinusoids", "pendulum"], default=["sinusoids", "pendulum"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.2, 0.3, 0.5], help="of the points seen")
    parser.add_argument("--modes", nargs="+", type=int, default=[1, 3], help="of the dynamics, for sinusoids")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS), help="for the pendulum")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of weights and training")
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--quick", action="store_true", help="few series and steps")
    options = parser.parse_args()
    if "sinusoids" in options.study:
        print("| share seen | modes | seed | MSE, all points | hidden points | 90 % interval covers | seconds |")
        print("|---|---|---|---|---|---|---|")
        for seed in options.seeds:
            for num_modes in options.modes:
                for share in options.shares:
                    print(sinusoids(share, num_modes, seed, options), flush=True)
    if "pendulum" in options.study:
        print("| frames | seed | MSE of dropped frames | of linear interpolation | seconds |")
        print("|---|---|---|---|---|")
        for seed in options.seeds:
            for form in options.forms:
                print(pendulum(form, seed, options), flush=True)


if __name__ == "__main__":
    main()
