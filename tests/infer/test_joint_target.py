"""All latents as one vector: energies are the model's, of minibatches scaled, of a broken chain its own."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_seq as ps
from pyro_seq.infer.joint_target import AllSeries, JointTarget, langevin_target
from pyro_seq.infer.series_target import SeriesTarget
from pyro_seq.posterior import reading
from tests.swings import Swings
from tests.swings import make_data as make_swings


class Scaled(ps.SequenceModel):
    """A positive number that all series share, and a share in (0, 1) of each."""

    def model(self, data: ps.Sequences) -> None:
        size = pyro.sample("size", dist.LogNormal(data.values.new_zeros(1), 1.0).to_event(1))
        with self.series(data):
            part = pyro.sample("part", dist.Beta(data.values.new_full((1,), 2.0), 3.0).to_event(1))
            path = (size * part)[..., None, :].expand(*(size * part).shape[:-1], data.num_steps, 1)
            self.observe(lambda states: dist.Normal(states, 1.0), path, data)


@pytest.fixture(scope="module")
def data() -> ps.Sequences:
    return ps.Sequences(torch.randn(3, 4, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


def test_energy_is_minus_the_density_of_real_numbers(data) -> None:
    model = Scaled()
    with reading(model):
        target = JointTarget(model, data)
        vector = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        found = target(vector)
    size, part = vector[:, :1].exp(), torch.sigmoid(vector[:, 1:])
    density = dist.LogNormal(0.0, 1.0).log_prob(size)[:, 0] + vector[:, 0]  # with the log volume of exp
    density = density + (dist.Beta(2.0, 3.0).log_prob(part) + (part * (1 - part)).log()).sum(1)
    density = density + dist.Normal((size * part)[..., None], 1.0).log_prob(data.values[..., 0]).sum((1, 2))
    torch.testing.assert_close(found, -density)
    torch.testing.assert_close(target(vector.reshape(5, 1, 4)), found[:, None])
    values = target.split(vector)
    assert values["part"].shape == (5, 3, 1) and target.shared == {"size"}
    torch.testing.assert_close(target.join(values), vector)


def test_a_minibatch_stands_for_all(data) -> None:
    """The mean over all minibatches of one series is the energy of the whole."""
    model = Scaled()
    with reading(model):
        target = JointTarget(model, data)
        real = target.parts(torch.zeros(2, 4, dtype=torch.float64))
        parts = [
            target.energies(
                {"size": real["size"], "part": real["part"][:, [index]]}, data.minibatch(torch.tensor([index]))
            )
            for index in range(3)
        ]
        torch.testing.assert_close(torch.stack(parts).mean(0), target.energies(real, data))


def test_a_chain_at_which_the_model_breaks_down_is_alone(data) -> None:
    class Breaking(Scaled):
        def model(self, data: ps.Sequences) -> None:
            super().model(data)
            raise_if = pyro.sample("extra", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
            if bool((raise_if > 5).any()):
                raise ps.NumericalError("not positive definite")

    model = Breaking()
    with reading(model):
        target = JointTarget(model, data)
        vector = torch.zeros(4, target.num_entries, dtype=torch.float64)
        good = target(vector)
        vector[2] = 6.0
        energy = target(vector)
    assert energy.isnan().tolist() == [False, False, True, False]
    torch.testing.assert_close(energy[[0, 1, 3]], good[[0, 1, 3]])


def test_values_that_do_not_fit_are_refused(data) -> None:
    with reading(Scaled()):
        target = JointTarget(Scaled(), data)
    with pytest.raises(ps.DataError, match=r"Missing: \['part'\]"):
        target.join({"size": torch.ones(2, 1)})
    with pytest.raises(ps.DataError, match=r"`values\['part'\]` must be \(chain, \*\(3, 1\)\). Got \(2, 4, 1\)"):
        target.join({"size": torch.ones(2, 1), "part": torch.ones(2, 4, 1)})


def test_langevin_moves_series_apart_where_it_can(data) -> None:
    assert isinstance(langevin_target(Swings(), make_swings(), 0), SeriesTarget)
    found = langevin_target(Scaled(), data, 0)
    assert isinstance(found, AllSeries) and found.global_sites == {"size"} and found.num_entries == 4
    with pytest.raises(ps.UnsupportedError, match="share"):
        langevin_target(_Unguided(), data, 2)


class _Unguided(Scaled):
    has_guide = False


def test_candidates_are_weighed(data) -> None:
    """Picked among many draws of the prior, starts lie nearer to the posterior than plain draws do."""
    model = Scaled()
    with reading(model), torch.random.fork_rng():
        target = AllSeries(model, ps.Sequences(data.values + 3))
        torch.manual_seed(0)
        plain, picked = (target(target.draw(200, from_guide=False, num_candidates=count)).mean() for count in (1, 50))
    assert float(picked) < float(plain) - 1
