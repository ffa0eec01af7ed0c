"""A Langevin step does what a plain loop does, with about as many operations, and notices all that is no number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pyro_seq.ops.langevin import MALA, ULA, run
from tests.operations import Operations


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_run_is_the_plain_loop() -> None:
    loc, steps, size = torch.randn(7, 3, dtype=torch.float64, generator=seeded()), 30, 0.6

    def potential(value: Tensor) -> Tensor:
        return (0.5 * (value - loc).square() + torch.nn.functional.softplus(value)).sum(-1)

    def with_gradient(value: Tensor) -> tuple[Tensor, Tensor]:
        value = value.detach().requires_grad_()
        energy = potential(value)
        return energy.detach(), torch.autograd.grad(energy.sum(), value)[0]

    source, value, accepted = seeded(), loc, 0.0
    energy, gradient = with_gradient(value)
    for _ in range(steps):
        noise = torch.randn(value.shape, dtype=value.dtype, generator=source)
        there = value - 0.5 * size**2 * gradient + size * noise
        energy_there, gradient_there = with_gradient(there)
        back = (value - there + 0.5 * size**2 * gradient_there) / size
        ratio = energy - energy_there + 0.5 * (noise.square() - back.square()).sum(-1)
        takes = torch.rand(energy.shape, dtype=value.dtype, generator=source) < ratio.exp()
        value = torch.where(takes[:, None], there, value)
        energy, gradient = (
            torch.where(takes, energy_there, energy),
            torch.where(takes[:, None], gradient_there, gradient),
        )
        accepted = accepted + ratio.clamp(max=0).exp() / steps
    for sizes in (None, torch.full((7,), size, dtype=torch.float64)):
        result = run(potential, loc, MALA(size), steps, seeded(), step_size=sizes)
        torch.testing.assert_close(result.state.value, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(result.diagnostics.acceptance, accepted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampler", [MALA(1e300), ULA(1e300)])
def test_a_proposal_that_is_no_number_diverges_where_energies_do_not_tell(sampler) -> None:
    start = torch.full((2, 3), 1e308, dtype=torch.float64)
    size = torch.tensor([1e308, 1.0], dtype=torch.float64)
    result = run(lambda value: 0 * value.clamp(-1, 1).sum(-1), start, sampler, 70, seeded(), step_size=size)
    assert result.state.value.isfinite().all()
    assert result.state.num_divergent[0] >= 1 and result.state.num_divergent[1] == 0
    assert result.state.is_frozen.tolist() == [isinstance(sampler, ULA), False]


def test_a_step_has_few_operations_and_reads_nothing() -> None:
    def potential(value: Tensor) -> Tensor:
        return value.square().sum(-1)

    counts = []
    for num_steps in (5, 25):
        with Operations() as counted:
            run(potential, torch.zeros(4, 2), MALA(0.3), num_steps, seeded())
        counts.append(counted)
    assert counts[0].num_reads == counts[1].num_reads
    # 32 of its own, of which 4 are views, and 9 of this potential with its gradient
    assert (counts[1].count - counts[0].count) / 20 <= 41
