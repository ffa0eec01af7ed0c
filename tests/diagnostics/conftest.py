"""Small untrained posteriors that the diagnostics are tried on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.posterior import GuidePosterior, StoredPosterior
from tests.toy import make_data as make_line_data
from tests.toy import make_lines


@pytest.fixture
def make_posterior() -> Callable[..., GuidePosterior]:
    """An ODE2VAE with the same random weights on every call."""

    def make(obs_shape: tuple[int, ...] = (3,), state_dim: int = 2, **options) -> GuidePosterior:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            options.setdefault("vector_field", BayesianMLP(2 * state_dim, state_dim, (6, 5), initial_scale=0.2))
            return GuidePosterior(ODE2VAE(obs_shape, state_dim, **options))

    return make


@pytest.fixture
def make_data() -> Callable[..., Sequences]:
    """Numbers in (0, 1), of which about a fifth are hidden when asked for."""

    def make(num_series: int = 5, num_steps: int = 6, obs_shape: tuple[int, ...] = (3,), is_gappy: bool = False):
        generator = torch.Generator().manual_seed(1)
        data = Sequences(torch.rand(num_series, num_steps, *obs_shape, generator=generator))
        return data.hide(torch.rand(data.values.shape, generator=generator) < 0.2) if is_gappy else data

    return make


@pytest.fixture
def make_stored() -> Callable[..., StoredPosterior]:
    """Two chains of lines, with statistics of the sampler."""

    def make(length: int = 50) -> StoredPosterior:
        stats = {"diverging": torch.zeros(2, length, dtype=torch.bool), "lp": torch.randn(2, length)}
        sites = {"line": torch.randn(2, length, 4, 2), "drift": torch.randn(2, length, 1)}
        return StoredPosterior(make_lines(), make_line_data(4, 9), sites, frozenset({"drift"}), stats)

    return make
