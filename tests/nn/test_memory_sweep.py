"""Gradients by hand of an ODE-RNN are those of backpropagation through the solver and the cell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyro_seq.nn._memory_sweep import Memory
from pyro_seq.nn.mean_deviation import MeanDeviationCell
from pyro_seq.nn.ode_rnn import ODERNNEncoder
from pyro_seq.ops.odeint import RK4, Euler
from tests.operations import Operations

F64 = torch.float64
SERIES, STEPS, OBS, MEMORY = 4, 7, 2, 3


def encoder(cell: str, step_size: float | None = None) -> ODERNNEncoder:
    torch.manual_seed(0)
    own = MeanDeviationCell(2 * OBS, MEMORY, num_units=5) if cell == "mean and deviation" else None
    made = ODERNNEncoder((OBS,), 2, hidden_dim=MEMORY, cell=own, solver=Euler(step_size)).to(F64)
    for parameter in made.parameters():  # no gradient may be zero because a layer is
        nn.init.normal_(parameter, std=0.5)
    return made


def series(*, has_own_times: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, mask and times; the last series is hidden whole, the first at its end."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(SERIES, STEPS, 1, generator=generator) < 0.6).repeat(1, 1, OBS)
    mask[-1], mask[0, -2:], mask[1] = False, False, True
    frames = torch.randn(SERIES, STEPS, OBS, dtype=F64, generator=generator)
    times = torch.rand(SERIES if has_own_times else 1, STEPS, dtype=F64, generator=generator).sort(-1).values
    return torch.where(mask, frames, 0).requires_grad_(), mask, times.expand(SERIES, -1)


def found(made: ODERNNEncoder, *data: Tensor) -> list[Tensor]:
    memories = made.memories(*data)
    loss = memories.sin().square().sum()
    return [memories, *torch.autograd.grad(loss, [data[0], *made.field.parameters(), *made.cell.parameters()])]


@pytest.mark.parametrize("has_own_times", [False, True])
@pytest.mark.parametrize("step_size", [None, 0.05])
@pytest.mark.parametrize("cell", ["gated", "mean and deviation"])
def test_values_and_gradients_are_those_of_backpropagation(cell, step_size, has_own_times, monkeypatch) -> None:
    made, data = encoder(cell, step_size), series(has_own_times=has_own_times)
    swept = found(made, *data)
    monkeypatch.setattr(Memory, "takes", lambda *_: False)
    for result, expected in zip(swept, found(made, *data), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-12)
        assert expected.abs().sum() > 0


@pytest.mark.parametrize("cell", ["gated", "mean and deviation"])
def test_gradients_of_gradients_are_there(cell, monkeypatch) -> None:
    made, (frames, *rest) = encoder(cell), series()

    def curvature() -> Tensor:
        (slope,) = torch.autograd.grad(made.memories(frames, *rest).square().sum(), frames, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), made.field[0].weight)[0]

    swept = curvature()
    monkeypatch.setattr(Memory, "takes", lambda *_: False)
    torch.testing.assert_close(swept, curvature(), rtol=1e-11, atol=1e-12)


def operations(made: ODERNNEncoder) -> int:
    with Operations() as count:
        found(made, *series())
    return count.count


@pytest.mark.parametrize("cell", ["gated", "mean and deviation"])
def test_it_takes_fewer_operations(cell, monkeypatch) -> None:
    made = encoder(cell)
    swept = operations(made)
    monkeypatch.setattr(Memory, "takes", lambda *_: False)
    # what comes once, not at each step, is half of it at seven steps
    assert swept < 0.75 * operations(made)


def test_other_parts_go_the_plain_way() -> None:
    field = nn.Sequential(nn.Linear(3, 4), nn.Softsign(), nn.Linear(4, 3))
    hooked = nn.GRUCell(4, 3)
    hooked.register_forward_hook(lambda *_: None)
    plain = nn.Sequential(nn.Linear(3, 3))
    assert Memory.of(field, nn.GRUCell(4, 3), 3) is None and Memory.of(plain, hooked, 3) is None
    assert Memory.of(plain, nn.RNNCell(4, 3), 3) is None and Memory.of(plain, nn.GRUCell(4, 3), 3) is not None
    made = ODERNNEncoder((OBS,), 2, hidden_dim=MEMORY, solver=RK4(0.5)).to(F64)
    assert made.memories(*series()).shape == (SERIES, STEPS, MEMORY)
