"""Joint chains find a start where the prior runs away, begin at a fit, and keep their draws when interrupted."""

from __future__ import annotations

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.model import local_parameters
from pyro_seq.ops.mlp import ACTIVATIONS

FIRST = ps.MCMC(ps.NUTS(max_tree_depth=1), num_samples=1, warmup_steps=0)


def test_a_field_that_runs_away_is_no_obstacle(quiet):
    """A draw of its prior, and one of the cube that Pyro starts in, leave the finite numbers."""
    data = ps.Sequences(torch.sin(0.3 * torch.arange(20.0))[None, :, None].repeat(2, 1, 2))
    torch.manual_seed(0)
    model = ps.ODE2VAE((2,), 2, vector_field=ps.BayesianMLP(4, 2, (100, 100), activation=ACTIVATIONS["relu"]))
    with pytest.raises(ps.NumericalError), local_parameters(), torch.random.fork_rng():
        for _ in range(3):
            model.model(data)
    stats = ps.fit(model, data, FIRST, trainer=quiet).sample_stats
    assert bool(stats["lp"].isfinite().all())


def test_no_start_at_all_says_what_to_do(toy, quiet):
    class Nowhere(toy.Lines):
        def model(self, data):
            super().model(data)
            pyro.factor("nowhere", torch.tensor(torch.nan))

    with pytest.raises(ps.NumericalError, match=r"No starting point.*chain 0.*start=fit"):
        ps.fit(Nowhere(), toy.make_data(2), FIRST, trainer=quiet)


def test_one_bad_draw_of_the_prior_is_no_obstacle(toy, quiet):
    """An adaptive solver gives up where others return what is not finite; Pyro runs the model at a draw first."""

    class Fragile(toy.Lines):
        count = 0

        def model(self, data):
            Fragile.count += 1
            if Fragile.count in (1, 3, 4):  # when the sites are read, and twice when Pyro begins
                raise ps.NumericalError("The solver gave up. Take a smaller step.")
            super().model(data)

    assert bool(ps.fit(Fragile(), toy.make_data(2), FIRST, trainer=quiet).sample_stats["lp"].isfinite().all())


WIDTHS = torch.tensor([1e-3, 1.0])


class Narrow(ps.SequenceModel):
    """A latent of entries that differ in width, of which the observations tell nothing."""

    dims: ClassVar = {"z": ("entry",)}

    def model(self, data):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), WIDTHS).to_event(1))
        with self.series(data):
            path = data.values.new_zeros(data.num_series, data.num_steps, 1)
            self.observe(lambda states: dist.Normal(states + 0 * z.sum(), 1.0), path, data)


class Prior:
    def draws(self, data, num_samples, *, seed=0):
        return {"z": WIDTHS * torch.randn(num_samples, 1, 2, generator=torch.Generator().manual_seed(seed))}


def test_chains_start_at_a_fit_in_units_of_its_spread(quiet):
    data, found = ps.Sequences(torch.zeros(2, 3, 1)), []
    usual = float(dist.Normal(0.0, 1.0).log_prob(data.values).sum() + dist.Normal(0.0, WIDTHS).log_prob(WIDTHS).sum())
    for start in (Prior(), None):
        method = ps.MCMC(ps.NUTS(), num_samples=1, warmup_steps=0, num_chains=3, start=start)
        stats = ps.fit(Narrow(), data, method, seed=1, trainer=quiet).sample_stats
        found.append((stats["energy"] + usual, stats["step_size"]))
    (near, long), (far, short) = found
    assert bool((near.abs() < 15).all()) and bool((far > 1e3).all())  # two kinetic and two potential degrees of freedom
    assert bool((long > 0.3).all()) and bool((short < 0.02).all())


class Interrupted:
    """Makes a model raise `KeyboardInterrupt` at one of its evaluations, and counts them."""

    def __init__(self, toy):
        self.count, self.at = 0, None
        outer = self

        class Lines(toy.Lines):
            def model(self, data):
                outer.count += 1
                if outer.count == outer.at:
                    raise KeyboardInterrupt
                super().model(data)

        torch.manual_seed(0)
        self.model = Lines()

    def fit(self, method, data, quiet, at=None):
        self.count, self.at = 0, at
        return ps.fit(self.model, data, method, trainer=quiet)


def test_interrupts_keep_what_there_is(toy, quiet):
    data, case = toy.make_data(2), Interrupted(toy)
    method = ps.MCMC(ps.NUTS(max_tree_depth=2), num_samples=12, warmup_steps=6, num_chains=2)
    whole, total = case.fit(method, data, quiet).sites["line"], case.count
    with pytest.warns(UserWarning, match=r"Kept are \d+ draws of each of 1 chains, where 12 of 2"):
        begun = case.fit(method, data, quiet, at=int(0.4 * total)).sites["line"]
    assert 0 < begun.shape[1] < 12
    assert torch.equal(begun, whole[:1, : begun.shape[1]])
    with pytest.warns(UserWarning, match="Kept are 12 draws of each of 1 chains"):
        finished = case.fit(method, data, quiet, at=int(0.6 * total))
    assert torch.equal(finished.sites["line"], whole[:1])
    assert finished.sample_stats["lp"].shape == (1, 12)
    with pytest.raises(KeyboardInterrupt):
        case.fit(method, data, quiet, at=5)
