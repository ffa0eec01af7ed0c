"""The ODE-RNN encoder, with the authors' cell and gated units of torch, beside plain loops over the times."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks._speed_rows import LIBRARY, LOOP, Work
from pyro_seq.nn.mean_deviation import MeanDeviationCell
from pyro_seq.nn.ode_rnn import GaussianHead, ODERNNEncoder


class Sizes(NamedTuple):
    """Of a task: series, times, observed variables, memory, and units of the field's hidden layer."""

    num_series: int
    num_steps: int
    obs_dim: int
    memory: int
    units: int


SIZES = {"toy": Sizes(50, 100, 1, 20, 100), "hopper": Sizes(50, 100, 14, 30, 300)}
QUICK_SIZES = {"toy": Sizes(3, 5, 1, 4, 6)}


def works(is_quick: bool) -> list[Work]:
    """A pass and its gradients at each size, half of the steps hidden."""
    found = []
    for name, sizes in (QUICK_SIZES if is_quick else SIZES).items():
        for cell in ("authors' cell", "GRU cell"):
            task = Task(sizes, has_authors_cell=cell == "authors' cell")
            sides = {LIBRARY: task.library, LOOP: task.plain}
            label = f"ODE-RNN encoder, {cell}, {name} size, {sizes.num_series} series of {sizes.num_steps}"
            found.append(Work(label, sides, sides, tolerance=1e-4, repeats=3 if is_quick else 5))
    return found


class Task:
    """An encoder, and series with uneven times that all share, of whose steps half are hidden.

    Args:
        sizes: How large.
        has_authors_cell: Whether the memory is a mean and a deviation.
    """

    def __init__(self, sizes: Sizes, *, has_authors_cell: bool) -> None:
        num_series, num_steps, obs_dim, memory, units = sizes
        generator = torch.Generator().manual_seed(0)
        times = torch.rand(num_steps, generator=generator, dtype=torch.float64).sort().values
        self.times = (5 * times).expand(num_series, -1).contiguous()
        self.mask = (torch.rand(num_series, num_steps, 1, generator=generator) < 0.5).repeat(1, 1, obs_dim)
        self.frames = torch.where(self.mask, torch.randn(self.mask.shape, generator=generator), 0)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            field = nn.Sequential(nn.Linear(memory, units), nn.Tanh(), nn.Linear(units, memory))
            cell = MeanDeviationCell(2 * obs_dim, memory) if has_authors_cell else None
            head = nn.Sequential(nn.Linear(2 * memory, 100), nn.Tanh(), GaussianHead(100, 10)) if cell else None
            self.encoder = ODERNNEncoder((obs_dim,), 10, hidden_dim=memory, field=field, cell=cell, head=head)

    def library(self) -> list[Tensor]:
        """By the encoder."""
        return self._with_gradients(lambda: self.encoder(self.frames, self.mask, self.times).base_dist.loc)

    def plain(self) -> list[Tensor]:
        """By a loop from the last time to the first, as public code has it: move, read, keep where nothing was seen."""
        return self._with_gradients(self._loop)

    def _loop(self) -> Tensor:
        encoder, size = self.encoder, self.encoder.hidden_dim
        cell = encoder.cell
        memory = self.frames.new_zeros(len(self.frames), cell.hidden_size)
        has_read = memory.new_zeros(len(memory), 1)
        before = float(self.times[0, -1])
        for step in reversed(range(self.times.shape[1])):
            now = float(self.times[0, step])
            moved = memory[:, :size] + (before - now) * encoder.field(memory[:, :size])
            memory = torch.cat([moved, memory[:, size:]], -1) * has_read
            seen = self.mask[:, step].to(memory.dtype)
            features = torch.cat([self.frames[:, step], seen], -1)
            is_seen = seen[:, :1]
            read = _read(cell, features, memory) if isinstance(cell, MeanDeviationCell) else cell(features, memory)
            memory = is_seen * read + (1 - is_seen) * memory
            has_read, before = torch.maximum(has_read, is_seen), now
        return encoder.head(memory).base_dist.loc

    def _with_gradients(self, call: Callable[[], Tensor]) -> list[Tensor]:
        self.encoder.zero_grad()
        loc = call()
        loc.square().sum().backward()
        gradients = [part.grad.flatten() for part in self.encoder.parameters() if part.grad is not None]
        return [loc.detach(), torch.cat(gradients)]


def _read(cell: MeanDeviationCell, features: Tensor, memory: Tensor) -> Tensor:
    """The gated unit of the paper, equation by equation."""
    mean, deviation = memory.chunk(2, -1)
    joint = torch.cat([mean, deviation, features], -1)
    update, reset = torch.sigmoid(cell.update(joint)), torch.sigmoid(cell.reset(joint))
    proposal = cell.proposal(torch.cat([mean * reset, deviation * reset, features], -1))
    new_mean, new_deviation = proposal.chunk(2, -1)
    mean = (1 - update) * new_mean + update * mean
    deviation = (1 - update) * new_deviation.abs() + update * deviation
    return torch.cat([mean, deviation.abs()], -1)
