r"""Geweke's test of the Langevin steps: latents and data simulated in turn keep their joint distribution.

The latent is moved by one step given the data, the data are drawn anew given the latent, and so on. When the step
leaves the posterior as it is, pairs that begin with the joint distribution keep it; moments of many independent pairs
then differ from the truth by Monte Carlo error alone. ULA does not: on a Gaussian its bias is known in closed form, by
the recursion of the latent's variance, which is what it must meet.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pyro_seq.ops.langevin import MALA, ULA, Sampler, initial_state, step

PAIRS, SWEEPS, NOISE = 40_000, 40, 0.6  # data x = z + NOISE * e with z and e standard normal
PRECISION = 1 + 1 / NOISE**2  # of the posterior
SMALL, LARGE = 0.2, 0.7  # step sizes
CHANCE = 1e-4  # that a right step fails, by the union bound over five moments
BOUND = math.sqrt(2) * torch.erfinv(torch.tensor(1 - CHANCE / 5, dtype=torch.float64)).item()  # standard errors


def simulated(sampler: Sampler, size: float, *, loudness: float = 1.0) -> tuple[Tensor, Tensor]:
    """Pairs after all sweeps; the noise of a step is multiplied by `loudness`, which is 1 when all is right."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    latent = normal(PAIRS, 1)
    for _ in range(SWEEPS):
        data = latent + NOISE * normal(PAIRS, 1)

        def potential(value: Tensor, data: Tensor = data) -> Tensor:
            return 0.5 * (value.square() + ((data - value) / NOISE).square()).sum(-1)

        uniform = torch.rand(PAIRS, dtype=torch.float64, generator=generator)
        state = initial_state(potential, latent, size)
        latent = step(potential, state, sampler, loudness * normal(PAIRS, 1), uniform).value
    return latent[:, 0], (latent + NOISE * normal(PAIRS, 1))[:, 0]


def scores(pair: tuple[Tensor, Tensor], variance: float) -> Tensor:
    """Moments of pairs less those of a latent of this variance, in standard errors of independent pairs."""
    latent, data = pair
    moments = torch.stack([latent, data, latent.square(), data.square(), latent * data])
    truth = torch.tensor([0.0, 0.0, variance, variance + NOISE**2, variance], dtype=torch.float64)
    return (moments.mean(1) - truth) / moments.std(1) * math.sqrt(PAIRS)


def known_variance(size: float) -> float:
    r"""Of the latent after all sweeps of ULA: z' = (1 - h p) z + h x / n^2 + s e with h = s^2 / 2 and x = z + n e'."""
    half, variance = size**2 / 2, 1.0
    for _ in range(SWEEPS):
        variance = (1 - half * PRECISION + half / NOISE**2) ** 2 * variance + half**2 / NOISE**2 + size**2
    return variance


def test_mala_keeps_the_joint_distribution() -> None:
    assert scores(simulated(MALA(LARGE), LARGE), 1.0).abs().max() < BOUND


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_ula_keeps_it_up_to_its_known_bias(size: float) -> None:
    assert scores(simulated(ULA(size), size), known_variance(size)).abs().max() < BOUND


def test_ula_of_small_steps_comes_near_and_of_large_ones_does_not() -> None:
    assert known_variance(SMALL) == pytest.approx(1.0, abs=SMALL**2 * PRECISION / 4)
    assert scores(simulated(ULA(LARGE), LARGE), 1.0).abs().max() > 2 * BOUND


@pytest.mark.parametrize("sampler", [ULA(SMALL), MALA(LARGE)])
def test_noise_of_half_the_variance_is_found(sampler: Sampler) -> None:
    pair = simulated(sampler, sampler.step_size, loudness=math.sqrt(0.5))
    assert scores(pair, known_variance(SMALL) if isinstance(sampler, ULA) else 1.0).abs().max() > 2 * BOUND
