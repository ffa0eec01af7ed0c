"""Saved files of every kind, and what they predict: made once, and read by every later version.

python -m tests.golden.make        writes all files anew; do so only when the format changes on purpose

Each model is built under seed 0, trained for two steps and saved; means of a forecast and of an imputation are kept
beside it. Chains and runs that were stopped are in double precision, where a rounding error on another machine decides
nothing. Only names of the package itself are used here, so that this file outlives every change of what lies below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import pyro_seq as ps

FILES = Path(__file__).with_name("files")
PREDICTIONS = FILES / "predictions.npz"
HIDDEN = [3, 6]  # steps


class Golden(NamedTuple):
    """How one file was made."""

    build: Callable[[], ps.SequenceModel]
    method: Any
    obs_shape: tuple[int, ...] = (2,)
    dtype: torch.dtype = torch.float32

    def model(self, seed: int) -> ps.SequenceModel:
        """A fresh model under `seed`."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.build().to(self.dtype)

    def data(self) -> ps.Sequences:
        """Three series of fractions, with two hidden steps; the same bits on every machine, as runs compare them."""
        size = int(np.prod(self.obs_shape))
        values = (3 * np.arange(3)[:, None, None] + 2 * np.arange(7)[:, None] + 5 * np.arange(size)) % 11 / 11
        mask = torch.ones(3, 7, dtype=torch.bool)
        mask[:, HIDDEN] = False
        values = torch.as_tensor(values, dtype=self.dtype)
        return ps.Sequences(values.reshape(3, 7, *self.obs_shape), mask=mask)


def emission(dim: int) -> ps.GaussianEmission:
    """Around a small decoder of vectors of 2."""
    return ps.GaussianEmission(ps.MLPDecoder(dim, (2,), (4,)))


def field(size_in: int, size_out: int, **options: bool) -> ps.BayesianMLP:
    """A small network as vector field."""
    return ps.BayesianMLP(size_in, size_out, (3,), **options)


def windows(trunk: type[torch.nn.Module], obs_shape: tuple[int, ...], sizes: tuple[int, ...]) -> ps.InitialStateEncoder:
    """Position from one frame, velocity from two."""
    return ps.InitialStateEncoder(*(ps.FrameWindow(trunk(count, obs_shape, sizes), count, 1) for count in (1, 2)))


def ode2vae() -> ps.SequenceModel:
    """With a speed of each series, and both of the paper's extra terms."""
    return ps.ODE2VAE(
        (2,), 1, vector_field=field(2, 1), encoder=windows(ps.MLPTrunk, (2,), (4,)), emission=emission(1),
        tempo=ps.SeriesTempo(3), has_path_kl=True, has_instant_encoder=True,
    )  # fmt: skip


def ode2vae_of_images() -> ps.SequenceModel:
    """Convolutions on both sides."""
    encoder = windows(ps.ConvTrunk, (1, 8, 8), (2, 4))
    decoder = ps.BernoulliEmission(ps.SubPixelDecoder(1, (1, 8, 8), 4, depth=2))
    return ps.ODE2VAE((1, 8, 8), 1, vector_field=field(2, 1), encoder=encoder, emission=decoder)


def kalman_vae() -> ps.SequenceModel:
    """Two modes mixed by an LSTM; the states a site."""
    dynamics = ps.MixedDynamics(2, 3, num_modes=2, mixture=ps.LSTMMixture(2, 2, 4))
    encoder = ps.FrameEncoder(ps.MLPTrunk(1, (2,), (4,)), 2)
    return ps.KalmanVAE((2,), dynamics=dynamics, encoder=encoder, emission=emission(2), has_states=True)


def srvp() -> ps.SequenceModel:
    """A small encoder and decoder of frames."""
    return ps.SRVP(
        (1, 8, 8), 2, noise_dim=2, content_dim=3, num_frames=2, hidden_dim=8, architecture=ps.DCGAN((2, 4), code_dim=4)
    )


def latent_ode() -> ps.SequenceModel:
    """With an encoder, a static and a dynamic part, and a Gaussian prior."""
    encoder = ps.ODERNNEncoder((2,), 4, hidden_dim=4)
    return ps.ODELEBM(
        (2,), 2, static_dim=1, dynamic_dim=1, vector_field=field(3, 2, is_bayesian=False), encoder=encoder,
        emission=emission(3),
    )  # fmt: skip


def ode_lebm() -> ps.SequenceModel:
    """With an energy, and without an encoder."""
    network = field(2, 2, is_bayesian=False)
    prior = ps.EnergyTilt(ps.EnergyMLP(2, (4,)))
    return ps.ODELEBM((2,), 2, vector_field=network, initial_prior=prior, emission=emission(2))


def recurrent_vae() -> ps.SequenceModel:
    """A network of four units over the codes."""
    encoder = ps.FrameEncoder(ps.MLPTrunk(1, (2,), (4,)), 2, maximum_variance=1.0)
    return ps.RecurrentVAE((2,), 2, hidden_dim=4, encoder=encoder, emission=emission(2))


SVI = ps.SVI(num_steps=2, batch_size=2)
CHAINS = ps.MaximumLikelihood(num_steps=2, batch_size=2, chain_steps=3, inference_steps=10)
DRAWS = ps.MCMC(ps.NUTS(max_tree_depth=3), num_samples=4, warmup_steps=4, num_chains=2)
POSTERIORS = {
    "ode2vae": Golden(ode2vae, SVI),
    "ode2vae_images": Golden(ode2vae_of_images, SVI, obs_shape=(1, 8, 8)),
    "kalman_vae": Golden(kalman_vae, SVI),
    "srvp": Golden(srvp, SVI, obs_shape=(1, 8, 8)),
    "latent_ode": Golden(latent_ode, SVI),
    "recurrent_vae": Golden(recurrent_vae, SVI),
    "ode_lebm_chains": Golden(ode_lebm, CHAINS, dtype=torch.float64),
    "ode2vae_draws": Golden(ode2vae, DRAWS, dtype=torch.float64),
}
RUNS = {
    "run_svi": Golden(recurrent_vae, SVI, dtype=torch.float64),
    "run_chains": Golden(ode_lebm, CHAINS, dtype=torch.float64),
}


def fitted(golden: Golden, *, seed: int = 0, num_steps: int = 2, **options: Any) -> Any:
    """The posterior of a fresh model; a run may be longer, and in a directory."""
    method = golden.method if num_steps == 2 else dataclasses.replace(golden.method, num_steps=num_steps)
    trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=1, **options)
    return ps.fit(golden.model(seed), golden.data(), method, trainer=trainer)


def predictions(posterior: Any, data: ps.Sequences) -> dict[str, np.ndarray]:
    r"""Means at seed 0 of a forecast after the grid and an imputation, (sample, series, time, \*obs), as doubles."""
    forecast = ps.forecast(posterior, data.extend(horizon=2), num_samples=2)
    imputed = ps.impute(posterior, data, num_samples=2)
    return {"forecast": forecast.emission_means.double().numpy(), "impute": imputed.emission_means.double().numpy()}


def main() -> None:
    """Write all files, of runs the state after two steps and what four predict."""
    stored: dict[str, np.ndarray] = {}
    for name, golden in POSTERIORS.items():
        posterior = fitted(golden)
        ps.save(posterior, FILES / f"{name}.pt")
        stored |= {f"{name}/{kind}": means for kind, means in predictions(posterior, golden.data()).items()}
    for name, golden in RUNS.items():
        fitted(golden, directory=FILES / name)
        whole = fitted(golden, num_steps=4)
        stored |= {f"{name}/{kind}": means for kind, means in predictions(whole, golden.data()).items()}
    np.savez_compressed(PREDICTIONS, **stored)


if __name__ == "__main__":
    main()
