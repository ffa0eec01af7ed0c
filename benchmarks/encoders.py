"""Which encoder for series whose beginning is hidden: the first frames, or the whole series read backwards.

``python -m benchmarks.encoders`` trains an `ODE2VAE` with each on damped swings whose first five of twenty steps are
hidden, in training and in the test alike, and prints the error of filling these steps.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

import pyro_seq as ps

NUM_HIDDEN, NUM_STEPS = 5, 20


def swings(num_series: int, seed: int) -> Tensor:
    """Positions (series, time, 1) of pendulums that swing at one frequency and fade, with noise."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = 1 + torch.rand(num_series, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(num_series, 1, generator=generator)
    times = torch.arange(float(NUM_STEPS))
    path = amplitude * torch.exp(-0.03 * times) * torch.cos(0.5 * times + phase)
    return (path + 0.05 * torch.randn(path.shape, generator=generator))[..., None]


def hidden_start(values: Tensor) -> ps.Sequences:
    """The series without their first steps."""
    data = ps.Sequences(values)
    return data.hide(torch.arange(NUM_STEPS).expand(len(values), -1) < NUM_HIDDEN)


def error_of(encoder: str, num_steps: int, seed: int) -> float:
    """Mean squared error at the hidden steps of test series."""
    torch.manual_seed(seed)
    reader = ps.RNNEncoder((1,), 4) if encoder == "RNNEncoder" else None
    field = ps.BayesianMLP(4, 2, is_bayesian=False)
    model = ps.ODE2VAE(obs_shape=(1,), state_dim=2, encoder=reader, vector_field=field)
    method = ps.SVI(num_steps=num_steps, batch_size=50, learning_rate=5e-3, clip_norm=5.0)
    trainer = ps.Trainer(progress=False, accelerator="cpu")
    posterior = ps.fit(model, hidden_start(swings(300, seed)), method, seed=seed, trainer=trainer)
    truth = swings(100, 1000 + seed)
    filled = ps.impute(posterior, hidden_start(truth), num_samples=50).mean
    return float((filled - truth)[:, :NUM_HIDDEN].square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=1_500, help="training steps of each model")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    options = parser.parse_args()
    print(f"{NUM_HIDDEN} hidden first steps of {NUM_STEPS}, mean squared error by seed; noise has {0.05**2:.4f}")
    print(f"training mean: {float(swings(100, 1000)[:, :NUM_HIDDEN].square().mean()):.4f}")
    for encoder in ("InitialStateEncoder", "RNNEncoder"):
        errors = [error_of(encoder, options.num_steps, seed) for seed in range(options.seeds)]
        print(f"{encoder}: " + ", ".join(f"{error:.4f}" for error in errors))


if __name__ == "__main__":
    main()
