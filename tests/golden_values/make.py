"""Losses of this release after twenty steps of every model, in double precision: a change of any number shows.

python -m tests.golden_values.make        writes them anew; do so only when training changes on purpose, and say why

Models, data and seeds are those of `tests.golden.make` where there are some. Its files hold what earlier versions
saved; these values belong to the present version alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import pyro_seq as ps
from pyro_seq.nn.components import Level
from tests.golden.make import POSTERIORS, Golden

VALUES = Path(__file__).with_name("losses.json")
NUM_STEPS = 20
SVI = ps.SVI(num_steps=NUM_STEPS, batch_size=2, learning_rate=1e-2)
CHAINS = ps.MaximumLikelihood(num_steps=NUM_STEPS, batch_size=2, learning_rate=1e-2, chain_steps=3, inference_steps=1)
MODELS = POSTERIORS | {
    "dynamic_factors": Golden(lambda: ps.DynamicFactors((2,), 2), SVI),
    "structural_series": Golden(lambda: ps.StructuralSeries(Level()), SVI, (1,)),
}
METHODS: dict[str, ps.GradientMethod] = {
    "ode2vae": SVI,
    "ode2vae_images": SVI,
    "kalman_vae": SVI,
    "srvp": SVI,
    "latent_ode": ps.IWAE(num_steps=NUM_STEPS, batch_size=2, learning_rate=1e-2, num_particles=3),
    "recurrent_vae": SVI,
    "ode_lebm_chains": CHAINS,
    "dynamic_factors": SVI,
    "structural_series": SVI,
}


def losses(name: str) -> dict[str, float]:
    """The terms of the loss in the last of twenty steps, at seed 0, by name."""
    golden = MODELS[name]._replace(dtype=torch.float64)
    trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=NUM_STEPS)
    history = ps.fit(golden.model(0), golden.data(), METHODS[name], seed=0, trainer=trainer).history
    left_out = {"step", "learning_rate", "skipped"}
    return {term: column[-1] for term, column in history.items() if term not in left_out}


def main() -> None:
    """Write the losses of all models."""
    VALUES.write_text(json.dumps({name: losses(name) for name in METHODS}, indent=1) + "\n")


if __name__ == "__main__":
    main()
