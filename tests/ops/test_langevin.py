"""Langevin chains against closed forms, against Hamiltonian Monte Carlo, and against each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from pyro.ops.integrator import velocity_verlet
from pyro.ops.stats import effective_sample_size
from scipy import stats
from torch import Tensor

from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.ops.langevin import MALA, ULA, initial_state, run, step

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=seeded(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=F64, generator=seeded(seed))


class Gaussians:
    """One Gaussian a series, with its own mean and full covariance; arithmetic that does not depend on the batch."""

    def __init__(self, series: int, dim: int, seed: int = 0) -> None:
        self.mean = 2 * normal(series, dim, seed=seed)
        root = normal(series, dim, dim, seed=seed + 1)
        self.covariance = root @ root.mT / dim + 0.3 * torch.eye(dim, dtype=F64)
        self.precision = torch.linalg.inv(self.covariance)

    def __call__(self, value: Tensor) -> Tensor:
        gap = value - self.mean
        return 0.5 * (gap.unsqueeze(-1) * self.precision * gap.unsqueeze(-2)).sum((-1, -2))

    def select(self, index: Tensor) -> Gaussians:
        chosen = object.__new__(Gaussians)
        chosen.mean, chosen.covariance, chosen.precision = (
            part[index] for part in (self.mean, self.covariance, self.precision)
        )
        return chosen


def quartic(value: Tensor) -> Tensor:
    return (0.25 * value**4 - value**2 + 0.3 * value).sum(-1)


@dataclass(frozen=True)
class LaxMALA:
    """Accepts with the square root of the probability: a chain with another limit."""

    step_size: float
    max_energy_rise: float = 1000.0
    target_accept: float | None = None

    def decide(self, acceptance: Tensor, is_divergent: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        return uniform < acceptance.sqrt(), torch.zeros_like(is_divergent)


# ---------------------------------------------------------------------- limits


def moment_scores(sampler, target: Gaussians, *, adapt_steps: int) -> tuple[Tensor, Tensor]:
    """z-scores of means and second moments over their ESS-based standard errors, and the effective sizes."""
    start = target.mean + (target.covariance.diagonal(dim1=-2, dim2=-1).sqrt() * normal(8, *target.mean.shape, seed=5))
    result = run(target, start, sampler, 1000, seeded(1), adapt_steps=adapt_steps, keep_every=2)
    gap = result.draws - target.mean
    rows, columns = torch.triu_indices(*target.covariance.shape[-2:])
    statistics = torch.cat([gap, gap[..., rows] * gap[..., columns]], -1)  # (draw, chain, series, statistic)
    truth = torch.cat([torch.zeros_like(target.mean), target.covariance[:, rows, columns]], -1)
    size = effective_sample_size(statistics, sample_dim=0, chain_dim=1)
    error = statistics.flatten(0, 1).std(0) / size.sqrt()
    return (statistics.mean((0, 1)) - truth) / error, size


def agree(scores: Tensor) -> bool:
    return bool(scores.abs().max() < 4.5 and 0.4 < scores.square().mean() < 2.2)


@pytest.mark.parametrize("adapt_steps", [0, 200])
def test_mala_has_the_moments_of_gaussians(adapt_steps: int) -> None:
    scores, size = moment_scores(MALA(0.8), Gaussians(6, 3), adapt_steps=adapt_steps)
    assert size.min() > 100
    assert agree(scores)


def test_a_wrong_acceptance_fails_the_same_test() -> None:
    scores, _ = moment_scores(LaxMALA(0.8), Gaussians(6, 3), adapt_steps=0)
    assert not agree(scores)
    assert scores.abs().max() > 6


@pytest.mark.parametrize("step_size", [0.3, 0.9, 1.5])
def test_ula_has_its_known_stationary_variance(step_size: float) -> None:
    precision = torch.tensor([0.5, 1.0, 1.5], dtype=F64)
    wanted = 1 / precision / (1 - step_size**2 * precision / 4)
    start = wanted.sqrt() * normal(20_000, 3)  # a stationary start stays stationary
    chains = start.reshape(200, 100, 3)
    result = run(lambda z: 0.5 * (precision * z.square()).sum(-1), chains, ULA(step_size), 40, seeded(1))
    variance = result.state.value.flatten(0, 1).var(0)
    assert ((variance / wanted - 1).abs() < 4 * (2 / 20_000) ** 0.5).all()
    assert not result.diagnostics.is_frozen.any()


def test_ula_converges_from_afar_and_stops_where_unstable() -> None:
    precision = torch.tensor([1.0, 30.0], dtype=F64)  # s^2 precision = 0.25 and 7.5
    start = 5 + normal(500, 2, 1)
    result = run(lambda z: 0.5 * precision * z.square().sum(-1), start, ULA(0.5), 60, seeded(1))
    values, diagnostics = result.state.value[..., 0], result.diagnostics
    wanted = 1 / (1 - 0.25 / 4)
    assert abs(values[:, 0].var() / wanted - 1) < 4 * (2 / 500) ** 0.5
    assert not diagnostics.is_frozen[:, 0].any()
    assert diagnostics.is_frozen[:, 1].all()
    assert (diagnostics.num_divergent[:, 1] == 1).all()
    assert result.state.energy.isfinite().all()
    assert "500 of 1000 chains" in diagnostics.report()


def calibration_p_value(sampler, adapt_steps: int) -> float:
    """Ranks of true means among thinned posterior draws, one conjugate normal model a series, tested for uniformity."""
    series, noise = 3000, 0.5
    truth = normal(series, 1, seed=2)
    data = truth + noise * normal(series, 3, seed=3)

    def potential(value: Tensor) -> Tensor:
        return 0.5 * value.square().sum(-1) + 0.5 * ((data - value) / noise).square().sum(-1)

    start = normal(1, series, 1, seed=4)  # from the prior, as a user would
    result = run(potential, start, sampler, 180, seeded(5), adapt_steps=adapt_steps, keep_every=12)
    ranks = (result.draws[:, 0, :, 0] < truth[:, 0]).sum(0)  # 0 ... 15
    return float(stats.chisquare(ranks.bincount(minlength=16).numpy()).pvalue)


def test_mala_is_calibrated_by_simulation() -> None:
    assert calibration_p_value(MALA(0.3), adapt_steps=100) > 0.001


def test_a_wrong_acceptance_is_not_calibrated() -> None:
    assert calibration_p_value(LaxMALA(0.6), adapt_steps=0) < 1e-6


# ---------------------------------------------------------------------- one step


@pytest.mark.parametrize("scaled", [False, True])
def test_mala_step_is_one_leapfrog_step(scaled: bool) -> None:
    value, noise = normal(3, 4, 2, seed=1), normal(3, 4, 2, seed=2)
    scale = 0.5 + uniform(4, 2) if scaled else None
    width = 1.0 if scale is None else scale
    state = initial_state(quartic, value, 0.7, scale=scale)
    new = step(quartic, state, MALA(), noise, torch.zeros(3, 4, dtype=F64))

    momentum = noise / width  # mass width^-2
    ends, kicked, _, _ = velocity_verlet(
        {"z": value},
        {"z": momentum},
        lambda z: quartic(z["z"]).sum(),
        lambda r: {"z": width**2 * r["z"]},
        0.7,
    )
    before = quartic(value) + 0.5 * (width * momentum).square().sum(-1)
    after = quartic(ends["z"]) + 0.5 * (width * kicked["z"]).square().sum(-1)
    torch.testing.assert_close(new.acceptance, (before - after).exp().clamp(max=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new.value, ends["z"], rtol=1e-12, atol=1e-12)  # uniform 0 takes every proposal
    assert (new.acceptance < 0.99).any()


def test_acceptance_is_the_ratio_of_proposal_densities() -> None:
    value, noise, s = normal(2, 5, 3, seed=1), normal(2, 5, 3, seed=2), 0.6
    state = initial_state(quartic, value, s)
    new = step(quartic, state, ULA(s), noise)

    def log_proposal(end: Tensor, energies) -> Tensor:
        return torch.distributions.Normal(energies.value - s**2 / 2 * energies.gradient, s).log_prob(end).sum(-1)

    ratio = state.energy - new.energy + log_proposal(value, new) - log_proposal(new.value, state)
    torch.testing.assert_close(new.acceptance, ratio.exp().clamp(max=1), rtol=1e-10, atol=1e-12)


def test_state_carries_energy_and_gradient() -> None:
    calls = 0

    def potential(value: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return quartic(value)

    result = run(potential, normal(2, 3, 2), MALA(1.0), 20, seeded(), adapt_steps=10)
    assert calls == 31
    fresh = initial_state(quartic, result.state.value, 1.0)
    torch.testing.assert_close(result.state.energy, fresh.energy, rtol=0, atol=0)
    torch.testing.assert_close(result.state.gradient, fresh.gradient, rtol=0, atol=0)


@pytest.mark.parametrize("sampler", [ULA(0.3), MALA(0.8)])
def test_scale_is_a_change_of_variables(sampler) -> None:
    scale, value, noise = 0.2 + uniform(4, 2), normal(3, 4, 2), normal(3, 4, 2, seed=1)
    stretched = initial_state(quartic, value, 0.5, scale=scale)
    plain = initial_state(lambda z: quartic(scale * z), value / scale, 0.5)
    level = uniform(3, 4)
    stretched = step(quartic, stretched, sampler, noise, level)
    plain = step(lambda z: quartic(scale * z), plain, sampler, noise, level)
    torch.testing.assert_close(stretched.value, scale * plain.value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stretched.acceptance, plain.acceptance, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------- independence


CHOICES = [torch.tensor([4]), torch.tensor([0, 2, 3]), torch.randperm(7, generator=seeded(3))]


@pytest.mark.parametrize("index", CHOICES, ids=["alone", "removed", "permuted"])
@pytest.mark.parametrize("sampler", [ULA(0.3), MALA(0.3)])
def test_steps_do_not_see_other_series(sampler, index: Tensor) -> None:
    target, value = Gaussians(7, 3), normal(2, 7, 3)
    noise, level = normal(20, 2, 7, 3, seed=1), uniform(20, 2, 7, seed=2)
    whole = initial_state(target, value, 0.3)
    part = initial_state(target.select(index), value[:, index], 0.3)
    for k in range(20):
        whole = step(target, whole, sampler, noise[k], level[k])
        part = step(target.select(index), part, sampler, noise[k][:, index], level[k][:, index])
    for ours, theirs in zip(part, whole, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs[:, index])


@pytest.mark.parametrize("index", CHOICES, ids=["alone", "removed", "permuted"])
def test_a_series_with_its_generator_gets_the_same_draws_in_any_company(index: Tensor) -> None:
    target, value, options = Gaussians(7, 3), normal(2, 7, 3), {"adapt_steps": 10, "keep_every": 1}
    whole = run(target, value, MALA(), 20, [seeded(i) for i in range(7)], **options)
    part = run(target.select(index), value[:, index], MALA(), 20, [seeded(i) for i in index.tolist()], **options)
    assert torch.equal(part.draws, whole.draws[:, :, index])
    assert torch.equal(part.diagnostics.step_size, whole.diagnostics.step_size[:, index])


def test_bad_targets_are_frozen_and_leave_the_others_bit_equal() -> None:
    target, value = Gaussians(6, 2), normal(3, 6, 2)
    clean = run(target, value, MALA(), 30, seeded(1), adapt_steps=20, keep_every=1)
    ill = value.clone()
    ill[0, 1, 0], ill[2, 4] = float("nan"), float("inf")
    result = run(target, ill, MALA(), 30, seeded(1), adapt_steps=20, keep_every=1)
    bad = torch.zeros(3, 6, dtype=torch.bool)
    bad[0, 1] = bad[2, 4] = True
    assert torch.equal(result.diagnostics.is_frozen, bad)
    assert torch.equal(result.draws[:, ~bad], clean.draws[:, ~bad])
    assert torch.equal(result.diagnostics.step_size[~bad], clean.diagnostics.step_size[~bad])
    assert torch.equal(result.state.value[2, 4], ill[2, 4])
    assert (result.diagnostics.step_size[bad] == MALA().step_size).all()
    assert not result.diagnostics.num_divergent.any()
    report = result.diagnostics.report()
    assert "16 of 18 chains" in report
    assert "[0, 1]" in report


@pytest.mark.parametrize("wall", [float("nan"), float("inf"), -float("inf")])
def test_a_region_without_energies_stops_ula_and_is_rejected_by_mala(wall: float) -> None:
    def potential(value: Tensor) -> Tensor:
        energy = 0.5 * value.square().sum(-1)
        return torch.where(value[..., 0] < 0, wall, energy)

    start = normal(50, 4, 1).abs()
    for sampler in (ULA(0.5), MALA(0.5)):
        result = run(potential, start, sampler, 200, seeded(1), keep_every=1)
        assert (result.draws >= 0).all()
        assert result.state.energy.isfinite().all()
        assert (result.diagnostics.num_divergent > 0).all()
        assert result.diagnostics.is_frozen.all() == isinstance(sampler, ULA)
    means = result.draws.mean(0).flatten()  # independent chains; a half normal has the mean sqrt(2 / pi)
    assert abs(means.mean() - (2 / torch.pi) ** 0.5) < 4 * means.std() / len(means) ** 0.5


def test_a_nan_gradient_under_a_finite_energy_is_caught() -> None:
    def potential(value: Tensor) -> Tensor:
        root = 0 * value.sqrt()  # its gradient at negative values is NaN, though the energy does not use it there
        return (0.5 * value.square() + torch.where(value < 0, 0, root)).sum(-1)

    start = normal(4, 5, 1)
    result = run(potential, start, MALA(1.0), 50, seeded(), keep_every=1)
    assert torch.equal(result.diagnostics.is_frozen, start[..., 0] < 0)
    assert (result.draws[:, start > 0] > 0).all()
    assert (result.diagnostics.num_divergent[start[..., 0] > 0] > 0).all()


def test_the_potential_sees_frozen_targets_where_they_stay() -> None:
    seen = []

    def potential(value: Tensor) -> Tensor:
        seen.append(value.detach())
        return 0.5 * value.square().sum(-1)

    state = run(potential, normal(2, 3, 1), ULA(1e3), 1, seeded()).state
    assert state.is_frozen.all()
    for _ in range(3):
        state = step(potential, state, ULA(1e3), normal(2, 3, 1))
        assert torch.equal(seen[-1], state.value)


# ---------------------------------------------------------------------- step sizes and reports


def test_each_target_finds_its_own_step_size() -> None:
    width = torch.tensor([0.001, 0.1, 1.0, 50.0], dtype=F64)
    start = width[:, None] * normal(100, 4, 10)
    result = run(
        lambda z: 0.5 * (z / width[:, None]).square().sum(-1), start, MALA(1.0), 200, seeded(1), adapt_steps=400
    )
    relative = result.diagnostics.step_size.median(0).values / width
    torch.testing.assert_close(relative, torch.full_like(relative, 1.08), rtol=0.1, atol=0)
    assert ((result.diagnostics.acceptance.mean(0) - 0.574).abs() < 0.08).all()


def test_too_large_steps_are_reported() -> None:
    start = normal(5, 20, 4)
    adjusted = run(lambda z: 0.5 * z.square().sum(-1), start, MALA(100.0), 50, seeded(1)).diagnostics
    assert (adjusted.acceptance < 0.01).all()
    assert (adjusted.num_divergent > 40).all()
    assert not adjusted.is_frozen.any()
    assert "100 chains accept less than 0.2: adapt or reduce" in adjusted.report()
    unadjusted = run(lambda z: 0.5 * z.square().sum(-1), start, ULA(100.0), 50, seeded(1)).diagnostics
    assert unadjusted.is_frozen.all()
    assert "0 of 100 chains ran to the end" in unadjusted.report()


@pytest.mark.parametrize(("step_size", "acceptance"), [(0.5, 0.963), (1.0, 0.777), (1.9, 0.527)])
def test_acceptance_under_ula_tells_of_the_bias(step_size: float, acceptance: float) -> None:
    start = normal(500, 10) / (1 - step_size**2 / 4) ** 0.5
    result = run(lambda z: 0.5 * z.square().sum(-1), start, ULA(step_size), 50, seeded(1))
    assert abs(result.diagnostics.acceptance.mean() - acceptance) < 0.01


def test_a_good_run_reports_no_trouble() -> None:
    result = run(quartic, normal(5, 20, 2), MALA(), 100, seeded(1), adapt_steps=100)
    assert result.diagnostics.report().startswith("100 of 100 chains ran to the end")
    assert "reduce" not in result.diagnostics.report()
    assert "The first frozen" not in result.diagnostics.report()


def test_steps_of_an_earlier_run_are_taken_up() -> None:
    first = run(quartic, normal(2, 3, 2), MALA(), 5, seeded(), adapt_steps=50)
    second = run(quartic, first.state.value, ULA(9.0), 5, seeded(1), step_size=first.diagnostics.step_size)
    assert torch.equal(second.diagnostics.step_size, first.diagnostics.step_size)


# ---------------------------------------------------------------------- manners


def test_parameters_of_the_potential_are_not_touched(assert_rng_untouched) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.GELU(), torch.nn.Linear(8, 1))
    value = torch.randn(3, 4, 2, requires_grad=True)
    kept = value.detach().clone()
    with assert_rng_untouched():
        result = run(lambda z: network(z)[..., 0] + z.square().sum(-1), value, MALA(), 5, seeded(), adapt_steps=5)
    assert all(weight.grad is None for weight in network.parameters())
    assert value.grad is None
    assert torch.equal(value, kept)
    assert not any(part.requires_grad for part in result.state if part is not None)
    assert result.state.value.dtype == torch.float32
    assert result.draws is None


def test_energies_and_events_may_have_any_number_of_axes() -> None:
    flat = run(lambda z: 0.5 * z.square(), normal(5), MALA(), 7, seeded(), adapt_steps=3, keep_every=3)
    assert flat.draws.shape == (2, 5)
    deep = run(lambda z: quartic(z).sum(-1), normal(2, 3, 4, 5, 6), MALA(), 2, seeded(), keep_every=5)
    assert deep.state.energy.shape == (2, 3, 4)
    assert deep.draws.shape == (0, 2, 3, 4, 5, 6)


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf")])
def test_step_sizes_are_checked(number: float) -> None:
    for maker in (ULA, MALA):
        with pytest.raises(DataError, match="`step_size` must be one positive number"):
            maker(number)
    with pytest.raises(DataError, match="`step_size` must be positive and finite"):
        initial_state(quartic, normal(2, 3), torch.tensor([1.0, number]))
    with pytest.raises(DataError, match="`scale` must be positive"):
        initial_state(quartic, normal(2, 3), 0.1, scale=torch.tensor(number))
    with pytest.raises(DataError, match="`max_energy_rise`"):
        MALA(max_energy_rise=-1.0)
    with pytest.raises(DataError, match="`target_accept` must lie between"):
        MALA(target_accept=2 + abs(number))


def test_potentials_are_checked() -> None:
    value = normal(2, 3, 4)
    with pytest.raises(ShapeError, match="one energy a target"):
        initial_state(lambda z: z.square().sum(), value, 0.1)
    with pytest.raises(ShapeError, match=r"Got energies \(3,\)"):
        initial_state(lambda z: z.square().sum((0, 2)), value, 0.1)
    with pytest.raises(DataError, match="without a gradient"):
        initial_state(lambda z: z.detach().square().sum(-1), value, 0.1)
    with pytest.raises(DataError, match="depend on its argument"):
        initial_state(lambda z: torch.zeros(2, 3, requires_grad=True) * 2, value, 0.1)
    with pytest.raises(DataError, match="Got float"):
        initial_state(lambda z: 1.0, value, 0.1)
    with pytest.raises(DataError, match=r"Got torch\.int64"):
        initial_state(quartic, torch.ones(2, 3, dtype=torch.long), 0.1)
    with pytest.raises(ShapeError, match="`step_size` must broadcast"):
        initial_state(quartic, value, torch.ones(2))
    with pytest.raises(ShapeError, match="`scale` must broadcast"):
        initial_state(quartic, value, 0.1, scale=torch.ones(5, 2, 3, 4))


def test_arguments_of_steps_and_runs_are_checked() -> None:
    value = normal(2, 3, 4)
    state = initial_state(quartic, value, 0.1)
    with pytest.raises(DataError, match="`uniform` must hold"):
        step(quartic, state, MALA(), value)
    with pytest.raises(ShapeError, match="`noise` must have the shape"):
        step(quartic, state, ULA(0.1), value[0])
    with pytest.raises(ShapeError, match="`uniform` must have the shape"):
        step(quartic, state, MALA(), value, value)
    with pytest.raises(UnsupportedError, match="ULA has no acceptance"):
        run(quartic, value, ULA(0.1), 5, seeded(), adapt_steps=5)
    with pytest.raises(DataError, match="`num_steps` must be a whole number"):
        run(quartic, value, ULA(0.1), -1, seeded())
    with pytest.raises(DataError, match="`keep_every`"):
        run(quartic, value, ULA(0.1), 5, seeded(), keep_every=0)
    with pytest.raises(DataError, match="`generator` must be a torch.Generator"):
        run(quartic, value, ULA(0.1), 5, 0)
    with pytest.raises(ShapeError, match="each of the 3 series"):
        run(quartic, value, ULA(0.1), 5, [seeded()])
