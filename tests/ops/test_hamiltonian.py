"""Hamiltonian chains: exact on normal targets, uniform ranks, which three wrong kernels do not have, adapted paths."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from pyro_seq.errors import ShapeError
from pyro_seq.ops import hamiltonian
from pyro_seq.ops._hamiltonian_scale import across, along, scale_of, without
from pyro_seq.ops.hamiltonian import (
    HamiltonianState,
    HamiltonianStep,
    PathAdaptation,
    hamiltonian_state,
    hamiltonian_step,
)

WIDTHS = torch.tensor([0.1, 1.0, 5.0], dtype=torch.float64)
Step = Callable[..., tuple[HamiltonianState, HamiltonianStep]]


def potential(value: Tensor) -> Tensor:
    """Of independent normal entries."""
    return 0.5 * (value / WIDTHS).square().sum(-1)


def ends(step: Step, *, num_chains: int = 8_000, num_paths: int = 8, step_size: float = 1.4) -> Tensor:
    """Where chains are that start at exact draws: exact draws again, if the kernel leaves the target as it is."""
    generator = torch.Generator().manual_seed(3)
    value = WIDTHS * torch.randn(num_chains, 3, dtype=torch.float64, generator=generator)
    state = hamiltonian_state(potential, value)
    for index in range(num_paths):
        noise = torch.randn(num_chains, 3, dtype=torch.float64, generator=generator)
        uniform = torch.rand(num_chains, dtype=torch.float64, generator=generator)
        state, _ = step(potential, state, WIDTHS, step_size, 1 + index % 4, noise, uniform)
    return state.value


def p_values(value: Tensor) -> list[float]:
    """Of each entry against its exact law."""
    return [float(stats.kstest((value / WIDTHS)[:, entry].numpy(), "norm").pvalue) for entry in range(3)]


def test_the_target_is_left_as_it_is() -> None:
    assert min(p_values(ends(hamiltonian_step))) > 1e-3


def unadjusted(*args: object) -> tuple[HamiltonianState, HamiltonianStep]:
    """Takes the end of every path."""
    *others, uniform = args
    return hamiltonian_step(*others, torch.zeros_like(uniform))  # type: ignore[arg-type]


def turned(function: Callable[[Tensor], Tensor], state: HamiltonianState, *args: object) -> object:
    """Follows the gradient uphill."""
    up = state._replace(gradient=-state.gradient)
    return hamiltonian_step(function, up, *args)  # type: ignore[arg-type]


def timid(*args: object) -> tuple[HamiltonianState, HamiltonianStep]:
    """Takes ends that lie higher half as often as it should."""
    *others, uniform = args
    return hamiltonian_step(*others, torch.where(uniform > 0.5, 1.0, uniform))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [unadjusted, turned, timid])
def test_a_wrong_kernel_is_found(wrong: Step) -> None:
    assert min(p_values(ends(wrong))) < 1e-6


def test_paths_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the momentum turned at its end, a path leads to its start: the leapfrog is reversible."""
    noise = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    start, never = hamiltonian_state(potential, WIDTHS.expand(5, 3).clone()), torch.zeros(5, dtype=torch.float64)
    there, step = hamiltonian_step(potential, start, WIDTHS, 0.3, 9, noise, never)
    back, again = hamiltonian_step(potential, there, WIDTHS, 0.3, 9, -step.momentum, never)
    torch.testing.assert_close(back.value, start.value)
    torch.testing.assert_close(again.momentum, -noise)
    assert step.num_steps == 9 and step.duration == pytest.approx(2.7)


def test_energy_error_shrinks_with_the_square_of_the_step() -> None:
    noise = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start, never = hamiltonian_state(potential, WIDTHS.expand(200, 3).clone()), torch.zeros(200, dtype=torch.float64)
    errors = []
    for count in (10, 20, 40):
        end, step = hamiltonian_step(potential, start, WIDTHS, 1.3 / count, count, noise, never)
        total = end.energy + 0.5 * step.momentum.square().sum(-1)
        errors.append(float((total - step.hamiltonian).abs().mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.02)


def test_a_path_that_leaves_the_finite_numbers_is_rejected_alone() -> None:
    def cliff(value: Tensor) -> Tensor:
        return potential(torch.where(value[..., :1] > 1.0, torch.nan, value))

    state = hamiltonian_state(cliff, torch.zeros(2, 3, dtype=torch.float64))
    noise = torch.tensor([[3.0, 0.0, 0.0], [0.1, 0.0, 0.0]], dtype=torch.float64)
    state, step = hamiltonian_step(cliff, state, torch.ones(3), 0.5, 1, noise, torch.zeros(2, dtype=torch.float64))
    assert step.is_divergent.tolist() == [True, False] and step.acceptance[0] == 0
    assert state.value[0].eq(0).all() and not state.value[1].eq(0).all()


def test_shapes() -> None:
    state = hamiltonian_state(potential, torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ShapeError, match=r"`noise` must have the shape \(2, 3\)"):
        hamiltonian_step(potential, state, WIDTHS, 0.1, 1, torch.zeros(3), torch.zeros(2))


@pytest.mark.parametrize("is_dense", [False, True])
def test_scale(is_dense: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.tensor([[2.0, 0.0], [3.0, 0.5]], dtype=torch.float64)
    draws = torch.randn(20_000, 2, dtype=torch.float64, generator=generator) @ factor.T + 7
    scale = scale_of(draws, is_dense=is_dense)
    expected = factor if is_dense else (factor @ factor.T).diagonal().sqrt()
    torch.testing.assert_close(scale, expected, rtol=0.03, atol=0.03)
    torch.testing.assert_close(without(scale, along(scale, draws)), draws)
    matrix = scale if is_dense else scale.diag()
    torch.testing.assert_close(across(scale, draws), draws @ matrix)
    few = scale_of(draws[:1].repeat(2, 1), is_dense=is_dense)  # nothing is known
    torch.testing.assert_close(few, torch.eye(2, dtype=torch.float64) if is_dense else torch.ones(2).double())


def adapted(target: Callable[[Tensor], Tensor], dim: int, num_steps: int = 300) -> PathAdaptation:
    """What 32 chains learn from a start at 0.1 in every direction."""
    generator = torch.Generator().manual_seed(0)
    state = hamiltonian_state(target, 0.1 * torch.randn(32, dim, dtype=torch.float64, generator=generator))
    one = torch.ones(dim, dtype=torch.float64)
    found = PathAdaptation(one, num_steps, target_accept=0.8, is_dense=False, most_leapfrogs=100)
    for _ in range(num_steps):
        noise = torch.randn(32, dim, dtype=torch.float64, generator=generator)
        uniform = torch.rand(32, dtype=torch.float64, generator=generator)
        before, count = state, found.next_leapfrogs()
        state, step = hamiltonian_step(target, before, found.scale, found.step_size, count, noise, uniform)
        found.update(before, state, step)
    return found


def test_scale_and_length_of_a_path_are_found() -> None:
    """In units of its scale a normal target asks for a path of a quarter turn or more on average."""
    found = adapted(potential, 3)
    torch.testing.assert_close(found.scale, WIDTHS, rtol=0.15, atol=0)
    assert math.pi / 2 < found.path_length < 1.5 * math.pi
    assert 0.3 < found.step_size < 2.0


def test_paths_grow_where_directions_hang_together() -> None:
    """No diagonal scale makes a narrow ridge round, so that paths must be longer than on a round target."""
    cov = torch.full((3, 3), 0.99, dtype=torch.float64) + 0.01 * torch.eye(3, dtype=torch.float64)
    precision = cov.inverse()
    ridge = adapted(lambda value: 0.5 * (value @ precision * value).sum(-1), 3)
    assert ridge.step_size < 0.5 and ridge.path_length > 1.3 * adapted(potential, 3).path_length


def test_bound_of_divergence_is_that_of_others() -> None:
    assert hamiltonian.HIGHEST_RISE == 1000.0
