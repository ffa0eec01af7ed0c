"""ODE2VAE: time of the latent part and of a whole training step, beside the way of the public code.

Baseline: the trace by one reverse pass an output inside the right-hand side, torchdiffeq's ``rk4``, and a loop over the
trajectories. Library: the trace in closed form, after the solve, and all trajectories at once. Both sides get the same
weights, networks and random draws, and run in one process on one thread. torchdiffeq's ``rk4`` is the 3/8 rule and the
library's the classical one, so in single precision they agree up to the step error as well (within 1e-5, checked); in
double precision the baseline's own classical loop must agree to rounding error.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from benchmarks import _ode2vae_baseline as plain
from benchmarks._channels_last import channels_last
from benchmarks._measure import Row, Timing, interleave, options, plot_costs, report, require_equal, row
from benchmarks._ode2vae_networks import ImageDecoder, ImageEncoder
from pyro_seq.data import Sequences
from pyro_seq.infer.objective import Objective
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.nn.bayesian import BayesianMLP
from pyro_seq.nn.emission import BernoulliEmission
from pyro_seq.nn.flow import Flow

SINGLE, DOUBLE = 1e-5, 1e-10
# Of millions of rectifiers, rounding puts a few on the other side of zero, and 500 steps add up their rounding: in
# single precision, the gradients of either side are then 1e-5 and more away from those in double precision.
SINGLE_LOOSE = 1e-4
TIME_STEP = 0.1


class LatentTask(NamedTuple):
    """Paths, log densities and their gradients, by either side.

    Attributes:
        field: Holds the sizes of the acceleration field.
        weights: (draw, 1, weight), a leaf.
        initial: (series, state), a leaf.
        times: (time,).
        path_cotangent: (draw, series, time, state), what the rest of a model would send back.
        density_cotangent: (draw, series, time).
    """

    field: BayesianMLP
    weights: Tensor
    initial: Tensor
    times: Tensor
    path_cotangent: Tensor
    density_cotangent: Tensor

    def library(self) -> list[Tensor]:
        """By one batched solve."""
        initial = self.initial.expand(len(self.weights), *self.initial.shape)
        flow = Flow(self.field.sizes[-1])
        solution = flow(self.field.function(self.weights), initial, self.times, has_volume=True)
        return self._with_gradients(solution.path, self._log_initial()[:, None] - solution.integral)

    def baseline(self, solve: plain.Solve = plain.three_eighths) -> list[Tensor]:
        """By reverse passes and a loop."""
        weights = self.weights[:, 0]
        path, density = plain.trajectories(
            weights, self.field.sizes, self.initial, self._log_initial(), self.times, solve
        )
        return self._with_gradients(path, density)

    def _log_initial(self) -> Tensor:
        return dist.Normal(torch.zeros_like(self.initial), 1.0).log_prob(self.initial).sum(-1)

    def _with_gradients(self, path: Tensor, density: Tensor) -> list[Tensor]:
        leaves = (self.weights, self.initial)
        gradients = torch.autograd.grad((path, density), leaves, (self.path_cotangent, self.density_cotangent))
        return [path.detach(), density.detach(), *gradients]


def latent_task(
    num_draws: int = 1, num_steps: int = 16, state_dim: int = 8, *, num_series: int = 25, dtype: torch.dtype
) -> LatentTask:
    """A field with two hidden layers of 50, and everything random that both sides share."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = BayesianMLP(2 * state_dim, state_dim).to(dtype)
    weights = field.loc.detach() + 0.05 * normal(num_draws, 1, field.num_weights)
    times = TIME_STEP * torch.arange(num_steps, dtype=dtype)
    path = normal(num_draws, num_series, num_steps, 2 * state_dim)
    density = normal(num_draws, num_series, num_steps)
    initial = normal(num_series, 2 * state_dim)
    return LatentTask(field, weights.requires_grad_(), initial.requires_grad_(), times, path, density)


class FirstFrame(nn.Module):
    """The public code's encoder as a part of the library's model: the whole initial state from one frame."""

    num_frames = 1

    def __init__(self, network: nn.Module, dim: int) -> None:
        super().__init__()
        self.network, self.dim = network, dim

    def forward(self, frames: Tensor, mask: Tensor, times: Tensor) -> dist.TorchDistribution:
        loc, log_scale = self.network(frames[:, 0])
        return dist.Normal(loc, log_scale.exp()).to_event(1)


class TrainingTask:
    """One step of Adam on rotating-digit-sized images, by either side, each with its own copy of the same networks.

    Args:
        num_series: Series in the minibatch.
        num_steps: Frames of each.
        total: Series in the training set.
        dtype: Precision of everything.
        is_channels_last: The library's copy keeps its channels last; the functions stay the same.
    """

    def __init__(
        self,
        num_series: int = 25,
        num_steps: int = 16,
        total: int = 500,
        *,
        dtype: torch.dtype,
        is_channels_last: bool = False,
    ) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            field, encoder, decoder = BayesianMLP(16, 8), ImageEncoder(16), ImageDecoder(8)
            images = torch.rand(num_series, num_steps, 1, 28, 28)
        self.sizes, self.total = field.sizes, total
        self.data = Sequences(images.to(dtype), index=torch.arange(num_series), total=total)
        parts = plain.Parts(encoder, decoder, field.loc, field.log_scale)
        self.parts = plain.Parts(*(copy.deepcopy(part).to(dtype) for part in parts[:2]), *_leaves(parts[2:], dtype))
        if is_channels_last:
            encoder.layers, decoder.layers = channels_last(encoder.layers), channels_last(decoder.layers)
        self.model = ODE2VAE(
            (1, 28, 28),
            8,
            vector_field=field,
            encoder=FirstFrame(encoder, 16),
            emission=BernoulliEmission(decoder),
            time_step=TIME_STEP,
            has_path_kl=True,
            has_instant_encoder=True,
        ).to(dtype)
        self.objective = Objective(self.model)
        networks = [*self.parts.encoder.parameters(), *self.parts.decoder.parameters()]
        self.plain_parameters = [self.parts.loc, self.parts.log_scale, *networks]
        self.parameters = [field.loc, field.log_scale, *encoder.parameters(), *decoder.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=1e-3)
        self.plain_optimizer = torch.optim.Adam(self.plain_parameters, lr=1e-3)

    def library(self) -> Tensor:
        """One step; the loss before it."""
        self.optimizer.zero_grad()
        loss = self.objective(self.data).total
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def baseline(self, solve: plain.Solve = plain.three_eighths) -> Tensor:
        """One step; the loss before it."""
        self.plain_optimizer.zero_grad()
        loss = plain.training_loss(self.parts, self.sizes, self.data.values, self.total, solve)
        loss.backward()
        self.plain_optimizer.step()
        return loss.detach()

    def both(self, solve: plain.Solve = plain.three_eighths) -> list[list[Tensor]]:
        """Loss and gradients of the library and of the baseline with the same draws; each takes one step."""
        results = []
        sides = ((self.library, self.parameters), (lambda: self.baseline(solve), self.plain_parameters))
        for step, parameters in sides:
            with torch.random.fork_rng():
                pyro.set_rng_seed(1)
                loss = step()
            # all at once: the biases before a batch normalisation have gradients of rounding error alone
            results.append([loss, torch.cat([parameter.grad.flatten() for parameter in parameters])])
        return results


def _leaves(values: Iterable[Tensor], dtype: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(value.detach().clone().to(dtype)) for value in values]


def main() -> None:
    quick = options("ode2vae", __doc__).quick
    rows = [_latent_row(draws, bound, 5 if quick else 25) for draws, bound in ((1, 4.0), (5, 10.0))]
    rows.append(_training_row("training step, same networks, L=1", quick, is_channels_last=False))
    rows.append(_training_row("training step, channels-last networks, L=1", quick, is_channels_last=True))
    rows += _scaling_rows(quick)
    report(
        "ode2vae",
        rows,
        notes=[
            "Baseline: trace by reverse passes, torchdiffeq rk4 (3/8 rule), a loop over trajectories; tanh, float32.",
            "With the same networks a training step gains the latent part alone: most of it is the decoder.",
            "Channels-last networks are this benchmark's, at equal values; a plain loop could use them as well.",
        ],
        packages=("torch", "torchdiffeq", "pyro-ppl"),
    )


def _latent_row(num_draws: int, bound: float, repeats: int) -> Row:
    name = f"latent part, forward and backward, L={num_draws}"
    exact = latent_task(num_draws, dtype=torch.float64)
    require_equal(name, exact.library(), exact.baseline(plain.classical), DOUBLE)
    task = latent_task(num_draws, dtype=torch.float32)
    difference = require_equal(name, task.library(), task.baseline(), SINGLE)
    times = interleave({"library": task.library, "baseline": task.baseline}, repeats)
    return row(name, times, bound=bound, difference=difference)


def _training_row(name: str, quick: bool, *, is_channels_last: bool) -> Row:
    num_series, repeats = (10, 3) if quick else (25, 15)
    exact = TrainingTask(3, 8, dtype=torch.float64, is_channels_last=is_channels_last)
    require_equal(name, *exact.both(plain.classical), DOUBLE)
    task = TrainingTask(num_series, dtype=torch.float32, is_channels_last=is_channels_last)
    library, baseline = task.both()
    require_equal(f"{name}, loss", library[:1], baseline[:1], SINGLE)
    difference = require_equal(f"{name}, gradient", library, baseline, SINGLE_LOOSE)
    times = interleave({"library": task.library, "baseline": task.baseline}, repeats)
    return row(name, times, bound=1.2, difference=difference)


def _scaling_rows(quick: bool) -> list[Row]:
    """Cost against one size at a time; the baseline stops after the first size that takes too long."""
    rows = []
    for file, label, sizes, make in (
        ("length", "frames", (16, 32, 64, 128, 256, 512), lambda n: latent_task(num_steps=n, dtype=torch.float32)),
        ("state", "state size", (2, 4, 8, 16, 32, 64), lambda n: latent_task(state_dim=n, dtype=torch.float32)),
        ("draws", "trajectories", (1, 2, 5, 10, 20), lambda n: latent_task(n, dtype=torch.float32)),
    ):
        curve = _curve(label, sizes, make, limit=0.6 if quick else 20.0, repeats=1 if quick else 5)
        rows += [row(f"latent part, {label} {size}", times, difference=difference) for size, times, difference in curve]
        curves = {
            side: zip(*[(size, times[side].cpu) for size, times, _ in curve if side in times], strict=True)
            for side in ("baseline", "library")
        }
        plot_costs(
            f"ode2vae_{file}",
            label,
            {side: tuple(points) for side, points in curves.items()},
            "ODE2VAE: paths, densities and gradients",
        )
    return rows


def _curve(
    label: str, sizes: Iterable[int], make: Callable[[int], LatentTask], *, limit: float, repeats: int
) -> list[tuple[int, dict[str, Timing], float | None]]:
    curve, has_baseline = [], True
    for size in sizes:
        task, difference = make(size), None
        sides = {"library": task.library}
        if has_baseline:
            sides["baseline"] = task.baseline
            difference = require_equal(f"{label} {size}", task.library(), task.baseline(), SINGLE_LOOSE)
        times = interleave(sides, repeats, warmup=0 if has_baseline else 1)
        has_baseline = has_baseline and times["baseline"].wall < limit
        curve.append((size, times, difference))
    return curve


if __name__ == "__main__":
    main()
