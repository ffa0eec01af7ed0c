"""`ChainPosterior`: exact posteriors for series that were never fitted, through the same verbs."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.langevin import Langevin
from pyro_seq.model import SequenceModel
from pyro_seq.ops.langevin import MALA
from pyro_seq.predict.verbs import forecast, impute, reconstruct

F64 = torch.float64
NOISE = 0.6


class Levels(SequenceModel):
    """A constant level seen through noise."""

    dims: ClassVar = {"level": ("state",)}

    def model(self, data: Sequences) -> None:
        with self.series(data):
            level = pyro.sample("level", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            steps = data.times.shape[-1]
            path = pyro.deterministic("path", level[..., None, :].expand(*level.shape[:-1], steps, 1), event_dim=2)
            self.observe(lambda state: dist.Normal(state, NOISE), path, data)


@pytest.fixture
def data() -> Sequences:
    source = torch.Generator().manual_seed(0)
    mask = torch.rand(3, 6, generator=source) < 0.6
    return Sequences(torch.randn(3, 6, 1, dtype=F64, generator=source), mask=mask)


def test_exact_posterior_of_unfitted_series(data: Sequences) -> None:
    posterior = ChainPosterior(Levels(), Langevin(MALA(0.5)), num_steps=60, num_chains=800, spacing=1)
    draws = posterior.draws(data, 800, seed=1)["level"][..., 0]  # one of each chain: independent
    precision = 1 + data.mask.sum(1) / NOISE**2
    mean = data.values[..., 0].sum(1) / NOISE**2 / precision
    assert draws.shape == (800, 3)
    assert ((draws.mean(0) - mean).abs() < 4.5 / (800 * precision).sqrt()).all()
    assert ((draws.var(0) * precision - 1).abs() < 4.5 * (2 / 800) ** 0.5).all()


def test_verbs(data: Sequences, assert_rng_untouched) -> None:
    posterior = ChainPosterior(Levels(), num_steps=50)
    with assert_rng_untouched():
        ahead = forecast(posterior, data, horizon=2, num_samples=10)
    seen = reconstruct(posterior, data, num_samples=10)
    assert ahead.samples.shape == (10, 3, 2, 1)
    assert torch.equal(ahead.latents["level"], seen.latents["level"])
    assert torch.equal(
        impute(posterior, data, num_samples=10).samples[:, data.mask], data.values[data.mask].expand(10, -1, -1)
    )
    assert not torch.equal(reconstruct(posterior, data, num_samples=10, seed=1).samples, seen.samples)
    assert forecast(posterior, data[:2], horizon=1, num_samples=3).samples.shape == (3, 2, 1, 1)


def test_global_latents_need_a_guide(toy) -> None:
    class Unguided(toy.Lines):
        has_guide = False

        def guide(self, data: Sequences) -> None:
            raise AssertionError("there is none")

    with pytest.raises(UnsupportedError, match="NUTS"):
        ChainPosterior(Unguided()).draws(toy.make_data(2), 2)
