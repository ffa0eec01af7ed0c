"""``SGLD``: stochastic gradient Langevin dynamics, chains that use one minibatch per step."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_seq._arguments import is_positive, keep_whole, require
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.infer.chains import ChainRun, require_whole, warn_of_interrupt
from pyro_seq.infer.joint_target import JointTarget
from pyro_seq.infer.starts import joint_starts, starting_draws
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior, StoredPosterior, reading
from pyro_seq.training.trainer import Trainer

_NOISE = 1  # stream of random numbers
_MEMORY = 0.99  # of the running mean of squared gradients, as in RMSprop
_ALLOWED = 0.5  # share of the steps that may fail before the run is aborted


@dataclass(frozen=True)
class SGLD:
    r"""Stochastic gradient Langevin dynamics: draws of all latents at the cost of one minibatch per step.

    With step size s, scale c, a minibatch B of n among N series and :math:`\varepsilon \sim \mathcal N(0, I)`,

    .. math::
        w' = w + \tfrac{s^2}{2} c^2 \nabla_w \Big[\log p(w) + \tfrac Nn \sum_{i \in B} \log p(x_i, z_i \mid w)\Big]
        + s\, c\, \varepsilon, \qquad
        z_i' = z_i + \tfrac{s^2}{2} c^2 \nabla_{z_i} \log p(x_i, z_i \mid w) + s\, c\, \varepsilon, \quad i \in B

    for the shared latents w and the latents of the minibatch's series; the latents of other series stay unchanged in
    that step. The discretisation error is not corrected: the draws follow a distribution near the posterior, widened by
    the step size and the minibatch noise. For a normal posterior of precision :math:`\lambda` whose minibatch gradients
    have variance V around the full gradient, the stationary variance is

    .. math::
        \frac{s^2 + s^4 V / 4}{1 - (1 - s^2 \lambda / 2)^2} \quad \text{for } \lambda^{-1}.

    Use it if a gradient over all series is too expensive, and compare two step sizes; otherwise use `MCMC` with
    `ChEES`, which is exact. All chains use the same minibatches and share their noise, so R-hat cannot detect it.

    Args:
        num_samples: Draws kept from each chain.
        warmup_steps: Steps before the first draw; they are dropped.
        step_size: s, in units of the scale.
        batch_size: Series per minibatch, drawn anew in each step; all series by default.
        num_chains: Chains, all moved at once on the same minibatch.
        thinning: Keep every n-th draw.
        num_cycles: Cosine cycles of the step size, from s to 0, after the warm-up: long steps find another mode, short
            steps draw from it. Draws are kept in the second half of each cycle, so the run takes twice as many steps.
            By default the step size is constant.
        has_scale: Set the scale in the warm-up from the running mean of squared gradients, :math:`c = 1 / \sqrt v`, so
            that the minibatch noise has the same share in every direction. The scale is then fixed, so that, unlike in
            pSGLD, the dynamics lack no term. Without it the scale is the spread of `start`, or 1.
        start: A fit of the same model and series: chains start at its draws, in units of their spread.

    Raises:
        NumericalError: When most steps have non-finite gradients.

    Example:
        >>> method = SGLD(num_samples=500, warmup_steps=500, step_size=0.1, batch_size=50)
        >>> posterior = fit(model, data, method)  # doctest: +SKIP

    References:
        Welling and Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics.
        Ahn, Korattikara and Welling (2012), Bayesian posterior sampling via stochastic gradient Fisher scoring.
        Li, Chen, Carlson and Carin (2016), Preconditioned stochastic gradient Langevin dynamics.
        Zhang, Li, Zhang, Chen and Wilson (2020), Cyclical stochastic gradient MCMC for Bayesian deep learning.
    """

    num_samples: int
    _: KW_ONLY
    warmup_steps: int
    step_size: float
    batch_size: int | None = None
    num_chains: int = 4
    thinning: int = 1
    num_cycles: int | None = None
    has_scale: bool = False
    start: Posterior | None = None

    def __post_init__(self) -> None:
        keep_whole(self, 0, "warmup_steps")
        keep_whole(self, 1, "num_samples", "batch_size", "num_chains", "thinning", "num_cycles")
        require(is_positive(self.step_size), "step_size", "a positive number", self.step_size)
        require(isinstance(self.has_scale, bool), "has_scale", "True or False", self.has_scale)
        is_fit = self.start is None or (
            callable(getattr(self.start, "draws", None)) and not isinstance(self.start, type)
        )
        require(is_fit, "start", "what `fit` returned, or absent", self.start)
        if self.num_cycles is not None and self.num_samples % self.num_cycles:
            raise DataError(
                f"`num_samples` must be a multiple of `num_cycles`. Got {self.num_samples} and {self.num_cycles}."
            )
        if self.has_scale and not self.warmup_steps:
            raise DataError("`has_scale` measures gradients in the warm-up. Got `warmup_steps` = 0. Raise it.")

    def run(
        self, model: SequenceModel, data: Sequences, *, validation: Sequences | None, seed: int, trainer: Trainer
    ) -> StoredPosterior:
        """Run the chains; called by `fit`."""
        require_whole(data, "SGLD")
        if validation is not None:
            raise UnsupportedError("SGLD has no use for `validation`: it draws for the fitted series. Leave it out.")
        if self.batch_size is not None and self.batch_size > data.num_series:
            raise DataError(
                f"`batch_size` must be at most the number of series, {data.num_series}. Got {self.batch_size}."
            )
        model.take_units(data)
        plan = ChainRun(self.num_samples, self.warmup_steps, self.num_chains, seed, trainer.progress)
        with reading(model):
            target = JointTarget(model, data)
            if self.start is not None:
                plan = plan._replace(start=starting_draws(self.start, data, target.sites, self.num_chains, seed))
            walk = _Walk(self, target, plan)
            kept = self._kept(walk, plan)
        draws = {name: torch.stack([values[name] for values, _, _ in kept], 1) for name in target.sites}
        sites, _ = target.constrained(draws, 2)
        steps, failed = torch.stack([size for _, size, _ in kept], 1), torch.stack([bad for *_, bad in kept], 1)
        return StoredPosterior(model, data, sites, target.shared, {"step_size": steps, "diverging": failed})

    def _kept(self, walk: _Walk, plan: ChainRun) -> list[tuple[dict[str, Tensor], Tensor, Tensor]]:
        """Kept positions of the chains, step sizes, and which chains did not move since the previous one."""
        for _ in tqdm(range(self.warmup_steps), desc="warm-up", unit="step", disable=not plan.has_progress):
            walk.step(self.step_size, is_warm=False)
        rows: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
        length = self.num_samples * self.thinning
        if self.num_cycles is not None:
            length *= 2
        failed = walk.failed.clone()
        try:
            for index in tqdm(range(length), desc="draw", unit="step", disable=not plan.has_progress):
                size, is_kept = self._size(index, length)
                walk.step(size, is_warm=True)
                if is_kept:
                    sizes = torch.full_like(walk.failed, size)
                    rows.append((dict(walk.values), sizes, walk.failed > failed))
                    failed = walk.failed.clone()
        except KeyboardInterrupt:
            if not rows:
                raise
            warn_of_interrupt(plan.num_chains, len(rows), plan)
        if bool((walk.failed > _ALLOWED * walk.count).any()):
            raise NumericalError(
                f"Most steps of {int((walk.failed > _ALLOWED * walk.count).sum())} of {plan.num_chains} chains had no "
                f"finite gradient. Lower `step_size`, {self.step_size:g}, or start at a fit."
            )
        return rows

    def _size(self, index: int, length: int) -> tuple[float, bool]:
        """Step size of a step, and whether the draw after it is kept."""
        if self.num_cycles is None:
            return self.step_size, (index + 1) % self.thinning == 0
        cycle = length // self.num_cycles
        place = index % cycle
        size = self.step_size * math.sqrt(0.5 * (1 + math.cos(math.pi * place / cycle)))  # of s^2, as in the paper
        return size, place >= cycle // 2 and (place + 1 - cycle // 2) % self.thinning == 0


class _Walk:
    """All chains, and how they move.

    Attributes:
        values: Sites of real numbers, (chain, ...).
        failed: Number of failed steps of each chain, (chain,).
        count: Number of steps so far.
    """

    def __init__(self, method: SGLD, target: JointTarget, plan: ChainRun) -> None:
        self.method, self.target, self.count = method, target, 0
        self.values = target.parts(joint_starts(target, plan).value)
        self.failed = next(iter(self.values.values())).new_zeros(plan.num_chains)
        self.generator = torch.Generator().manual_seed(mixed_seed(plan.seed, _NOISE))
        spreads = {} if plan.start is None or method.has_scale else target.real(plan.start)
        self.scales = {
            name: _spread(spreads[name]) if spreads else torch.ones_like(value[0])
            for name, value in self.values.items()
        }
        self.squares = {name: torch.zeros_like(value[0]) for name, value in self.values.items()}
        self.visits = {name: torch.zeros_like(value[0]) for name, value in self.values.items()}

    def step(self, size: float, *, is_warm: bool) -> None:
        """Move the shared latents and those of the next minibatch."""
        data, chosen = self.target.data, None
        if self.method.batch_size is not None and self.method.batch_size < data.num_series:
            order = torch.randperm(data.num_series, generator=self.generator)
            chosen = order[: self.method.batch_size].sort().values.to(data.device)
        self.count += 1
        gradients = self._gradients(chosen)
        is_good = torch.stack([part.flatten(1).isfinite().all(1) for part in gradients.values()]).all(0)
        self.failed += ~is_good
        for name, gradient in gradients.items():
            place = slice(None) if chosen is None or name in self.target.shared else chosen
            if self.method.has_scale and not is_warm:
                self._measure(name, place, gradient)
            scale = self.scales[name][place]
            noise = torch.randn(gradient.shape, dtype=gradient.dtype, generator=self.generator).to(gradient.device)
            move = -0.5 * (size * scale).square() * gradient + size * scale * noise
            move = torch.where(is_good.reshape(-1, *[1] * (move.ndim - 1)), move, 0.0)
            value = self.values[name].clone()
            value[:, place] += move
            self.values[name] = value

    def _gradients(self, chosen: Tensor | None) -> dict[str, Tensor]:
        """Gradients of the energy with respect to each site; for per-series sites, only of the chosen series."""
        whole, shared = self.target.data, self.target.shared
        data = whole if chosen is None else self.target.model.prepare(whole.minibatch(chosen))
        with torch.enable_grad():
            real = {
                name: (value if chosen is None or name in shared else value[:, chosen]).detach().requires_grad_()
                for name, value in self.values.items()
            }
            found = torch.autograd.grad(self.target.energies(real, data).sum(), list(real.values()))
        weight = data.total / data.num_series  # only its series informs a per-series latent: undo the minibatch weight
        return {name: part if name in shared else part / weight for name, part in zip(real, found, strict=True)}

    def _measure(self, name: str, place: slice | Tensor, gradient: Tensor) -> None:
        """Update the running mean of squared gradients, averaged over chains, and the scale."""
        self.visits[name][place] += 1
        square = gradient.square().mean(0).nan_to_num(0, 0, 0)
        self.squares[name][place] = _MEMORY * self.squares[name][place] + (1 - _MEMORY) * square
        mean = self.squares[name] / (1 - _MEMORY ** self.visits[name].clamp(min=1))
        root = mean.sqrt()
        self.scales[name] = torch.where(root > 0, 1 / root, 1.0)


def _spread(draws: Tensor) -> Tensor:
    """Standard deviation over draws; 1 where it is zero or not finite."""
    spread = draws.std(0)
    return torch.where(spread.isfinite() & (spread > 0), spread, 1.0)
