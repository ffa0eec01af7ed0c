"""`EnergyBased` against Gaussians, where quadratic energies keep all in closed form, and against quadrature."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq.distributions.energy_based import EnergyBased, unnormalised
from pyro_seq.distributions.energy_drift import energy_drift
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.ops.langevin import MALA, ULA

F64 = torch.float64


class Quadratic(nn.Module):
    """E(z) = a |z|^2 / 2 - b z; with a standard normal base p is normal of precision 1 + a and mean b / (1 + a)."""

    def __init__(self, tilt: float = 1.5, push: float = 0.8) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(tilt, dtype=F64))
        self.push = nn.Parameter(torch.tensor([push, -push], dtype=F64))
        self.num_calls = 0

    def forward(self, value: Tensor) -> Tensor:
        self.num_calls += 1
        return 0.5 * self.tilt * value.square().sum(-1) - (self.push * value).sum(-1)

    def mean(self) -> Tensor:
        return (self.push / (1 + self.tilt)).detach()

    def variance(self) -> float:
        return 1 / (1 + float(self.tilt.detach()))

    def log_partition(self) -> Tensor:
        """log Z in closed form, differentiable."""
        return -(1 + self.tilt).log() + 0.5 * self.push.square().sum() / (1 + self.tilt)


def base(*batch: int, dim: int = 2) -> dist.TorchDistribution:
    return dist.Normal(torch.zeros(*batch, dim, dtype=F64), 1.0).to_event(1)


def points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------- drawing


def test_draws_have_the_moments_of_the_gaussian() -> None:
    energy = Quadratic()
    draws = EnergyBased(base(), energy, sampler=MALA(0.9), num_steps=80).sample((4000,))
    error = (energy.variance() / 4000) ** 0.5
    assert draws.dtype == F64 and not draws.requires_grad
    assert ((draws.mean(0) - energy.mean()).abs() < 4.5 * error).all()
    assert ((draws.var(0) / energy.variance() - 1).abs() < 4.5 * (2 / 4000) ** 0.5).all()


def test_a_short_unadjusted_run_forgets_its_start_as_known() -> None:
    plain = EnergyBased(base(), lambda z: 0 * z.sum(-1), sampler=ULA(0.4), num_steps=60)
    ends = plain.run(3 + points(4000, 2)).state.value
    wanted = 1 / (1 - 0.4**2 / 4)
    assert ((ends.mean(0) - 3 * (1 - 0.4**2 / 2) ** 60).abs() < 4.5 * (wanted / 4000) ** 0.5).all()
    assert ((ends.var(0) / wanted - 1).abs() < 4.5 * (2 / 4000) ** 0.5).all()


def test_regions_without_energies_stop_their_own_chains_only() -> None:
    def energy(value: Tensor) -> Tensor:
        return torch.where(value[..., 0] > 1, torch.nan, 0.0) + 0 * value.sum(-1)

    start = points(50, 2)
    tilted = EnergyBased(base(), energy, sampler=MALA(0.5), num_steps=40)
    with torch.random.fork_rng():
        result = tilted.run(start)
    bad = start[:, 0] > 1
    assert torch.equal(result.state.is_frozen, bad) and bad.any()
    assert (result.state.value[~bad, 0] <= 1).all()


# ---------------------------------------------------------------------- scoring


def test_log_prob_is_the_unnormalised_density() -> None:
    energy, value = Quadratic(), points(5, 3, 2)
    tilted = EnergyBased(base(3), energy, num_steps=5)
    wanted = base(3).log_prob(value) - energy(value)
    torch.testing.assert_close(tilted.log_prob(value), wanted, rtol=1e-12, atol=1e-12)
    assert tilted.log_prob(value).shape == (5, 3)


def test_gradient_is_the_difference_of_moments() -> None:
    """Of log p at given points, by each parameter, against the closed form with its log Z."""
    energy, value = Quadratic(), points(6, 2)
    tilted = EnergyBased(base(), energy, sampler=MALA(0.9), num_steps=60, num_negatives=4000)
    tilted.log_prob(value).mean().backward()
    exact = torch.autograd.grad((-energy(value)).mean() - energy.log_partition(), list(energy.parameters()))
    negatives = tilted.negatives
    error = 0.5 * negatives.square().sum(-1).std() / 4000**0.5
    assert abs(energy.tilt.grad - exact[0]) < 4.5 * error
    assert ((energy.push.grad - exact[1]).abs() < 4.5 * negatives.std(0) / 4000**0.5).all()
    assert abs(exact[0]) > 10 * error  # the comparison has something to see


def test_gradient_by_the_base() -> None:
    loc = torch.zeros(2, dtype=F64, requires_grad=True)
    tilted = EnergyBased(dist.Normal(loc, 1.0).to_event(1), Quadratic(1.0, 0.0), sampler=MALA(0.9), num_negatives=4000)
    value = torch.tensor([0.7, -0.2], dtype=F64)
    tilted.log_prob(value).backward()
    # p = N(loc / 2, 1 / 2): d log p / d loc = (value - loc) - (E z - loc) at loc 0
    assert ((loc.grad - value).abs() < 4.5 * (0.5 / 4000) ** 0.5).all()


def test_every_element_of_a_batch_has_its_own_chains() -> None:
    energy = Quadratic()
    tilted = EnergyBased(base(), energy, num_steps=10).expand((7,))
    tilted.log_prob(points(3, 7, 2)).sum().backward()
    assert tilted.negatives.shape == (1, 7, 2)
    assert tilted.negatives[0].unique(dim=0).shape == (7, 2)


def test_the_normaliser_is_left_out_where_nobody_needs_it() -> None:
    energy, value = Quadratic(), points(4, 2).requires_grad_()
    tilted = EnergyBased(base(), energy, num_steps=50)

    def calls(function) -> int:
        energy.num_calls = 0
        function()
        return energy.num_calls

    assert calls(lambda: tilted.log_prob(value)) > 50
    with unnormalised():
        density = tilted.log_prob(value)
        assert calls(lambda: tilted.log_prob(value)) < 3
    with torch.no_grad():
        assert calls(lambda: tilted.log_prob(value)) < 3
    (gradient,) = torch.autograd.grad(density.sum(), value)
    torch.testing.assert_close(gradient, -value - energy.tilt * value + energy.push)
    energy.requires_grad_(False)
    assert calls(lambda: tilted.log_prob(value)) < 3
    with pytest.raises(DataError, match="no prior chains yet"):
        EnergyBased(base(), energy).negatives


# ---------------------------------------------------------------------- log Z


def test_log_partition_of_gaussians() -> None:
    energy = Quadratic()
    result = EnergyBased(base(3), energy, sampler=MALA(0.8)).log_partition(100, 500)
    assert result.value.shape == (3,) and (result.effective_size > 250).all()
    assert ((result.value - energy.log_partition().detach()).abs() < 4.5 * result.error).all()
    assert ((result.upper - result.value).abs() < 6 * result.error).all()


@pytest.mark.parametrize("dim", [1, 2])
def test_log_partition_against_quadrature(dim: int) -> None:
    torch.manual_seed(dim)
    network = EnergyMLP(dim, (8, 8)).double()

    def energy(value: Tensor) -> Tensor:  # two wells, of unequal depth
        return 6 * network(3 * value) + 2 * (value.square().sum(-1) - 1).square()

    axis = torch.linspace(-7, 7, 1401 if dim == 1 else 401, dtype=F64)
    grid = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    cell = (axis[1] - axis[0]).log() * dim
    tilted = EnergyBased(base(dim=dim), energy)
    with torch.no_grad():
        exact = tilted.tilted(grid).logsumexp(0) + cell
    result = tilted.log_partition(100, 2000)
    assert abs(result.value - exact) < 4.5 * result.error
    assert result.error < 0.1 and abs(result.upper - exact) < 0.15
    again = tilted.log_partition(100, 2000)
    assert torch.equal(result.value, again.value)


def test_too_few_temperatures_show_as_a_gap() -> None:
    def energy(value: Tensor) -> Tensor:
        return 200 * (value - 2).square().sum(-1)

    exact = -math.log(401) - 200 * 4 * 2 / 401  # 2 dimensions, a narrow well far out
    rough, fine = (EnergyBased(base(), energy, sampler=MALA(0.3)).log_partition(steps, 300) for steps in (2, 300))
    assert rough.value < exact - 1 and rough.upper - rough.value > 1
    assert abs(fine.value - exact) < 0.3 and abs(fine.upper - exact) < 0.3


# ---------------------------------------------------------------------- as a site


class Tilted(nn.Module):
    def __init__(self, pool: PersistentChains | None = None) -> None:
        super().__init__()
        self.energy = EnergyMLP(2, (6, 6)).double()
        self.pool = pool

    def model(self) -> None:
        with pyro.plate("series", 4, dim=-1):
            pyro.sample("z", EnergyBased(base(), self.energy, num_steps=4, chains=self.pool))


def test_a_pyro_site_with_draws_in_front() -> None:
    tilted = Tilted()
    with torch.no_grad():
        trace = poutine.trace(pyro.plate("samples", 3, dim=-2)(tilted.model)).get_trace()
    site = trace.nodes["z"]
    assert site["value"].shape == (3, 4, 2) and site["value"].dtype == F64
    assert not site["fn"].is_normalised
    trace.compute_log_prob()
    assert site["log_prob"].shape == (3, 4)
    with pyro.settings.context(module_local_params=True):
        scored = poutine.trace(poutine.condition(tilted.model, {"z": site["value"]})).get_trace()
        scored.log_prob_sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in tilted.parameters())


def test_seeds_decide_the_draw() -> None:
    tilted = EnergyBased(base(), Quadratic())
    draws = []
    for seed in (1, 1, 2):
        pyro.set_rng_seed(seed)
        draws.append(tilted.sample((5,)))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# ---------------------------------------------------------------------- learning


def test_persistent_chains_reach_what_short_ones_cannot() -> None:
    energy = Quadratic(0.0, 3.0)  # mean 3 away from the base
    pool = PersistentChains(600, 2, refresh=0.0).double()
    value = points(2)
    for _ in range(40):
        persistent = EnergyBased(base(), energy, sampler=MALA(0.6), num_steps=2, num_negatives=300, chains=pool)
        persistent.log_prob(value)
    cold = EnergyBased(base(), energy, sampler=MALA(0.6), num_steps=2, num_negatives=300)
    cold.log_prob(value)
    wanted = energy.mean()
    assert ((persistent.negatives[:, :2].mean(0) - wanted).abs() < 5 / 300**0.5).all()
    assert ((cold.negatives[:, :2].mean(0) - wanted).abs() > 1).all()
    assert pool.is_started.float().mean() > 0.99


def test_the_pool_is_saved_with_the_model() -> None:
    first, second = (Tilted(PersistentChains(8, 2).double()) for _ in range(2))
    with pyro.settings.context(module_local_params=True):
        poutine.trace(first.model).get_trace().log_prob_sum()
    assert first.pool.is_started.sum() == 4
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.pool.values, first.pool.values)


def test_maximum_likelihood_finds_the_energy() -> None:
    """Descending -log p of draws of a Gaussian finds its mean and precision, by persistent chains."""
    data = torch.tensor([1.0, -0.5], dtype=F64) + 0.6 * points(1000, 2)
    energy, pool = Quadratic(0.0, 0.0), PersistentChains(400, 2).double()
    optimizer = torch.optim.Adam(energy.parameters(), lr=0.1)
    trail = []
    for step in range(150):
        batch = data[torch.randperm(1000)[:200]]
        tilted = EnergyBased(base(200), energy, sampler=MALA(0.5), num_steps=5, chains=pool)
        optimizer.zero_grad()
        (-tilted.log_prob(batch)).mean().backward()
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 150)
        optimizer.step()
        trail.append(torch.cat([energy.mean(), torch.tensor([energy.variance()])]))
    found, spread = trail[-1], torch.stack(trail[-30:]).std(0)
    wanted = torch.cat([data.mean(0), data.var(0).mean()[None]])
    assert ((found - wanted).abs() < 6 * spread + 0.02).all()


def test_penalty_and_drift() -> None:
    energy = Quadratic()
    tilted = EnergyBased(base(3), energy, num_steps=10)
    value = points(3, 2)
    tilted.log_prob(value)
    wanted = energy(value) ** 2 + (energy(tilted.negatives) ** 2)[0]
    torch.testing.assert_close(tilted.penalty(value), wanted)
    drift = tilted.drift(value)
    assert drift.alarm() is None
    gap = (energy(tilted.negatives).mean() - energy(value).mean()).detach()
    assert drift.gap == pytest.approx(float(gap))
    far = energy_drift(energy, value, value + 20, loc=0.0, scale=1.0)
    message = far.alarm()
    assert far.gap > 100 and far.deviation > 18
    assert "a gap of" in message and "learning rate" in message and "`penalty`" in message
    assert energy_drift(energy, value, value, loc=0.0, scale=0.1).alarm() is not None


def test_arguments() -> None:
    with pytest.raises(ShapeError, match="event shape"):
        EnergyBased(dist.Normal(torch.zeros(2), 1.0), Quadratic())
    with pytest.raises(ShapeError, match="one number a vector"):
        EnergyBased(base(), lambda z: z.square().sum(-1, keepdim=True)).log_prob(points(3, 2))
    with pytest.raises(DataError, match="`num_steps`"):
        EnergyBased(base(), Quadratic(), num_steps=0)
