"""A model whose observations the verbs could not draw is refused by `fit`, with the site and the ways out."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.distributions.linear_gaussian import LinearGaussian

TIME = 6


def hmm(scale: torch.Tensor) -> dist.GaussianHMM:
    zero, eye = torch.zeros(1), torch.eye(1)
    start, moves = dist.Normal(zero, 1.0).to_event(1), dist.MultivariateNormal(zero, scale**2 * eye)
    return dist.GaussianHMM(start, eye, moves, eye, start, duration=TIME)


def mrf(scale: torch.Tensor) -> dist.GaussianMRF:
    factors = [dist.MultivariateNormal(torch.zeros(size), scale**2 * torch.eye(size)) for size in (1, 2, 2)]
    return dist.GaussianMRF(factors[0], factors[1].expand((TIME,)), factors[2].expand((TIME,)))


class Walk(ps.SequenceModel):
    """A random walk seen in noise, the law of its observations given by a function."""

    dims = {"scale": ()}  # noqa: RUF012

    def __init__(self, law) -> None:
        super().__init__()
        self.law = law
        self.loc = torch.nn.Parameter(torch.zeros(1))

    def model(self, data: ps.Sequences) -> None:
        self.bind()
        scale = pyro.sample("scale", dist.LogNormal(torch.zeros(1), 0.5).to_event(1)).exp()
        law = self.law(scale.flatten()[0])
        with self.series(data):
            pyro.sample("x", law, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", law.future(data.values, data.horizon))

    def guide(self, data: ps.Sequences) -> None:
        self.bind()
        pyro.sample("scale", dist.LogNormal(self.loc, 0.1).to_event(1))


def data() -> ps.Sequences:
    return ps.Sequences(torch.randn(3, TIME, 1, generator=torch.Generator().manual_seed(0)).cumsum(1))


METHODS = {
    "svi": ps.SVI(num_steps=1),
    "iwae": ps.IWAE(num_steps=1, num_particles=2),
    "nuts": ps.MCMC(ps.NUTS(max_tree_depth=2), num_samples=1, warmup_steps=0),
}


@pytest.mark.parametrize(("law", "method"), [(hmm, "svi"), (hmm, "iwae"), (mrf, "svi"), (mrf, "nuts")])
def test_fit_names_the_site_and_the_ways_out(law, method, quiet):
    with pytest.raises(ps.UnsupportedError, match=r"The site 'x'.*Gaussian(HMM|MRF).*sample_path") as caught:
        ps.fit(Walk(law), data(), METHODS[method], trainer=quiet)
    assert ("from_gaussian_hmm" in str(caught.value)) == (law is hmm)


def test_the_first_way_out_works(quiet):
    model = Walk(lambda scale: LinearGaussian.from_gaussian_hmm(hmm(scale)))
    posterior = ps.fit(model, data(), ps.SVI(num_steps=2), trainer=quiet)
    ahead = ps.forecast(posterior, data(), horizon=2, num_samples=1)
    scale = ahead.latents["scale"].exp().squeeze()
    level = hmm(scale).filter(data().values).loc  # of the last step, and of all that follow
    torch.testing.assert_close(ahead.mean, level[:, None].expand(3, 2, 1), rtol=1e-4, atol=1e-4)


def test_masks_around_independent_steps_are_no_matter(quiet):
    class Masked(Walk):
        def model(self, data: ps.Sequences) -> None:
            self.bind()
            level = pyro.sample("scale", dist.LogNormal(torch.zeros(1), 0.5).to_event(1))
            with self.series(data):
                steps = dist.Normal(level, 1.0).expand(data.values.shape).to_event(2)
                pyro.sample("x", steps.mask(data.mask.all(1)), obs=data.values)

    assert ps.fit(Masked(hmm), data(), ps.SVI(num_steps=1), trainer=quiet).status == "completed"
