"""Simulation-based calibration of NUTS and of exact guides: uniform ranks; of narrowed draws not.

Latents and data come from the model itself, one independent replicate a series, and each true latent is ranked among
draws given its data. A right posterior fails with the probability `CHANCE` at most, whatever the seed was.
"""

from __future__ import annotations

from collections.abc import Callable

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.diagnostics import guide_ranks, rank_statistics, rank_uniformity
from tests.factors import Factors

pytestmark = pytest.mark.slow

CHANCE, NUM_SERIES, NUM_STEPS = 1e-3, 2000, 6
NARROW = 0.7
NOISE = 0.5  # of what is emitted linearly from an initial state
CLEAR = 0.02  # of codes: so much less than their prior's that a frame alone tells the code


class Seen(ps.Emission):
    """The first entries of a position, with noise of a known scale."""

    def __init__(self, num_entries: int, scale: float) -> None:
        super().__init__(nn.Identity())
        self.num_entries, self.scale = num_entries, scale

    def given(self, decoded: Tensor) -> dist.TorchDistribution:
        """Normal around them."""
        return dist.Normal(decoded[..., : self.num_entries], self.scale)


class ReadCode(nn.Module):
    """The code of a frame that shows it: that of a flat prior."""

    def __init__(self, dim: int, narrowing: float) -> None:
        super().__init__()
        self.dim, self.narrowing = dim, narrowing

    def forward(self, frames: Tensor, mask: Tensor) -> dist.Normal:
        """Around what is seen."""
        return dist.Normal(frames, torch.full_like(frames, self.narrowing * CLEAR))


class ConditionedLine(nn.Module):
    """The exact posterior of a standard normal initial state whose emitted means are ``basis(times) @ state``."""

    def __init__(self, basis: Callable[[Tensor], Tensor], narrowing: float) -> None:
        super().__init__()
        self.basis, self.narrowing, self.dim = basis, narrowing, 2

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        """A Gaussian of two dimensions."""
        design = torch.where(mask, self.basis(times.to(frames.dtype)), 0.0)
        precision = torch.eye(2) + design.mT @ design / NOISE**2
        cov = torch.linalg.inv(precision)
        loc = (cov @ design.mT @ torch.where(mask, frames, 0.0) / NOISE**2)[..., 0]
        return dist.MultivariateNormal(loc, self.narrowing**2 * cov)


def decaying(times: Tensor) -> Tensor:
    """Of the states z' = -z, of which the sum is seen."""
    return (-times).exp()[..., None].expand(*times.shape, 2) * torch.tensor([1.0, 1.0])


def gliding(times: Tensor) -> Tensor:
    """Position and velocity of a free body."""
    return torch.stack([torch.ones_like(times), times], -1)


class Sum(nn.Module):
    """One number from two."""

    def forward(self, states: Tensor) -> Tensor:
        """Their sum, with an axis of its own."""
        return states.sum(-1, keepdim=True)


def latent_ode(narrowing: float) -> ps.SequenceModel:
    emission = Seen(1, NOISE)
    emission.decoder = Sum()
    field = ps.DeterministicField(lambda state: -state)
    encoder = ConditionedLine(decaying, narrowing)
    return ps.ODELEBM((1,), 2, vector_field=field, encoder=encoder, emission=emission, time_step=1.0)


def ode2vae(narrowing: float) -> ps.SequenceModel:
    field = ps.DeterministicField(lambda state: 0.0 * state[..., :1])
    return ps.ODE2VAE(
        (1,), 1, vector_field=field, encoder=ConditionedLine(gliding, narrowing), emission=Seen(1, NOISE), time_step=1.0
    )


def kalman_vae(narrowing: float) -> ps.SequenceModel:
    dynamics = ps.MixedDynamics(2, 3, num_modes=1)
    return ps.KalmanVAE(
        (2,), dynamics=dynamics, encoder=ReadCode(2, narrowing), emission=Seen(2, CLEAR), has_states=True
    )


def recurrent_vae(narrowing: float) -> ps.SequenceModel:
    return ps.RecurrentVAE((2,), 2, hidden_dim=4, encoder=ReadCode(2, narrowing), emission=Seen(2, CLEAR))


class CodesAsTheyAre:
    """An architecture of frames of one pixel, whose channels are their codes."""

    def encoder(self, obs_shape: tuple[int, ...]) -> nn.Module:
        """Flat frames."""
        return FlatFrames(obs_shape[0])

    def decoder(self, dim: int, obs_shape: tuple[int, ...]) -> nn.Module:
        """The state as a frame."""
        return nn.Unflatten(-1, obs_shape)


class FlatFrames(nn.Module):
    """Codes, and no maps."""

    def __init__(self, code_dim: int) -> None:
        super().__init__()
        self.code_dim = code_dim

    def forward(self, frames: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All entries."""
        return frames.flatten(1), ()


class Walk(nn.Module):
    """A state that moves by its noise."""

    is_residual = True

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.state_dim = self.noise_dim = dim

    def forward(self, state: Tensor, noise: Tensor, dt: float) -> Tensor:
        """The sum."""
        return state + dt * noise


class ReadMoves(nn.Module):
    """First state and noise of frames that show their states: differences of frames, each with the error of two."""

    def __init__(self, dim: int, narrowing: float) -> None:
        super().__init__()
        self.code_dim = self.state_dim = self.noise_dim = dim
        self.num_frames, self.narrowing = 1, narrowing

    def initial(self, codes: Tensor, seen: Tensor) -> dist.TorchDistribution:
        """Around the first frame."""
        return dist.Normal(codes[:, 0], self.narrowing * CLEAR).to_event(1)

    def noise(self, codes: Tensor, seen: Tensor) -> dist.Normal:
        """Around the moves; that before the first frame leads nowhere and is not read."""
        moves = codes.diff(dim=1, prepend=codes[:, :1])
        return dist.Normal(moves, torch.full_like(moves, self.narrowing * CLEAR * 2**0.5))


def srvp(narrowing: float) -> ps.SRVP:
    emission = Seen(1, CLEAR)
    emission.decoder = None  # that of the architecture
    return ps.SRVP(
        (2, 1, 1),
        architecture=CodesAsTheyAre(),
        content_dim=0,
        hidden_dim=8,
        transition=Walk(2),
        encoder=ReadMoves(2, narrowing),
        emission=emission,
    )


def seeded(build: Callable[[float], ps.SequenceModel], narrowing: float) -> ps.GuidePosterior:
    torch.manual_seed(0)
    return ps.GuidePosterior(build(narrowing))


def p_values(ranks: Tensor, num_samples: int) -> list[float]:
    """For each entry of an event, over series."""
    return [rank_uniformity(column, num_samples).p_value for column in ranks.flatten(1).unbind(1)]


def narrowed(draws: Tensor) -> Tensor:
    """Draws, the first axis, drawn together around their mean."""
    return draws.mean(0) + NARROW * (draws - draws.mean(0))


GUIDES = [(latent_ode, "initial"), (ode2vae, "initial"), (kalman_vae, "codes"), (recurrent_vae, "codes")]


@pytest.mark.parametrize(("build", "site"), GUIDES, ids=lambda value: getattr(value, "__name__", value))
def test_an_exact_guide_is_calibrated_and_a_narrow_one_is_not(build, site: str) -> None:
    grid = ps.Sequences(torch.zeros(NUM_SERIES, NUM_STEPS, build(1.0).obs_shape[0]))
    found = p_values(guide_ranks(seeded(build, 1.0), grid, site, seed=1), 99)
    assert min(found) > CHANCE / len(found)  # entries are dependent: a bound for any dependence
    narrow = p_values(guide_ranks(seeded(build, NARROW), grid, site, seed=1), 99)
    assert max(narrow) < 1e-6


SEEN_FRAMES = NUM_STEPS - 2


@pytest.mark.parametrize("site", ["initial", "noise"])
def test_moves_of_srvp_are_calibrated_up_to_the_last_frame_and_beyond(site: str) -> None:
    """One by one: its guide reads each from frames up to it, so that what errors of frames have in common is left out.

    Nothing is said of gaps within a film, where the guide has the noise follow the prior: such draws have uniform
    ranks whatever the later frames tell.
    """
    mask = (torch.arange(NUM_STEPS) < SEEN_FRAMES).expand(NUM_SERIES, -1)
    grid = ps.Sequences(torch.zeros(NUM_SERIES, NUM_STEPS, 2, 1, 1), mask=mask)
    found = p_values(guide_ranks(seeded(srvp, 1.0), grid, site, seed=6), 99)
    assert min(found) > CHANCE / len(found)
    ranks = guide_ranks(seeded(srvp, NARROW), grid, site, seed=6)
    assert max(p_values(ranks if site == "initial" else ranks[:, 1:SEEN_FRAMES], 99)) < 1e-6


class NarrowStates(ps.GuidePosterior):
    """Draws of states drawn together around their means."""

    def draws(self, data: ps.Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        """As the guide's but for the states."""
        found = super().draws(data, num_samples, seed=seed)
        return found | {"states": narrowed(found["states"])}


class NarrowFactors(ps.GuidePosterior):
    """Draws of factors drawn together around their means."""

    def draws(self, data: ps.Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        """As the guide's but for the factors."""
        return {"factors": narrowed(super().draws(data, num_samples, seed=seed)["factors"])}


def test_factors_are_calibrated_with_entries_hidden() -> None:
    """By a guide that is exact as it comes."""
    mask = torch.rand(NUM_SERIES, NUM_STEPS, 3, generator=torch.Generator().manual_seed(4)) < 0.6
    grid = ps.Sequences(torch.zeros(NUM_SERIES, NUM_STEPS, 3), mask=mask)
    right = seeded(lambda _: ps.DynamicFactors((3,), 2), 1.0)
    found = p_values(guide_ranks(right, grid, "factors", seed=5), 99)
    assert len(found) == 2 * NUM_STEPS and min(found) > CHANCE / len(found)
    narrow = p_values(guide_ranks(NarrowFactors(right.model), grid, "factors", seed=5), 99)
    assert max(narrow) < 1e-6


def test_states_of_the_smoother_are_calibrated() -> None:
    """Drawn jointly given the codes, in closed form."""
    grid = ps.Sequences(torch.zeros(NUM_SERIES, NUM_STEPS, 2))
    right = seeded(kalman_vae, 1.0)
    found = p_values(guide_ranks(right, grid, "states", seed=2), 99)
    assert len(found) == 3 * NUM_STEPS and min(found) > CHANCE / len(found)
    narrow = p_values(guide_ranks(NarrowStates(right.model), grid, "states", seed=2), 99)
    assert max(narrow) < 1e-6


@pytest.fixture(scope="module")
def nuts() -> tuple[Tensor, Tensor]:
    """Draws (draw, series, state), thinned, and the truth (series, state)."""
    model = Factors()
    simulated = ps.sample(ps.GuidePosterior(model), ps.Sequences(torch.zeros(400, 2, 4)), num_samples=1, seed=3)
    method = ps.MCMC(ps.NUTS(), num_samples=19 * 4, warmup_steps=100)
    posterior = ps.fit(model, ps.Sequences(simulated.samples[0]), method, trainer=ps.Trainer(progress=False))
    return posterior.sites["factor"][0, 3::4], simulated.latents["factor"][0]


def test_nuts_is_calibrated(nuts: tuple[Tensor, Tensor]) -> None:
    found = p_values(rank_statistics(*nuts), 19)
    assert min(found) > CHANCE / len(found)


def test_narrowed_draws_of_nuts_are_not(nuts: tuple[Tensor, Tensor]) -> None:
    draws, truth = nuts
    assert max(p_values(rank_statistics(narrowed(draws), truth), 19)) < 1e-6
