"""Data sets of the study of ODE-LEBM: what training and inference see of the series, what is asked, which model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

import pyro_seq as ps
from pyro_seq import datasets
from pyro_seq.nn.thinned_encoder import ThinnedEncoder
from pyro_seq.ops.langevin import MALA

SHARES = (0.08, 0.1, 0.15, 0.2, 0.3, 0.5)  # of the points that an encoder learns to do with


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train; chosen by short trials on validation series.

    Training begins by the evidence lower bound with a fixed, small scale of the noise, on series that grow: a scale
    that learns from the start runs up, and the model stays with the mean. Then comes what was asked for, chains or the
    bound; the energy starts there too. An encoder that is to do with fewer points than training has learns that last,
    from draws of itself given all points: hiding points from the start would spoil the model.

    Args:
        num_steps: Optimisation steps, the same for all four ways to train.
        beginning: Share of them that belongs to the beginning.
        batch_size: Series a step in the beginning.
        learning_rate: Of Adam in the beginning, falling along a cosine.
        later_rate: The same afterwards; a higher one moves the model faster than persistent chains can follow.
        later_batch: Series a step afterwards; more of them let a chain's turn come sooner.
        scale: Of the noise at first, in standard deviations of the data.
        first_length: Steps of a series that the beginning starts with; all when absent.
        restart: Weight of the term for states on the way that are initial states of the rest; none at 0. Forecasts
            several times as long as training need it.
        energy_rate: Of Adam for the energy.
        chain_steps: Langevin steps of a visit.
        distilling: Steps for an encoder that is to do with fewer points, as a share of `num_steps`; what it misses no
            chain makes good where few points allow many paths.
    """

    num_steps: int = 3000
    beginning: float = 2 / 3
    batch_size: int = 50
    learning_rate: float = 5e-3
    later_rate: float = 3e-4
    later_batch: int = 200
    scale: float = 0.1
    first_length: int | None = None
    restart: float = 0.0
    energy_rate: float = 1e-3
    chain_steps: int = 3
    distilling: float = 2.0


@dataclass(frozen=True)
class Task:
    """Series, and what is asked of them.

    Args:
        train: Training series as training sees them.
        complete: The same with every point, for the trivial predictors.
        given: Test series as inference sees them; times after the seen steps are to be predicted.
        test: The same with every step.
        asked: What each score counts, (series, time) or single entries, by its name.
        truth: What predictions are compared with, where it is not `test`, (series, time, *obs).
        target: Which part of the latents is to tell what of the context: (latent site, entry of the context).
        has_grid: Whether all series have one grid of times, so that step k can be compared with step k.
    """

    train: ps.Sequences
    complete: ps.Sequences
    given: ps.Sequences
    test: ps.Sequences
    asked: dict[str, Tensor]
    truth: Tensor
    target: tuple[str, str] | None = None
    has_grid: bool = True


@dataclass(frozen=True)
class Setup:
    """A data set, its model and its recipe.

    Args:
        load: Makes the task.
        dims: Sizes of the state, the static and the dynamic part.
        field_dims: Hidden layers of the vector field.
        decoder_dims: Hidden layers of the decoder of vectors.
        time_step: Model time of a typical interval.
        solver_step: Even steps of the solver in model time; one step an interval when absent.
        recipe: How to train.
        num_chains: Chains of a test series.
    """

    load: Callable[[argparse.Namespace], Task]
    dims: tuple[int, int, int]
    field_dims: tuple[int, ...] = (50, 50)
    decoder_dims: tuple[int, ...] = (50,)
    time_step: float = 0.1
    solver_step: float | None = None
    recipe: Recipe = field(default_factory=Recipe)
    num_chains: int = 8


# ---------------------------------------------------------------------- data


def sizes(options: argparse.Namespace, *wanted: int) -> tuple[int, ...]:
    """Numbers of series; a few in a smoke run."""
    return tuple(min(size, few) for size, few in zip(wanted, (40, 11), strict=True)) if options.smoke else wanted


def steps_mask(data: ps.Sequences, first: int, last: int) -> Tensor:
    """The steps from `first` to before `last`, (series, time), of those there are."""
    step = torch.arange(data.num_steps)
    return ((step >= first) & (step < last)).expand(data.num_series, -1)


def continued(test: ps.Sequences, num_seen: int) -> ps.Sequences:
    """The first steps, with the times of the others as what to predict."""
    return test.first(num_seen).extend(times=test.times[..., num_seen:])


def sinusoids(options: argparse.Namespace) -> Task:
    """All of 100 irregular points given some."""
    num_train, num_test = sizes(options, 800, 200)
    complete, _, test = datasets.irregular_sinusoids(num_train=num_train, num_test=num_test)
    given = datasets.observe_share(test, options.share, seed=1)
    train = complete if options.learn == "all" else datasets.observe_share(complete, options.share, seed=2)
    asked = {"all points": test.mask, "hidden points": test.mask & ~given.mask}
    return Task(train, complete, given, test, asked, test.values, ("initial", "frequency"))


def spiral(options: argparse.Namespace) -> Task:
    """The next 400 points of a noisy spiral given 100, scored without the noise."""
    num_train, num_test = sizes(options, 1000, 200)
    train, _, test = datasets.spirals(num_train=num_train, num_validation=0, num_test=num_test)
    asked = {"points 1-100": steps_mask(test, 0, 100), "points 101-500": steps_mask(test, 100, 500)}
    asked["all 500"] = steps_mask(test, 0, 500)
    return Task(train, train, continued(test, 100), test, asked, test.context["truth"])


def digits(options: argparse.Namespace) -> Task:
    """A digit that turns: 15 frames are a full turn, 30 more repeat it."""
    num_train, num_test = sizes(options, 1000, 100)
    source = datasets.MNIST() if options.source == "mnist" else datasets.BundledDigits(16)
    train, _, test = datasets.rotating_digits(
        source=source,
        digits=range(10),
        num_train=num_train,
        num_test=num_test,
        num_steps=16,
        num_test_steps=45,
        degrees_per_step=24.0,
        num_start_angles=15,
    )
    asked = {"T = 15": steps_mask(test, 0, 15), "T = 45": steps_mask(test, 15, 45)}
    return Task(train, train, continued(test, 15), test, asked, test.values, ("static", "label"))


def balls(options: argparse.Namespace) -> Task:
    """A ball that slows down by a friction of its own: 20 frames given, 40 asked for."""
    num_train, num_test = sizes(options, 1000, 100)
    train, _, test = datasets.ball_with_friction(num_train=num_train, num_validation=0, num_test=num_test)
    asked = {"T = 20": steps_mask(test, 0, 20), "T = 40": steps_mask(test, 0, 40)}
    return Task(train, train, continued(test, 20), test, asked, test.values, ("dynamic", "friction"))


def mujoco(options: argparse.Namespace) -> Task:
    """A body that falls: 50 frames given, 100 asked for."""
    num_train, num_test = sizes(options, 8000, 2000)
    walker = getattr(datasets.Walker, options.walker)()
    train, _, test = datasets.mujoco_walkers(walker, num_train=num_train, num_test=num_test, cache=not options.smoke)
    asked = {"T = 50": steps_mask(test, 0, 50), "T = 100": steps_mask(test, 0, 100)}
    return Task(train, train, continued(test, 50), test, asked, test.values)


def physionet(options: argparse.Namespace) -> Task:
    """Intensive care: the measurements of the second day given those of the first."""
    num_series = 200 if options.smoke else None
    train, _, test = datasets.physionet_2012(minutes_per_step=60, num_series=num_series)
    is_late = (test.times > 24.0).expand(test.num_series, -1)
    asked = {"hours 0-24": test.mask & ~is_late[..., None], "hours 24-48": test.mask & is_late[..., None]}
    return Task(train, train, test.hide(is_late), test, asked, test.values, has_grid=False)


IMAGES = Recipe(scale=0.5, later_batch=50, first_length=4)
IRREGULAR = Recipe(first_length=25)
SETUPS = {
    "sinusoids": Setup(sinusoids, (10, 0, 0), decoder_dims=(), solver_step=1.0, recipe=IRREGULAR, num_chains=32),
    "spiral": Setup(spiral, (4, 0, 0), (30, 30), (30,), solver_step=0.4, recipe=replace(IRREGULAR, restart=1.0)),
    "digits": Setup(digits, (16, 16, 0), (100, 100), recipe=IMAGES, num_chains=4),
    "balls": Setup(balls, (8, 0, 4), (100, 100), recipe=IMAGES, num_chains=4),
    "mujoco": Setup(
        mujoco, (15, 0, 0), (100, 100), time_step=0.05, solver_step=0.2, recipe=Recipe(first_length=10), num_chains=2
    ),
    "physionet": Setup(physionet, (20, 0, 0), (50, 50), solver_step=0.4, recipe=Recipe(later_batch=100)),
}


# ---------------------------------------------------------------------- model


def build(setup: Setup, task: Task, options: argparse.Namespace) -> ps.ODELEBM:
    """The model that the two flags ask for; without an encoder where chains start cold."""
    state, static, dynamic = setup.dims
    is_cold = options.start == "cold" and options.inference == "langevin"
    obs_shape, dim = task.train.obs_shape, sum(setup.dims)
    is_image = len(obs_shape) == 3
    solver = ps.RK4() if setup.solver_step is None else ps.RK4(step_size=setup.solver_step, is_dense=True)
    decoder = (
        ps.SubPixelDecoder(state + static, obs_shape, channels=16)
        if is_image
        else ps.MLPDecoder(state + static, obs_shape, setup.decoder_dims)
    )
    return ps.ODELEBM(
        obs_shape,
        state,
        static_dim=static,
        dynamic_dim=dynamic,
        flow=ps.Flow(state, order=1, solver=solver),
        vector_field=ps.BayesianMLP(state + dynamic, state, setup.field_dims, is_bayesian=False),
        initial_prior=tilt(dim, setup.recipe) if options.prior == "energy" else None,
        encoder=None if is_cold else encoder(dim, task, options),
        emission=ps.GaussianEmission(decoder, initial_scale=setup.recipe.scale, units=ps.Standardise(())),
        time_step=setup.time_step,
        has_restart_term=setup.recipe.restart > 0 and not is_cold,
    )


def tilt(dim: int, recipe: Recipe) -> ps.EnergyTilt:
    """The energy and its prior chains, which go on from step to step."""
    return ps.EnergyTilt(
        ps.EnergyMLP(dim, (64, 64)),
        sampler=MALA(0.2),
        num_steps=20,
        chains=ps.PersistentChains(5 * recipe.later_batch, dim, refresh=0.02),
    )


def encoder(dim: int, task: Task, options: argparse.Namespace) -> torch.nn.Module:
    """A recurrent network, with an equation of its own between observations if so wished."""
    obs_shape: Sequence[int] = task.train.obs_shape
    kind = ps.ODERNNEncoder if options.encoder == "ode_rnn" else ps.RNNEncoder
    reader = kind(tuple(obs_shape), dim)
    return ThinnedEncoder(reader, shares=(1.0,)) if is_thinned(options) else reader


def is_thinned(options: argparse.Namespace) -> bool:
    """Whether the encoder is to learn to do with fewer points than training has."""
    return options.data == "sinusoids" and options.learn == "all"


def energy_of(model: ps.ODELEBM) -> ps.EnergyTilt | None:
    """The energy of a model's prior; None where it is Gaussian."""
    return model.initial_prior if isinstance(model.initial_prior, ps.EnergyTilt) else None
