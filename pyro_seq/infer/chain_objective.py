"""The objective of `MaximumLikelihood`: the joint density at draws of posterior chains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_seq._nonfinite import is_chanced
from pyro_seq.data import Sequences
from pyro_seq.distributions.energy_based import EnergyBased, energy_based
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.chain_store import ChainStore
from pyro_seq.infer.gauss_newton import GaussNewton
from pyro_seq.infer.objective import Objective
from pyro_seq.infer.parameter_groups import ParameterGroups
from pyro_seq.infer.series_target import SeriesTarget
from pyro_seq.model import SequenceModel, is_local, is_random, local_parameters
from pyro_seq.ops.langevin import LangevinState, run
from pyro_seq.posterior import reading
from pyro_seq.training.gradient_method import frozen
from pyro_seq.training.plan import Loss
from pyro_seq.training.schedules import Schedule

_SHARE_OF_BAD = 0.5  # share of the chains of a batch that must fail before a warning
_STUCK = (
    "{share:.0%} of the posterior chains of a batch could not move: their density is not finite where they stand, or "
    "steps are far too long (step size {size:.3g}). ULA keeps its step size: lower it. MALA shortens it from visit to "
    "visit, so that this should end by itself; see `acceptance` and `divergent` in the history. If it does not, start "
    "nearer to the posterior, by persistent chains or from the guide, and check the scale of the data and the noise."
)


class Visits(NamedTuple):
    """Options of the posterior chains in training, which take a few steps at each visit of a series.

    Attributes:
        num_steps: Langevin steps per visit.
        num_chains: Chains per series.
        is_persistent: Whether chains continue from one visit to the next.
        warmup_steps: Training steps on the evidence lower bound before the first chain.
        has_guide: Whether the guide is trained too.
        preconditioner: Gives directions and lengths of the steps.
        energy_penalty: Weight of the squared energies.
        guide_loss: Loss of the guide, "bound" or "draws".
        scales: Weights of the model's regularisers at the chains' draws; 0 for regularisers that are not named.
    """

    num_steps: int
    num_chains: int
    is_persistent: bool
    warmup_steps: int
    has_guide: bool
    preconditioner: GaussNewton | None
    energy_penalty: float
    guide_loss: str = "bound"
    scales: Mapping[str, float | Schedule] = MappingProxyType({})


class ChainObjective(nn.Module):
    r"""Minus the mean joint log density of latents and data, at draws of the posterior, in nats per series.

    .. math::
        L = -\frac1N \sum_i \log p_\theta(x_i, z_i), \qquad z_i \sim p_\theta(z \mid x_i) \text{ held fixed}

    By Fisher's identity its gradient is that of minus the log evidence. The normaliser of an energy-based prior has
    the value 0 and the right gradient. In evaluation mode, for validation, it is minus the log likelihood of the
    observations at draws of `inference`, because joint densities under different energies cannot be compared.

    Args:
        model: Model whose parameters become parameters of this module.
        data: The training set, or a few series of it as a minibatch.
        groups: Parameters trained by the joint density and by the guide's loss.
        visits: Options of the chains.
        inference: Infers series outside the training set; training uses its kernel too.
    """

    num_divergent: Tensor
    num_frozen: Tensor

    def __init__(
        self, model: SequenceModel, data: Sequences, groups: ParameterGroups, visits: Visits, inference: ChainPosterior
    ) -> None:
        super().__init__()
        self.model = model
        self.visits, self.inference, self.groups = visits, inference, groups
        self.sampler = inference.kernel.sampler
        self._target = SeriesTarget(model, data)
        size = self._target.num_entries if visits.is_persistent else 0
        self.store = ChainStore(data.total, visits.num_chains, size, step_size=self.sampler.step_size, dtype=data.dtype)
        self.register_buffer("num_divergent", torch.zeros((), dtype=torch.long))
        self.register_buffer("num_frozen", torch.zeros((), dtype=torch.long))
        self._warned: set[str] = set()

    def forward(self, data: Sequences, step: int = 0) -> Loss:
        """Evaluate at `data`, a minibatch of the training set or, in evaluation mode, any other series."""
        if not self.training:
            return self._validation(data)
        if self.visits.is_persistent and _is_distributed():
            raise UnsupportedError("Persistent chains live on one device. Train on one, or set `is_persistent=False`.")
        if step < self.visits.warmup_steps:
            return Objective(self.model, scales=self.visits.scales)(data, step)
        with torch.autocast(data.device.type, enabled=False):
            values, part, figures = self._chains(data)
        terms, priors, trace = self._joint(part, values)
        total = torch.stack(list(terms.values())).sum()
        for name, prior in priors.items():
            figures |= self._drift(name, prior, values[name])
            if self.visits.energy_penalty:
                total = total + self.visits.energy_penalty * prior.penalty(values[name]).mean()
        is_taught_by_draws = self.visits.has_guide and self.visits.guide_loss == "draws"
        guide = self._guide_trace(part, values) if self.visits.scales or is_taught_by_draws else poutine.Trace()
        for name, term in self._regularisers(part, trace, guide).items():
            scale = self.visits.scales[name]
            total = total + (scale(step) if callable(scale) else scale) * term
            figures[name] = term.detach()
        if self.visits.has_guide:
            learns = self._surprise(values, guide) if is_taught_by_draws else self._bound(data, step)
            total = total + (learns - learns.detach())  # adds the guide's gradient, not its value
            figures[self.visits.guide_loss] = learns.detach()
        return Loss(total, terms | figures)

    # ------------------------------------------------------------------ chains

    def _chains(self, data: Sequences) -> tuple[dict[str, Tensor], Sequences, dict[str, Tensor]]:
        """Draws by site (chain, series, *event) of all series with valid chains, these series, and statistics."""
        with reading(self.model):
            target = self._at(data)
            start = self._starts(target)
            move = None if self.visits.preconditioner is None else self.visits.preconditioner.map(target, start)
            potential = target if move is None else move.pulled_back(target)
            result = run(
                potential,
                start if move is None else torch.zeros_like(start),
                self.sampler,
                self.visits.num_steps,
                torch.Generator(start.device).manual_seed(int(torch.randint(2**62, ()))),
                step_size=self.store.step_sizes(data.index),
            )
        state = result.state if move is None else result.state._replace(value=move(result.state.value))
        is_good = state.energy.isfinite() & state.gradient.isfinite().all(-1)
        acceptance = result.diagnostics.acceptance
        self._remember(data, state, is_good, acceptance)
        if is_chanced():
            with torch.no_grad():
                sites, _ = target.split(torch.where(is_good[..., None], state.value, torch.nan))
            return sites, data, self._figures(data, state, acceptance)
        keep = is_good.all(0)
        if not keep.any():
            raise NumericalError("no posterior chain of this batch has a finite density where it stands")
        with torch.no_grad():
            sites, _ = target.split(state.value[:, keep])
        part = data if keep.all() else data.minibatch(keep.nonzero()[:, 0])
        return sites, part, self._figures(data, state, acceptance)

    def _at(self, data: Sequences) -> SeriesTarget:
        if data.num_steps == self._target.data.num_steps:
            return self._target.on(data)
        self._target = SeriesTarget(self.model, data)  # a view changes the length of latents along time
        size = self.store.values.shape[-1]
        if self.visits.is_persistent and self._target.num_entries != size:
            raise UnsupportedError(
                "Chains that go on from visit to visit need as many latents at each. Under `views` a minibatch has "
                f"{data.num_steps} steps and {self._target.num_entries} latents a series, the training set {size}, for "
                f"{type(self.model).__name__} has latents along time. Set `is_persistent=False`, or leave out the view "
                "that shortens."
            )
        return self._target

    def _starts(self, target: SeriesTarget) -> Tensor:
        index, shape = target.data.index, (self.visits.num_chains, target.data.num_series, target.num_entries)
        if self.visits.is_persistent and self.store.all_started(index):
            return self.store.take(index, target.data.values.new_zeros(()))
        kernel = self.inference.kernel
        is_noise = kernel.start == "normal"
        fresh = torch.randn(shape).to(target.data.values) if is_noise else kernel.drawn(target, self.visits.num_chains)
        return self.store.take(index, fresh) if self.visits.is_persistent else fresh

    def _remember(self, data: Sequences, state: LangevinState, is_good: Tensor, acceptance: Tensor) -> None:
        if self.visits.is_persistent:
            self.store.put(data.index, state.value, is_good)
        counts = is_good.all() | (not is_chanced())  # otherwise the visit is repeated
        if self.sampler.target_accept is not None:
            self.store.adapt(data.index, counts * (acceptance.mean(0) - self.sampler.target_accept))
        self.num_divergent += counts * state.num_divergent.sum()
        self.num_frozen += counts * state.is_frozen.sum()
        if is_chanced():
            return
        is_stuck = state.is_frozen | (state.num_divergent >= self.visits.num_steps)
        share = float(is_stuck.double().mean())
        if share >= _SHARE_OF_BAD:
            self._warn("stuck", _STUCK.format(share=share, size=float(state.step_size.median())))

    def _figures(self, data: Sequences, state: LangevinState, acceptance: Tensor) -> dict[str, Tensor]:
        return {
            "acceptance": acceptance.mean(),
            "step_size": state.step_size.median(),
            "divergent": self.num_divergent.double(),
            "frozen": self.num_frozen.double(),
        }

    # ------------------------------------------------------------------ densities

    def _joint(
        self, data: Sequences, values: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, EnergyBased], poutine.Trace]:
        """Minus the mean log density of each site, the energy-based priors that are trained, and the trace."""
        with local_parameters():
            trace = poutine.trace(poutine.condition(self.model.model, data=dict(values))).get_trace(data)
        terms, priors = {}, {}
        for name, site in trace.nodes.items():
            if not is_random(site) or not is_local(site):
                continue
            terms[name] = -site["fn"].log_prob(site["value"]).mean()
            prior = energy_based(site["fn"])
            if prior is not None and prior.has_negatives:
                priors[name] = prior
        return terms, priors, trace

    def _regularisers(self, data: Sequences, trace: poutine.Trace, guide: poutine.Trace) -> dict[str, Tensor]:
        """Means of the model's training terms with a weight."""
        if not self.visits.scales:
            return {}
        terms = self.model.regulariser(data, trace, guide)
        missing = self.visits.scales.keys() - terms.keys()
        if missing:
            raise DataError(
                f"`scales` names terms that the model does not have: {sorted(missing)}. Its regularisers are "
                f"{sorted(terms)}."
            )
        return {name: terms[name].mean() for name in self.visits.scales}

    def _bound(self, data: Sequences, step: int) -> Tensor:
        """Negative evidence lower bound, with gradients for the guide only."""
        counted = dict.fromkeys(self.visits.scales, 0.0)  # they count at the chains' draws instead
        with frozen([*self.groups.generator, *self.groups.energy]):
            return Objective(self.model, scales=counted)(data, step).total

    def _surprise(self, values: Mapping[str, Tensor], guide: poutine.Trace) -> Tensor:
        """Minus the mean log density of the guide at the chains' draws."""
        sites = [guide.nodes[name] for name in values if name in guide.nodes]
        return -torch.stack([site["fn"].log_prob(site["value"]).mean() for site in sites]).sum()

    def _guide_trace(self, data: Sequences, values: Mapping[str, Tensor]) -> poutine.Trace:
        with local_parameters():
            return poutine.trace(poutine.condition(self.model.guide, data=dict(values))).get_trace(data)

    def _validation(self, data: Sequences) -> Loss:
        values = self.inference.draws(data, self.inference.num_chains)
        terms, *_ = self._joint(data, values)
        return Loss(terms["x"], {"x": terms["x"]})

    # ------------------------------------------------------------------ alarms

    def _drift(self, name: str, prior: EnergyBased, value: Tensor) -> dict[str, Tensor]:
        if is_chanced():
            return {}
        drift = prior.drift(value)
        alarm = drift.alarm()
        if alarm is not None:
            self._warn("drift", alarm)
        figures = {f"{name}_energy_gap": drift.gap, f"{name}_deviation": drift.deviation}
        return {key: value.new_tensor(figure) for key, figure in figures.items()}

    def _warn(self, kind: str, text: str) -> None:
        """Warn once per run."""
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, stacklevel=2)


def _is_distributed() -> bool:
    """Whether several processes train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
