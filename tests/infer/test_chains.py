"""How chains read a model: which sites are latent, which are shared, and what has none."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_seq.errors import NumericalError, UnsupportedError
from pyro_seq.infer.chains import global_names, latent_sites
from pyro_seq.model import SequenceModel


def test_latent_sites_are_neither_observed_nor_deterministic(toy) -> None:
    with pyro.settings.context(module_local_params=True):
        sites = latent_sites(toy.make_lines(), toy.make_data(3))
    assert list(sites) == ["drift", "line"]
    assert sites["line"]["value"].shape == (3, 2)
    assert global_names(sites) == {"drift"}


def test_models_without_continuous_latents_are_refused(toy) -> None:
    class Coin(toy.Lines):
        def model(self, data):
            pyro.sample("coin", dist.Bernoulli(0.5))

    class Empty(SequenceModel):
        def model(self, data):
            self.observe(lambda state: dist.Normal(state, 1.0), torch.zeros(data.values.shape), data)

    with pytest.raises(UnsupportedError, match="continuous latents. Got the discrete site 'coin'"):
        latent_sites(Coin(), toy.make_data(3))
    with pytest.raises(UnsupportedError, match="Empty has no latent sites"):
        latent_sites(Empty(), toy.make_data(3))


def test_a_draw_of_the_prior_that_breaks_the_model_down_is_followed_by_another(toy) -> None:
    class Fragile(toy.Lines):
        most, count = 3, 0

        def model(self, data):
            Fragile.count += 1
            if Fragile.count <= self.most:
                raise NumericalError("The solver gave up. Take a smaller step.")
            super().model(data)

    with pyro.settings.context(module_local_params=True):
        assert list(latent_sites(Fragile(), toy.make_data(3))) == ["drift", "line"]
        assert Fragile.count == 4
        Fragile.most = 1_000
        with pytest.raises(NumericalError, match=r"Fragile broke down at each of 20 draws of its prior.*prior_scale"):
            latent_sites(Fragile(), toy.make_data(3))
