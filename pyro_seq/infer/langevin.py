"""``Langevin``: a kernel of ``MCMC`` that runs chains for the latents of every series at once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from pyro.infer.mcmc.mcmc_kernel import MCMCKernel
from torch import Tensor
from tqdm.auto import tqdm

from pyro_seq._arguments import keep_whole
from pyro_seq._random import isolated_rng, mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError
from pyro_seq.infer.chains import ChainRun, Chains, warn_of_interrupt
from pyro_seq.infer.joint_target import AllSeries, langevin_target
from pyro_seq.infer.langevin_kernel import LangevinKernel
from pyro_seq.infer.series_target import SeriesTarget
from pyro_seq.model import SequenceModel
from pyro_seq.ops._langevin_adaptation import Adaptation, natural_step
from pyro_seq.ops._langevin_step import Stepper
from pyro_seq.ops.langevin import MALA, LangevinDiagnostics, LangevinState, Sampler, initial_state

Target = SeriesTarget | AllSeries
STARTS = ("normal", "prior", "guide")
_STARTS, _NOISE = 0, 1  # streams of random numbers
_NUM_TRIES = 20  # draws of a start until its density is finite
_BLOCK = 2**13  # random numbers that a series draws at a time
_LOW_ACCEPTANCE = 0.2
_ACCEPTANCE_NOISE = 0.5  # standard deviation for one draw; the mean of few draws is noisy
_SHARE_OF_LOW = 0.05  # of the chains; among thousands some are low by chance


@dataclass(frozen=True)
class Langevin:
    r"""Langevin chains for the latents of each series: (chain, series) independent targets, all moved at once.

    A step costs one gradient of the whole batch, and each target has a separate step size, so thousands of series take
    little more time than the slowest one. Latents that all series share couple the series: each chain then moves all
    latents jointly with one step size, and statistics are (chain, draw). `ChEES` takes longer paths for such models.

    Each series has separate random numbers, derived from the seed and ``data.index``, so a series gets the same draws
    as it would alone. A chain that becomes non-finite stops, or under MALA rejects the step, and is counted; the others
    continue. Statistics are kept as ``posterior.sample_stats``, (chain, draw, series): `acceptance_rate`, `lp`,
    `step_size`, `diverging`, `is_frozen`.

    Args:
        sampler: ``MALA()``, exact, with step sizes adapted to its acceptance; or ``ULA(step_size)``, biased.
        start: Where chains start: ``"normal"`` noise in the unconstrained space, as in the literature on latent
            energy-based models; draws of the ``"prior"`` or the ``"guide"`` (a warm start, if it has an encoder); or
            values by site, (chain, series, \*event). Alternatively, ``MCMC(..., start=posterior)`` uses draws of a fit,
            with their spread as the first scale. For multimodal posteriors this choice matters most.
        num_candidates: Number of draws of prior or guide per start, of which one is picked by its importance weight
            :math:`p(x, z) / q(z)`, so that few chains start in modes that do not explain the data. Each draw costs a
            pass of the model without a gradient.
        thinning: Keep every n-th draw.
        has_scale: Measure the scale of each latent entry in the warm-up, and scale the steps by it.

    Example:
        >>> posterior = fit(model, data, MCMC(Langevin(), num_samples=500, warmup_steps=500))  # doctest: +SKIP

    References:
        Roberts and Tweedie (1996), Exponential convergence of Langevin distributions and their discrete approximations.
        Pang, Han, Nijkamp, Zhu, Wu (2020), Learning latent space energy-based prior model.
        Rubin (1988), Using the SIR algorithm to simulate posterior distributions.
    """

    sampler: Sampler = MALA()
    _: KW_ONLY
    start: str | Mapping[str, Tensor] = "normal"
    num_candidates: int = 1
    thinning: int = 1
    has_scale: bool = True

    def __post_init__(self) -> None:
        if not callable(getattr(self.sampler, "decide", None)) or isinstance(self.sampler, type):
            raise DataError(f"`sampler` must be an object such as `MALA()` or `ULA(0.1)`. Got {self.sampler!r}.")
        if not isinstance(self.start, Mapping) and self.start not in STARTS:
            raise DataError(f"`start` must be one of {STARTS}, or values by site. Got {self.start!r}.")
        keep_whole(self, 1, "thinning", "num_candidates")
        if self.num_candidates > 1 and self.start not in ("prior", "guide"):
            raise DataError(
                "`num_candidates` picks among draws of the prior or the guide, whose density is known. Got start = "
                f"{self.start!r}. Set `start` to one of them, or leave `num_candidates` at 1."
            )

    def build(self, model: SequenceModel) -> MCMCKernel:
        """Kernel of one joint chain of all latents, for ``pyro.infer.MCMC``."""
        return LangevinKernel(model.model, sampler=self.sampler, has_scale=self.has_scale, max_plate_nesting=1)

    def chains(self, model: SequenceModel, data: Sequences, plan: ChainRun) -> Chains:
        """Run the chains of all series."""
        if plan.start is not None and self.start != "normal":
            raise DataError(
                f"Chains start either at a fit or by `Langevin(start={self.start!r})`. Got both. Leave one out."
            )
        target = langevin_target(model, data, plan.num_chains if plan.draws_shared else 0)
        state = self._started(target, plan)
        noise = _Noise(target.index, state.value, plan.seed)
        take = Stepper(target, self.sampler, has_frozen=bool(state.is_frozen.any()))
        state = self._warmed_up(take, state, noise, plan)
        rows: list[tuple[Tensor, ...]] = []
        try:
            for index in _counted(plan.num_samples * self.thinning, "draw", plan):
                before = state.num_divergent
                state = take(state, *noise.draw())
                if (index + 1) % self.thinning == 0:
                    is_divergent = state.num_divergent > before
                    rows.append((state.value, state.acceptance, -state.energy, state.step_size, is_divergent))
        except KeyboardInterrupt:
            if not rows:
                raise
            warn_of_interrupt(plan.num_chains, len(rows), plan)
        draws, *columns = (torch.stack(column, 1) for column in zip(*rows, strict=True))
        sites, _ = target.split(draws)
        stats = dict(zip(("acceptance_rate", "lp", "step_size", "diverging"), columns, strict=True))
        stats["is_frozen"] = state.is_frozen[:, None].expand(-1, len(rows), -1).clone()
        _report(stats["acceptance_rate"].mean(1), state, _LOW_ACCEPTANCE - _ACCEPTANCE_NOISE / len(rows) ** 0.5)
        shared = {name: value.expand(-1, len(rows), -1) for name, value in target.shared.items()}
        if isinstance(target, AllSeries):
            stats = {name: figures.squeeze(-1) for name, figures in stats.items()}
        return Chains(sites | shared, target.global_sites, stats)

    def drawn(self, target: Target, num_chains: int) -> Tensor:
        """Starts (chain, series, entry) drawn from prior or guide with the global random state."""
        return target.draw(num_chains, from_guide=self.start == "guide", num_candidates=self.num_candidates)

    def _warmed_up(self, take: Stepper, state: LangevinState, noise: _Noise, plan: ChainRun) -> LangevinState:
        warm_up = Adaptation(state, self.sampler, plan.warmup_steps, has_scale=self.has_scale)
        for _ in _counted(plan.warmup_steps, "warm-up", plan):
            state = warm_up.update(take(state, *noise.draw()))
        return state

    def _started(self, target: Target, plan: ChainRun) -> LangevinState:
        """States at starts with finite energies and gradients; others are drawn again."""
        first, scale = self._first_steps(target, plan)
        state = initial_state(target, self._starts(target, plan, 0), first, scale=scale)
        for attempt in range(1, _NUM_TRIES):
            if isinstance(self.start, Mapping) or not state.is_frozen.any():
                break
            again = torch.where(state.is_frozen[..., None], self._starts(target, plan, attempt), state.value)
            state = initial_state(target, again, first, scale=scale)
        if state.is_frozen.all():
            raise NumericalError(
                "No starting point with a finite density was found. Start where a fit is, `MCMC(..., start=fit(model, "
                "data, SVI(...)))` or `Langevin(start='guide')`, or check the scale of the data and of the noise."
            )
        return state

    def _first_steps(self, target: Target, plan: ChainRun) -> tuple[float, Tensor | None]:
        """Initial step size, and its scale: the spread of a fit that chains start from, if step sizes adapt."""
        if plan.start is None or not self.has_scale or self.sampler.target_accept is None:
            return self.sampler.step_size, None
        spread = target.join(plan.start).std(0)
        return natural_step(target.num_entries), torch.where(spread.isfinite() & (spread > 0), spread, 1.0)

    def _starts(self, target: Target, plan: ChainRun, attempt: int) -> Tensor:
        """Vectors (chain, series, entry) to start from."""
        if plan.start is not None:
            vectors = target.join(plan.start)
            return vectors[(torch.arange(plan.num_chains) + attempt * plan.num_chains) % len(vectors)]
        if isinstance(self.start, Mapping):
            start = target.join(self.start).to(target.data.values)
            if start.shape[:-2] != (plan.num_chains,):
                raise DataError(
                    f"`start` must have values (chain {plan.num_chains}, series, *event). Got the leading axes "
                    f"{tuple(start.shape[:-2])}."
                )
            return start
        if self.start == "normal":
            values = target.data.values
            shape = (plan.num_chains, target.num_entries)
            sources = _generators(target.index, plan.seed, _STARTS, attempt)
            noise = [torch.randn(shape, dtype=values.dtype, generator=source) for source in sources]
            return torch.stack(noise, 1).to(values.device)
        with isolated_rng(plan.seed, _STARTS, attempt):
            return self.drawn(target, plan.num_chains)


class _Noise:
    """Random numbers from a separate generator per series, drawn for many steps at a time."""

    def __init__(self, index: Tensor, value: Tensor, seed: int) -> None:
        self.sources = _generators(index, seed, _NOISE)
        self.value = value
        self.shape = (value.shape[0], *value.shape[2:])
        self.size = max(1, _BLOCK // max(1, torch.Size(self.shape).numel()))  # must not depend on other series
        self.block: list[tuple[Tensor, Tensor]] = []

    def draw(self) -> tuple[Tensor, Tensor]:
        """Normal (chain, series, entry) and uniform (chain, series) numbers for one step."""
        if not self.block:
            dtype, size = self.value.dtype, self.size
            normals = [torch.randn(size, *self.shape, dtype=dtype, generator=source) for source in self.sources]
            uniforms = [torch.rand(size, self.shape[0], dtype=dtype, generator=source) for source in self.sources]
            pair = (torch.stack(part, 2).to(self.value.device) for part in (normals, uniforms))
            self.block = list(zip(*(part.unbind(0) for part in pair), strict=True))[::-1]
        return self.block.pop()


def _generators(index: Tensor, seed: int, *stream: int) -> list[torch.Generator]:
    """One generator per series, seeded by its place in the data set."""
    return [torch.Generator().manual_seed(mixed_seed(seed, *stream, place)) for place in index.tolist()]


def _counted(num_steps: int, stage: str, plan: ChainRun) -> Any:
    return tqdm(range(num_steps), desc=stage, unit="step", disable=not plan.has_progress)


def _report(acceptance: Tensor, state: LangevinState, low: float) -> None:
    """Warn of unreliable chains."""
    diagnostics = LangevinDiagnostics(acceptance, state.step_size, state.num_divergent, state.is_frozen)
    if bool(state.is_frozen.any()) or float((acceptance < low).double().mean()) > _SHARE_OF_LOW:
        warnings.warn(
            f"Some Langevin chains cannot be trusted. {diagnostics.report(low)}\nIndices are (chain, "
            "series); look at `sample_stats`, adapt for longer, or start elsewhere.",
            stacklevel=2,
        )
