"""A lent guide: the sites of the model, inside their supports, with the noise that it promises."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch.distributions import biject_to

from pyro_seq.model import SequenceModel, is_local
from pyro_seq.testing import assert_close_mc
from pyro_seq.testing.case import latent_sites, traced
from pyro_seq.testing.lent_guide import lend_guide
from tests.support import real_series


class Mixed(SequenceModel):
    """Latents with three kinds of support, one of them shared by all series."""

    def model(self, data):
        pyro.sample("share", dist.Dirichlet(data.values.new_ones(3)))
        with self.series(data):
            rate = pyro.sample("rate", dist.Gamma(data.values.new_tensor(2.0), 0.5))
            pyro.sample("place", dist.Normal(data.values.new_zeros(4, 2), 1.0).to_event(2))
            path = rate[..., None, None].expand(*rate.shape, data.times.shape[-1], 2)
            self.observe(lambda state: dist.Normal(state, 1.0), path, data)


def lent() -> Mixed:
    model = Mixed()
    lend_guide(model, real_series())
    return model


def test_sites_are_those_of_the_model() -> None:
    model, data = lent(), real_series()
    prior, guide = (dict(latent_sites(traced(method, data, seed=0))) for method in (model.model, model.guide))
    assert prior.keys() == guide.keys()
    for name, site in guide.items():
        assert site["value"].shape == prior[name]["value"].shape and is_local(site) == is_local(prior[name])
        assert site["fn"].event_dim == prior[name]["fn"].event_dim
        assert bool(prior[name]["fn"].support.check(site["value"]).all())


def test_noise_is_normal_among_real_numbers_with_half_a_unit() -> None:
    model, data = lent(), real_series()
    trace = traced(model.guide, data, seed=0, num_samples=4000)
    for name, site in latent_sites(traced(model.model, data, seed=0)):
        real = biject_to(site["fn"].support).inv(trace.nodes[name]["value"])
        assert_close_mc(real, 0.0)
        assert_close_mc(real**2, 0.25)


def test_another_number_of_series_and_another_type_will_do() -> None:
    trace = traced(lent().guide, real_series(2).to(dtype=torch.float64), seed=0)
    assert trace.nodes["rate"]["value"].shape == (2,) and trace.nodes["rate"]["value"].dtype == torch.float64
