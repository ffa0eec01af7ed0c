"""Encoders that read a whole series backwards in time, with any times and gaps, into a vector at its start."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pyro_seq._host import in_both, on_host
from pyro_seq._nonfinite import is_chanced
from pyro_seq._recipes import rebuildable
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn._memory_sweep import Memory, Schedule
from pyro_seq.nn.conv import ConvTrunk
from pyro_seq.nn.encoder import Trunk
from pyro_seq.nn.fused import run_recurrent
from pyro_seq.nn.known_inputs import keep_input_dim
from pyro_seq.nn.mlp import mlp
from pyro_seq.nn.saved_state import came_later
from pyro_seq.nn.units import Standardise
from pyro_seq.ops._time_grid import cut
from pyro_seq.ops.odeint import Dopri5, Euler, Solver, odeint

_HEAD = 64  # width of the hidden layer after the memory


class StepReader(nn.Module):
    """Features of each step of a series: standardised values and their mask, optionally through a trunk.

    Inputs, which are known at every step, are appended.

    Args:
        obs_shape: Shape of one observation.
        trunk: Reads a window of one frame, such as ``MLPTrunk(1, obs_shape)``; by default convolutional for images,
            none for vectors.
        input_dim: Size of the inputs.
    """

    input_dim: int = 0

    def __init__(self, obs_shape: tuple[int, ...], trunk: Trunk | None = None, input_dim: int = 0) -> None:
        super().__init__()
        is_image = len(obs_shape) == 3
        self.units = Standardise()
        self.trunk = ConvTrunk(1, obs_shape) if is_image and trunk is None else trunk
        self.num_features = 2 * math.prod(obs_shape) if self.trunk is None else self.trunk.num_features
        keep_input_dim(self, input_dim)
        self.num_features += input_dim

    def forward(self, frames: Tensor, mask: Tensor, inputs: Tensor | None = None) -> Tensor:
        r"""Features (series, time, feature) of frames, mask (series, time, \*obs) and inputs (series, time, input)."""
        seen = mask.to(frames.dtype)
        frames = torch.where(mask, self.units(frames), 0).to(frames.dtype)
        if self.trunk is None:
            features = torch.cat([frames.flatten(2), seen.flatten(2)], -1)
        else:
            windows = (frames.flatten(0, 1)[:, None], seen.flatten(0, 1)[:, None])
            features = self.trunk(*windows, frames.new_zeros(len(windows[0]), 0)).unflatten(0, frames.shape[:2])
        return features if inputs is None else torch.cat([features, inputs.to(features.dtype)], -1)

    def reads(self, mask: Tensor) -> Tensor:
        r"""Steps to read, (series, time), from mask (series, time, \*obs): those with an observed entry.

        With inputs, all steps up to the last of these, because inputs during a gap explain the observations after it.
        """
        is_seen = mask.flatten(2).any(-1)
        return is_seen.flip(1).cummax(1).values.flip(1) if self.input_dim else is_seen


@rebuildable
class GaussianHead(nn.Module):
    r"""A normal distribution with independent entries from features f.

    .. math::
        N\left(m(f),\ \operatorname{diag} s^2(f)\right), \qquad [m, \log s](f) = A f + b + C \tanh(D f + e)

    The hidden layer starts with C = 0. It is needed to infer a state from a memory and the elapsed time: following a
    motion back in time is not a linear function of the two.

    Args:
        size_in: Size of the features.
        dim: Size of the vector.
        hidden_dim: Size of the hidden layer; 0 for none.
        initial_log_scale: Initial log standard deviation.
    """

    def __init__(self, size_in: int, dim: int, *, hidden_dim: int = 0, initial_log_scale: float = -2.0) -> None:
        super().__init__()
        self.linear = nn.Linear(size_in, 2 * dim)
        self.hidden = mlp((size_in, hidden_dim, 2 * dim)) if hidden_dim else None
        with torch.no_grad():
            self.linear.bias[dim:].fill_(initial_log_scale)
            self.linear.weight[dim:].mul_(0.1)
        if self.hidden is not None:
            nn.init.zeros_(self.hidden[-1].weight)  # type: ignore[arg-type]
            nn.init.zeros_(self.hidden[-1].bias)  # type: ignore[arg-type]
            came_later(self, self.hidden, "hidden")

    def forward(self, features: Tensor) -> dist.TorchDistribution:
        """Batch (...,), event (dim,), of features (..., feature)."""
        numbers = self.linear(features)
        loc, log_scale = (numbers if self.hidden is None else numbers + self.hidden(features)).chunk(2, -1)
        return dist.Normal(loc, log_scale.clamp(-10.0, 5.0).exp()).to_event(1)


@rebuildable
class RNNEncoder(nn.Module):
    r"""Gaussian over a vector at the start of a series, by a recurrent network from its last seen step to its first.

    .. math::
        h_k = \mathrm{GRU}\left([x_k, m_k, t_{k+1} - t_k],\ h_{k+1}\right), \qquad
        q(z \mid x) = \mathcal N\left(\mu(h_1, t_1 - t_0),\ \sigma^2(h_1, t_1 - t_0)\right)

    over the steps with an observed entry, numbered from 1; m is the mask, and t_0 the first time. Steps without an
    observed entry are skipped, so that adding hidden steps changes nothing. Cost: one fused call over the largest
    number of seen steps in a series. With inputs, which are joined to x_k, no step before the last seen one is skipped.

    Args:
        obs_shape: Shape of one observation.
        dim: Size of the vector.
        hidden_dim: Size of the network's memory h.
        trunk: Reads a window of one frame; by default convolutional for images, none for vectors.
        input_dim: Size of the inputs of the data, read with each step.

    References:
        Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations", NeurIPS 2018, section 5.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        dim: int,
        *,
        hidden_dim: int = 64,
        trunk: Trunk | None = None,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        _check_sizes(dim, hidden_dim)
        self.dim = dim
        self.reader = StepReader(obs_shape, trunk, input_dim)
        self.recurrence = nn.GRU(self.reader.num_features + 1, hidden_dim, batch_first=True)
        self.head = GaussianHead(hidden_dim + 1, dim, hidden_dim=_HEAD)

    @property
    def input_dim(self) -> int:
        """Size of the inputs that the encoder reads."""
        return self.reader.input_dim

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        self.reader.units.adapt(data)

    def forward(
        self, frames: Tensor, mask: Tensor, times: Tensor, inputs: Tensor | None = None
    ) -> dist.TorchDistribution:
        r"""Batch (series,), event (dim,), of frames and mask (series, time, \*obs) at model times (series, time).

        Inputs, if any, are (series, time, input).
        """
        is_seen = self.reader.reads(mask)
        steps, count = torch.arange(is_seen.shape[1], device=frames.device), is_seen.sum(-1)
        order = torch.where(is_seen, -steps, 1).argsort(dim=-1, stable=True)  # seen steps from the last to the first
        order = order[:, : max(1, int(count.max()))]  # later entries are never read
        clock = times.gather(1, order)
        gaps = torch.cat([torch.zeros_like(clock[:, :1]), -clock.diff(dim=-1)], -1)
        features = self.reader(frames, mask, inputs)
        features = features.gather(1, order[..., None].expand(-1, -1, features.shape[-1]))
        steps = torch.cat([features, gaps[..., None].to(features.dtype)], -1)
        memory, _ = run_recurrent(self.recurrence, steps)
        first = (count - 1).clamp(min=0)[:, None]
        memory = memory.gather(1, first[..., None].expand(-1, -1, memory.shape[-1]))[:, 0]
        features = torch.cat([memory, (clock.gather(1, first) - times[:, :1]).to(memory.dtype)], -1)
        return self.head(torch.where(count[:, None] > 0, features, 0).to(frames.dtype))


@rebuildable
class ODERNNEncoder(nn.Module):
    r"""Gaussian over a vector at the start of a series, by a memory that evolves between observations and jumps there.

    .. math::
        \frac{dh}{ds} = f(h) \ \text{between observations}, \qquad
        h \leftarrow \mathrm{GRU}\left([x_k, m_k],\ h\right) \ \text{at step } k, \qquad
        q(z \mid x) = \mathcal N\left(\mu(h_0), \sigma^2(h_0)\right)

    in the time s, which runs backwards from the last step to the first; m is the mask, and h_0 the memory at the first
    time. The memory stays zero until the last step with an observed entry is read; hidden steps after it have no
    effect. Cost: a Python loop over the steps, slower than the single call of `RNNEncoder`.

    The recursion is the authors'. Their parts, for vectors of length n and times that span r in model time, are ::

        cell=MeanDeviationCell(2 * n, hidden_dim),                 gates by perceptrons; only the mean moves in between
        head=nn.Sequential(nn.Linear(2 * hidden_dim, 100), nn.Tanh(), GaussianHead(100, dim)),
        solver=Euler(step_size=r / 50),

    from `pyro_seq.nn.mean_deviation` and `pyro_seq.nn.ode_rnn`. Remaining differences: their head uses the absolute
    value for the deviation, ours the exponential; their memory also evolves before the first reading; and they round
    the number of Euler steps down.

    Args:
        obs_shape: Shape of one observation.
        dim: Size of the vector.
        hidden_dim: Size of the memory h, or of its first part, which evolves; the rest is constant between steps.
        field: The field f. Default: a network with one hidden layer of 50.
        solver: Solver between steps. Default: one Euler step per interval.
        trunk: Reads a window of one frame; by default convolutional for images, none for vectors.
        input_dim: Size of the inputs of the data, read with each step; hidden steps are then read as well.
        cell: ``(features, memory) -> memory``, with attributes `input_size` and `hidden_size` (of the whole memory).
            Default: a `torch.nn.GRUCell`.
        head: Maps the memory (series, memory) to a distribution of vectors. Default: a `GaussianHead`.

    Raises:
        DataError: When a size is not positive, the cell does not fit, or the solver does not stop at every time.

    References:
        Rubanova, Chen, Duvenaud, "Latent ODEs for irregularly-sampled time series", NeurIPS 2019.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        dim: int,
        *,
        hidden_dim: int = 64,
        field: nn.Module | None = None,
        solver: Solver = Euler(),
        trunk: Trunk | None = None,
        input_dim: int = 0,
        cell: nn.Module | None = None,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(dim, hidden_dim)
        if isinstance(solver, Dopri5) or solver.is_dense:
            raise DataError(f"`solver` must stop at every time of every series. Got {solver}. Use Euler() or RK4().")
        self.dim, self.hidden_dim, self.solver = dim, hidden_dim, solver
        self.reader = StepReader(obs_shape, trunk, input_dim)
        self.field = mlp((hidden_dim, 50, hidden_dim)) if field is None else field
        self.cell = nn.GRUCell(self.reader.num_features, hidden_dim) if cell is None else cell
        self._memory_dim = _checked_memory(self.cell, self.reader.num_features, hidden_dim)
        self.head = GaussianHead(self._memory_dim, dim, hidden_dim=_HEAD) if head is None else head

    @property
    def input_dim(self) -> int:
        """Size of the inputs that the encoder reads."""
        return self.reader.input_dim

    def adapt(self, data: Sequences) -> None:
        """Set the units of the frames from the training data."""
        self.reader.units.adapt(data)

    def forward(
        self, frames: Tensor, mask: Tensor, times: Tensor, inputs: Tensor | None = None
    ) -> dist.TorchDistribution:
        r"""Batch (series,), event (dim,), of frames and mask (series, time, \*obs) at model times (series, time).

        Inputs, if any, are (series, time, input).
        """
        return self.head(self.memories(frames, mask, times, inputs)[:, -1].to(frames.dtype))

    def memories(self, frames: Tensor, mask: Tensor, times: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Memory (series, time, memory) after each step, from the last step to the first."""
        features = self.reader(frames, mask, inputs).flip(1)
        is_seen = self.reader.reads(mask).flip(1)
        is_moving = is_seen.cumsum(1) > is_seen.long()  # a step was already read before this one
        elapsed = in_both(lambda times: times[:, -1:] - times.flip(1), times)
        path = self._swept(features, is_seen, is_moving, elapsed)
        return self._marched(features, is_seen, is_moving, elapsed) if path is None else path

    def _marched(self, features: Tensor, is_seen: Tensor, is_moving: Tensor, elapsed: Tensor) -> Tensor:
        """Memories (series, time, memory), for any parts and solver, by backpropagation."""
        whole = (features, is_seen[..., None], is_moving[..., None])
        steps = list(zip(*(values.unbind(1) for values in whole), strict=True))
        rows = torch.arange(len(features), device=features.device)
        still = self._memory_dim - self.hidden_dim

        def jump(step: int | Tensor, memory: Tensor) -> Tensor:
            # an index inside the loop would copy the gradient of all features at every step
            read, has_read, has_moved = steps[step] if isinstance(step, int) else (part[rows, step] for part in whole)
            memory = torch.where(has_moved, memory, 0)
            return torch.where(has_read, self.cell(read, memory).to(memory), memory)

        def rate(_: Tensor, memory: Tensor) -> Tensor:
            return pad(self.field(memory[..., : self.hidden_dim]), (0, still)) if still else self.field(memory)

        start = features.new_zeros(len(features), self._memory_dim)
        return odeint(rate, start, elapsed, self.solver, jump=jump).path

    def _swept(self, features: Tensor, is_seen: Tensor, is_moving: Tensor, elapsed: Tensor) -> Tensor | None:
        """The same with hand-written gradients; None if these do not apply or a check fails."""
        memory = Memory.of(self.field, self.cell, self._memory_dim) if type(self.solver) is Euler else None
        if memory is None or not memory.takes(features) or not bool((on_host(elapsed).diff(dim=-1) > 0).all()):
            return None
        grid = cut(elapsed, self.solver.step_size, self.solver.nodes, features)
        if grid.ends.ndim > 1:
            return None

        def plain(features: Tensor) -> Tensor:
            return self._marched(features.movedim(0, 1), is_seen, is_moving, elapsed).movedim(1, 0)

        schedule = Schedule.of(grid, is_seen, is_moving, features)
        path = memory.path(features.movedim(1, 0), schedule, plain).movedim(0, 1)
        return path if is_chanced() or bool(path.detach().isfinite().all()) else None


def _check_sizes(dim: int, hidden_dim: int) -> None:
    if dim < 1 or hidden_dim < 1:
        raise DataError(f"`dim` and `hidden_dim` must be positive. Got {dim} and {hidden_dim}.")


def _checked_memory(cell: nn.Module, num_features: int, hidden_dim: int) -> int:
    """Size of the memory of a cell."""
    features, memory = getattr(cell, "input_size", None), getattr(cell, "hidden_size", None)
    if features != num_features or not isinstance(memory, int) or memory < hidden_dim:
        raise DataError(
            f"`cell` must have `input_size` {num_features}, values and mask or what the trunk makes of them, with "
            f"inputs, and `hidden_size` {hidden_dim}, that of `hidden_dim`, or more. Got {features} and {memory} of "
            f"{type(cell).__name__}. Make it of these sizes."
        )
    return memory
