"""Small models with data for the checks on a device, and the examples' models at their sizes for its times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

import pyro_seq as ps
from pyro_seq import datasets
from pyro_seq.ops.langevin import MALA
from pyro_seq.training import schedules, views

VECTOR, IMAGE = (3,), (1, 8, 8)
NUM_SERIES, NUM_STEPS, SEEN = 4, 9, 4


@dataclass(frozen=True)
class Case:
    """A small model and data for it.

    Args:
        name: Of the model and its parts.
        make: Makes the model.
        obs_shape: Shape of an observation.
        is_coupled: Whether series of a batch share the steps of a solver, which `check_model` does not forgive.
    """

    name: str
    make: Callable[[], ps.SequenceModel]
    obs_shape: tuple[int, ...]
    is_coupled: bool = False

    def model(self, device: torch.device) -> ps.SequenceModel:
        """The model, always with the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            return self.make().to(device)

    def data(self, device: torch.device) -> ps.Sequences:
        """A few different series."""
        generator = torch.Generator().manual_seed(1)
        return ps.Sequences(torch.rand(NUM_SERIES, NUM_STEPS, *self.obs_shape, generator=generator)).to(device)

    def gappy(self, device: torch.device) -> ps.Sequences:
        """The same with hidden steps in the second half."""
        hidden = torch.zeros(NUM_SERIES, NUM_STEPS, dtype=torch.bool)
        hidden[::2, SEEN + 1 : SEEN + 3] = True
        return self.data(device).hide(hidden.to(device))


def field(state_dim: int, dim: int, is_bayesian: bool) -> ps.BayesianMLP:
    """A small vector field."""
    return ps.BayesianMLP(state_dim, dim, (6, 5), is_bayesian=is_bayesian)


def kalman_vae(obs_shape: tuple[int, ...], mixture: Any, **options: Any) -> ps.KalmanVAE:
    """A Kalman VAE with small parts."""
    if obs_shape == IMAGE:
        options |= small_image_parts()
    return ps.KalmanVAE(obs_shape, dynamics=ps.MixedDynamics(2, 4, 2, mixture=mixture), **options)


def small_image_parts() -> dict[str, Any]:
    """Encoder and emission of 8 x 8 pixels."""
    return {
        "encoder": ps.FrameEncoder(ps.ConvTrunk(1, IMAGE, (4, 4)), 2),
        "emission": ps.BernoulliEmission(ps.SubPixelDecoder(2, IMAGE, 4, depth=2)),
    }


def srvp(architecture: Any, **options: Any) -> ps.SRVP:
    """A small SRVP."""
    sizes = {
        "noise_dim": 2,
        "content_dim": 6,
        "num_frames": 3,
        "hidden_dim": 24,
        "emission": ps.PixelEmission(scale=0.3),
    }
    return ps.SRVP(IMAGE, 3, architecture=architecture, **(sizes | options))


def ode_lebm(obs_shape: tuple[int, ...], encoder: Any, has_energy: bool, **options: Any) -> ps.ODELEBM:
    """A small ODE-LEBM with all parts of the state."""
    chains = ps.PersistentChains(9, 4) if has_energy else None
    energy = ps.EnergyTilt(ps.EnergyMLP(4, (4,)), num_steps=2, chains=chains) if has_energy else None
    return ps.ODELEBM(
        obs_shape,
        2,
        static_dim=1,
        dynamic_dim=1,
        vector_field=field(3, 2, is_bayesian=False),
        initial_prior=energy,
        encoder=encoder(obs_shape, 4),
        **options,
    )


CASES = (
    Case("ODE2VAE, vectors", lambda: ps.ODE2VAE(VECTOR, 2, vector_field=field(4, 2, True)), VECTOR),
    Case(
        "ODE2VAE, images, one field for all, path terms",
        lambda: ps.ODE2VAE(IMAGE, 2, vector_field=field(4, 2, False), has_path_kl=True, has_instant_encoder=True),
        IMAGE,
    ),
    Case(
        "ODE2VAE, vectors, adaptive solver",
        lambda: ps.ODE2VAE(VECTOR, flow=ps.Flow(2, solver=ps.Dopri5()), vector_field=field(4, 2, True)),
        VECTOR,
        is_coupled=True,
    ),
    Case("Kalman VAE, vectors, LSTM", lambda: kalman_vae(VECTOR, ps.LSTMMixture(2, 2)), VECTOR),
    Case(
        "Kalman VAE, images, window, states as a site",
        lambda: kalman_vae(IMAGE, ps.WindowMixture(2, 2), has_states=True),
        IMAGE,
    ),
    Case("SRVP, DCGAN", lambda: srvp(ps.DCGAN((4, 6), code_dim=5)), IMAGE),
    Case(
        "SRVP, VGG with skips, GRU",
        lambda: srvp(ps.VGG(((4, 4), (6,)), code_dim=5), transition=ps.GRUTransition(3, 2)),
        IMAGE,
    ),
    Case("ODE-LEBM, vectors, RNN, energy", lambda: ode_lebm(VECTOR, ps.RNNEncoder, True), VECTOR),
    Case(
        "ODE-LEBM, images, ODE-RNN, dense solver",
        lambda: ode_lebm(
            IMAGE, ps.ODERNNEncoder, False, flow=ps.Flow(2, order=1, solver=ps.RK4(0.3, is_dense=True)), time_step=0.5
        ),
        IMAGE,
    ),
    Case("Recurrent VAE, vectors", lambda: ps.RecurrentVAE(VECTOR, 2, hidden_dim=6), VECTOR),
    Case("Recurrent VAE, images", lambda: ps.RecurrentVAE(IMAGE, 2, hidden_dim=6, **small_image_parts()), IMAGE),
)


# ---------------------------------------------------------------------- the examples' sizes


@dataclass(frozen=True)
class Workload:
    """A model, data and a method at an example's sizes.

    Args:
        name: Of the model, and its sizes.
        make: Makes model, data and method, for a number of steps.
    """

    name: str
    make: Callable[[int], tuple[ps.SequenceModel, Any, Any]]


def ode2vae_digits(num_steps: int, *, num_train: int = 1400) -> tuple[ps.ODE2VAE, ps.Sequences, ps.SVI]:
    """The main example: rotating digits, 16 x 16 pixels, minibatches of 32."""
    train = rotating_digits(num_train).train
    flow = ps.Flow(16, solver=ps.RK4(step_size=0.8))
    model = ps.ODE2VAE(
        train.obs_shape,
        flow=flow,
        vector_field=ps.BayesianMLP(flow.state_dim, flow.dim, (64, 64)),
        emission=ps.GaussianEmission(ps.ConvDecoder(flow.dim, train.obs_shape)),
        time_step=0.4,
        has_path_kl=True,
    )
    method = ps.SVI(
        num_steps=num_steps,
        batch_size=32,
        learning_rate=2e-3,
        schedule=schedules.Cosine(num_steps, warmup=min(200, num_steps // 2)),
        clip_norm=5.0,
        average=0.995,
        scales={"initial": schedules.WarmUp(500), "x": 16 / 11, "path_kl": 0.3},
        views=[views.CyclicShift(), views.RandomSteps(8, keep=3)],
    )
    return model, train, method


@cache
def rotating_digits(num_train: int) -> datasets.Splits:
    """Data of the main example."""
    source = datasets.BundledDigits(size=16)
    return datasets.rotating_digits(source=source, digits=range(10), num_train=num_train, num_test=200)


def _box_parts() -> dict[str, Any]:
    shape = (1, 32, 32)
    return {
        "encoder": ps.FrameEncoder(ps.ConvTrunk(1, shape, (16, 16, 16)), 2, maximum_variance=0.03),
        "emission": ps.BernoulliEmission(ps.SubPixelDecoder(2, shape, 16, hidden_dim=64)),
    }


@cache
def _box(num_series: int = 512) -> ps.Sequences:
    """Binary pictures of the ball in a box's sizes; what they show does not change what a step costs."""
    generator = torch.Generator().manual_seed(0)
    return ps.Sequences((torch.rand(num_series, 20, 1, 32, 32, generator=generator) < 0.02).float())


def _kalman_vae(num_steps: int) -> tuple[ps.KalmanVAE, ps.Sequences, ps.SVI]:
    model = ps.KalmanVAE((1, 32, 32), dynamics=ps.MixedDynamics(2, 4, 3), **_box_parts())
    method = ps.SVI(num_steps=num_steps, batch_size=32, learning_rate=5e-3, scales={"x": 0.3}, clip_norm=150.0)
    return model, _box(), method


def _recurrent_vae(num_steps: int) -> tuple[ps.RecurrentVAE, ps.Sequences, ps.SVI]:
    model = ps.RecurrentVAE((1, 32, 32), 2, **_box_parts())
    return model, _box(), ps.SVI(num_steps=num_steps, batch_size=32, learning_rate=3e-3, clip_norm=150.0)


def _srvp_example(num_steps: int) -> tuple[ps.SRVP, Any, ps.SVI]:
    model = ps.SRVP(
        (1, 32, 32),
        16,
        content_dim=64,
        hidden_dim=128,
        emission=ps.PixelEmission(scale=0.15),
        architecture=ps.DCGAN(channels=(16, 32, 64), code_dim=64),
        transition=ps.ResidualTransition(16, 8, (128,) * 3, gain=1.0),
    )
    source = datasets.moving_digits(source=datasets.BundledDigits(14), num_digits=1, size=32).train
    method = ps.SVI(num_steps=num_steps, batch_size=16, learning_rate=2e-3, clip_norm=1e4, scales={"residual": 1.0})
    return model, source, method


def srvp_paper(num_steps: int, *, batch_size: int = 128) -> tuple[ps.SRVP, Any, ps.SVI]:
    """The paper's networks for stochastic moving digits, 64 x 64 pixels, 15 frames; clips that are in memory."""
    method = ps.SVI(
        num_steps=num_steps, batch_size=batch_size, learning_rate=3e-4, scales={"noise": 2.0, "residual": 1.0}
    )
    return ps.SRVP((1, 64, 64)), _clips(), method


@cache
def _clips() -> ps.Sequences:
    return datasets.moving_digits(source=datasets.BundledDigits(28)).train[:256]


def _ode_lebm(num_steps: int, is_bound: bool) -> tuple[ps.ODELEBM, ps.Sequences, Any]:
    train = datasets.irregular_sinusoids(num_train=800, num_test=1).train
    train = datasets.observe_share(train, 0.3, seed=2)
    shape, dim, batch = train.obs_shape, 10, 200
    energy = ps.EnergyTilt(
        ps.EnergyMLP(dim, (64, 64)),
        sampler=MALA(0.2),
        num_steps=20,
        chains=ps.PersistentChains(5 * batch, dim, refresh=0.02),
    )
    model = ps.ODELEBM(
        shape,
        dim,
        flow=ps.Flow(dim, order=1, solver=ps.RK4(step_size=1.0, is_dense=True)),
        vector_field=ps.BayesianMLP(dim, dim, (50, 50), is_bayesian=False),
        initial_prior=energy,
        encoder=ps.RNNEncoder(shape, dim),
        emission=ps.GaussianEmission(ps.MLPDecoder(dim, shape, ()), initial_scale=0.1),
    )
    shared = {"num_steps": num_steps, "batch_size": batch, "learning_rate": 3e-4}
    if is_bound:
        return model, train, ps.SVI(**shared, clip_norm=1.0)
    kernel = ps.Langevin(MALA(0.01), start="guide")
    method = ps.MaximumLikelihood(**shared, clip_norm=50.0, kernel=kernel, chain_steps=3, guide_loss="draws")
    return model, train, method


WORKLOADS = (
    Workload("ODE2VAE, rotating digits, 32 x 11 frames of 16 x 16", ode2vae_digits),
    Workload("Kalman VAE, box, 32 x 20 frames of 32 x 32", _kalman_vae),
    Workload("Recurrent VAE, box, 32 x 20 frames of 32 x 32", _recurrent_vae),
    Workload("SRVP, example, 16 x 15 frames of 32 x 32", _srvp_example),
    Workload("ODE-LEBM, sinusoids by the bound, 200 x 100 points", lambda n: _ode_lebm(n, True)),
    Workload("ODE-LEBM, sinusoids by chains, 200 x 100 points", lambda n: _ode_lebm(n, False)),
    Workload("SRVP, the paper's, 16 x 15 frames of 64 x 64", lambda n: srvp_paper(n, batch_size=16)),
    Workload("SRVP, the paper's, 128 x 15 frames of 64 x 64", srvp_paper),
)
