"""Whether a model learns what a known input does, on simulated series whose answer is known.

``python -m benchmarks.inputs`` fits each model to the systems that suit it and writes `benchmarks/results/inputs.json`:

* ``oscillator``: s'' = -s - 0.3 s' + u(t), at irregular times of each series, a quarter of the steps hidden.
* ``doses``: s' = -0.4 s + 0.6 u(t), a decay that doses feed, at irregular times, a quarter hidden.
* ``promotions``: s_t = 0.7 s_{t-1} + u_t + noise, at even steps.

u is held from step to step and observations have noise. The response to a pulse, an input that is one unit higher at
the first three steps of the horizon, is the difference of two forecasts of the same past; its error is relative to the
true response, in root mean square over series and steps. Beside it stand the root mean squared errors of forecasts
under the right inputs and under those of another series, and of baselines, in deviations of the observations.

Models read 100 + 30 u, for inputs have units, and standardise them.

``--quick`` takes few series and steps, to see that all runs.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.units import Standardise
from pyro_seq.training.schedules import Cosine
from pyro_seq.training.views import GrowingLength

RESULTS = Path(__file__).with_name("results") / "inputs.json"
QUIET = ps.Trainer(progress=False, accelerator="cpu")
SEEN, HORIZON, PULSE = 24, 16, 3  # steps
NOISE = 0.05  # of observations, in deviations of a series


class System(NamedTuple):
    """s' = A s + B u at irregular times, or s_t = A s_{t-1} + B u_t + noise at even ones; the first entry is seen."""

    transition: list[list[float]]
    drive: list[float]
    noise: float = 0.0
    has_even_times: bool = False

    def steps(self, times: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Matrices (series, step, state, state) and shifts (series, step, state) into each step but the first."""
        matrix, drive = torch.tensor(self.transition).double(), torch.tensor(self.drive).double()
        if self.has_even_times:
            return matrix.expand(*inputs[:, 1:].shape[:2], -1, -1), inputs[:, 1:] * drive
        size = len(drive)
        whole = torch.zeros(size + 1, size + 1, dtype=torch.float64)
        whole[:size, :size], whole[:size, size] = matrix, drive
        moved = torch.matrix_exp(whole * times.diff(dim=1)[..., None, None])
        return moved[..., :size, :size], moved[..., :size, size] * inputs[:, :-1]

    def path(self, initial: Tensor, times: Tensor, inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The first entry of the state (series, time, 1), exact; without noise where no generator is given."""
        matrices, shifts = self.steps(times, inputs)
        states = [initial]
        for matrix, shift in zip(matrices.unbind(1), shifts.unbind(1), strict=True):
            state = (matrix @ states[-1][..., None]).squeeze(-1) + shift
            if generator is not None and self.noise:
                state = state + self.noise * torch.randn(state.shape, generator=generator, dtype=torch.float64)
            states.append(state)
        return torch.stack(states, 1)[..., :1]


SYSTEMS = {
    "oscillator": System([[0.0, 1.0], [-1.0, -0.3]], [0.0, 1.0]),
    "doses": System([[-0.4]], [0.6]),
    "promotions": System([[0.7]], [1.0], noise=0.2, has_even_times=True),
}


class Task(NamedTuple):
    """Series of a system: training, and the test with its horizon under four inputs."""

    train: ps.Sequences
    past: ps.Sequences
    times: Tensor
    inputs: Tensor
    pulse: Tensor
    future: Tensor
    response: Tensor
    deviation: float


def simulate(name: str, num_train: int, num_test: int, seed: int) -> Task:
    """Train on whole series of `SEEN` + `HORIZON` steps; of test series the first `SEEN` are seen.

    The unit is far from 1 and its origin far from 0, as in most data.
    """
    system, generator = SYSTEMS[name], torch.Generator().manual_seed(seed)
    count, length = num_train + num_test, SEEN + HORIZON
    gaps = 1 + torch.zeros(count, length) if system.has_even_times else 0.2 + 0.4 * _uniform(count, length, generator)
    times = gaps.double().cumsum(1)
    levels = torch.randn(count, length, generator=generator).double()
    stays = _uniform(count, length, generator) < 0.6
    inputs = levels.gather(1, torch.where(stays, 0, torch.arange(length)).cummax(1).values)[..., None]
    initial = torch.randn(count, len(system.drive), generator=generator).double()
    path = system.path(initial, times, inputs, generator)
    centre, unit = 20.0, 5.0 / float(path[:num_train].std())
    noise = NOISE * float(path[:num_train].std()) * torch.randn(path.shape, generator=generator).double()
    values, raised = (centre + unit * (path + noise)).float(), inputs.clone()
    raised[:, SEEN : SEEN + PULSE] += 1.0
    nothing = torch.zeros_like(initial)
    response = unit * (system.path(nothing, times, raised) - system.path(nothing, times, inputs))
    mask = torch.ones(count, length, dtype=torch.bool)
    if not system.has_even_times:
        mask = _uniform(count, length, generator) > 0.25
    told = (100.0 + 30.0 * inputs).float()
    clock = times[0] if system.has_even_times else times
    whole = ps.Sequences(values, mask=mask, times=clock, inputs=told)
    test = whole[num_train:]
    ahead = test.times[..., SEEN:]
    return Task(
        whole[:num_train],
        test.first(SEEN),
        ahead,
        test.inputs[:, SEEN:],
        (100.0 + 30.0 * raised[num_train:, SEEN:]).float(),
        (centre + unit * path[num_train:, SEEN:]).float(),
        response[num_train:, SEEN:].float(),
        5.0,
    )


def _uniform(count: int, length: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, length, generator=generator)


def ode2vae() -> ps.SequenceModel:
    """Second order, so that a force acts on a velocity; in the unit of time of the system, whose rates are about 1."""
    encoder = ps.RNNEncoder((1,), 2, hidden_dim=32, input_dim=1)
    field = ps.BayesianMLP(3, 1, (30,), initial_scale=1e-3)
    return ps.ODE2VAE(
        (1,),
        1,
        flow=ps.Flow(1, input_dim=1),
        vector_field=field,
        encoder=encoder,
        emission=emission(1),
        time_step=0.4,
    )


def ode_lebm(dim: int = 1) -> ps.SequenceModel:
    """First order, with an encoder."""
    encoder = ps.RNNEncoder((1,), dim, hidden_dim=32, input_dim=1)
    field = ps.BayesianMLP(dim + 1, dim, (30,), is_bayesian=False)
    flow = ps.Flow(dim, order=1, input_dim=1)
    return ps.ODELEBM((1,), dim, flow=flow, vector_field=field, encoder=encoder, emission=emission(dim), time_step=0.4)


def emission(dim: int) -> ps.GaussianEmission:
    """Around an affine decoder."""
    return ps.GaussianEmission(torch.nn.Linear(dim, 1), initial_scale=0.3)


class VectorCodes(torch.nn.Module):
    """Codes of frames that are vectors, which `SRVP` reads in place of images."""

    code_dim = 8

    def __init__(self, obs_shape: Sequence[int]) -> None:
        super().__init__()
        self.units = Standardise()
        self.layers = mlp((math.prod(obs_shape), 16, self.code_dim))

    def adapt(self, data: ps.Sequences) -> None:
        """Take the unit of the frames from training."""
        self.units.adapt(data)

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Codes (frame, code) of frames (frame, obs), and no maps."""
        return self.layers(self.units(frames)), ()


class Vectors:
    """The architecture of `SRVP` for vectors, with an affine decoder."""

    def encoder(self, obs_shape: Sequence[int]) -> VectorCodes:
        """An encoder of vectors."""
        return VectorCodes(obs_shape)

    def decoder(self, dim: int, obs_shape: Sequence[int]) -> torch.nn.Module:
        """An affine decoder."""
        return torch.nn.Linear(dim, math.prod(obs_shape))


def srvp() -> ps.SequenceModel:
    """A state of one entry that residuals move, driven by the input of the frame that is entered."""
    transition = ps.ResidualTransition(1, 1, (32,), input_dim=1)
    return ps.SRVP(
        (1,),
        content_dim=0,
        num_frames=5,
        hidden_dim=32,
        architecture=Vectors(),
        transition=transition,
        emission=ps.GaussianEmission(initial_scale=0.3),
    )


MODELS: dict[tuple[str, str], tuple[Callable[[], ps.SequenceModel], float]] = {
    ("oscillator", "ODE2VAE"): (ode2vae, 1e-2),
    ("oscillator", "ODELEBM"): (lambda: ode_lebm(2), 1e-2),
    ("doses", "ODELEBM"): (ode_lebm, 1e-2),
    ("promotions", "KalmanVAE"): (
        lambda: ps.KalmanVAE((1,), dynamics=ps.MixedDynamics(1, 1, 1, input_dim=1), emission=emission(1)),
        1e-2,
    ),
    ("promotions", "RecurrentVAE"): (
        lambda: ps.RecurrentVAE((1,), 1, hidden_dim=16, input_dim=1, emission=emission(1)),
        1e-2,
    ),
    ("promotions", "SRVP"): (srvp, 1e-2),
}


def study(name: str, kind: str, seed: int, *, steps: int, num_train: int, num_test: int) -> dict[str, float | str]:
    """One model on one system: errors of its response and of its forecasts."""
    build, rate = MODELS[name, kind]
    task = simulate(name, num_train, num_test, seed)
    torch.manual_seed(seed)
    start = time.process_time()
    views = () if SYSTEMS[name].has_even_times else (GrowingLength(start=8, full_at=max(1, steps // 2)),)
    method = ps.SVI(
        num_steps=steps, batch_size=min(50, num_train), learning_rate=rate, schedule=Cosine(steps), views=views
    )
    posterior = ps.fit(build(), task.train, method, seed=seed, trainer=QUIET)
    seconds = time.process_time() - start
    plain = means(posterior, task, task.inputs)
    response = means(posterior, task, task.pulse) - plain
    wrong = means(posterior, task, task.inputs.roll(1, 0))
    return {
        "system": name,
        "model": kind,
        "seed": seed,
        "response": rms(response - task.response) / rms(task.response),
        "right": rms(plain - task.future) / task.deviation,
        "permuted": rms(wrong - task.future) / task.deviation,
        "seconds": round(seconds),
    }


def means(posterior: ps.Posterior, task: Task, inputs: Tensor) -> Tensor:
    """Mean forecast (series, horizon, 1) of the same past under some inputs."""
    ahead = ps.forecast(posterior, task.past, times=task.times, inputs=inputs, num_samples=50, seed=1)
    return ahead.emission_means.mean(0)


def baselines(name: str, seed: int, *, num_train: int, num_test: int) -> list[dict[str, float | str]]:
    """The last value, the mean of training, and at even steps least squares on the last value and the inputs."""
    task = simulate(name, num_train, num_test, seed)
    last = task.past.step_mask.long().mul(torch.arange(1, SEEN + 1)).argmax(1)
    train, mask = task.train.values, task.train.mask
    guesses = {
        "last value": task.past.values[torch.arange(len(last)), last][:, None].expand_as(task.future),
        "training mean": train[mask].mean().expand_as(task.future),
    }
    rows: list[dict[str, float | str]] = []
    if SYSTEMS[name].has_even_times:
        assert task.train.inputs is not None
        ones = torch.ones_like(train[:, 1:])
        told = torch.cat([train[:, :-1], task.train.inputs[:, 1:], ones], -1).flatten(0, 1)
        weights = torch.linalg.lstsq(told, train[:, 1:].flatten(0, 1)).solution
        value, found = task.past.values[:, -1], []
        for step in range(HORIZON):
            value = torch.cat([value, task.inputs[:, step], torch.ones_like(value)], -1) @ weights
            found.append(value)
        guesses["least squares"] = torch.stack(found, 1)
    for guess, values in guesses.items():
        rows.append({"system": name, "model": guess, "seed": seed, "right": rms(values - task.future) / task.deviation})
    return rows


def joined(path: Path, rows: list[dict[str, float | str]]) -> list[dict[str, float | str]]:
    """The rows of a file with these in place of those of the same system, model and seed."""
    found = json.loads(path.read_text()) if path.exists() else []
    by_key = {(row["system"], row["model"], row["seed"]): row for row in [*found, *rows]}
    return [by_key[key] for key in sorted(by_key, key=str)]


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--models", nargs="+", default=["ODE2VAE", "ODELEBM", "KalmanVAE", "RecurrentVAE", "SRVP"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1500, help="of training")
    parser.add_argument("--series", type=int, default=200, help="of training")
    parser.add_argument("--quick", action="store_true", help="few series and steps")
    parser.add_argument("--output", type=Path, default=None, help="JSON; `results/inputs.json` unless --quick")
    options = parser.parse_args()
    sizes = {"num_train": 8 if options.quick else options.series, "num_test": 4 if options.quick else 50}
    rows: list[dict[str, float | str]] = []
    for seed in options.seeds:
        for name in options.systems:
            rows += baselines(name, seed, **sizes)
            for kind in options.models:
                if (name, kind) in MODELS:
                    steps = 5 if options.quick else options.steps
                    rows.append(study(name, kind, seed, steps=steps, **sizes) | {"steps": steps})
                    print(rows[-1], flush=True)
    output = options.output or (None if options.quick else RESULTS)
    if output is not None:
        output.write_text(json.dumps(joined(output, rows), indent=1) + "\n")


if __name__ == "__main__":
    main()
