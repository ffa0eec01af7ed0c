"""Tools of the checks: a copy of the model, fixed draws, densities by series."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.errors import PyroSeqError
from pyro_seq.infer.objective import Objective
from pyro_seq.model import SequenceModel, is_latent, is_local, is_random, local_parameters, over_samples
from pyro_seq.posterior import GuidePosterior

NUM_DRAWS = 3
HORIZON = 3


class CheckFailed(Exception):
    """The property of a check does not hold; the message gives the reason and a remedy."""


class NotApplicable(Exception):
    """A check does not apply to this model; the message says why."""


def require(holds: bool, reason: str) -> None:
    """Fail the running check with `reason` unless the property `holds`."""
    if not holds:
        raise CheckFailed(reason)


class Latents(NamedTuple):
    """One joint draw of the latent sites, and the names of those that belong to single series."""

    values: dict[str, Tensor]
    local: frozenset[str]

    def select(self, index: Tensor) -> dict[str, Tensor]:
        """Values for some of the series; global sites unchanged."""
        return {name: value[index] if name in self.local else value for name, value in self.values.items()}


@dataclass(frozen=True, eq=False)
class Case:
    """A model in evaluation mode that a check may modify, with data and a seed."""

    model: SequenceModel
    data: Sequences
    seed: int = 0

    def copy(self) -> Case:
        """The same case with a separate copy of the model."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model))

    def to(self, dtype: torch.dtype) -> Case:
        """The same case in another floating type, with a separate copy of the model."""
        return Case(copy.deepcopy(self.model).to(dtype), self.data.to(dtype=dtype), self.seed)

    def double(self) -> Case:
        """The same case in double precision, where exact properties can be tested to many digits."""
        return self.to(torch.float64)

    @property
    def posterior(self) -> GuidePosterior:
        """Posterior from the model's guide, as initialised."""
        return GuidePosterior(self.model)

    @property
    def paths(self) -> frozenset[str]:
        """Names of the sites that have time as their first event axis."""
        return frozenset(name for name, axes in self.model.dims.items() if tuple(axes)[:1] == ("time",))

    def draw(self, data: Sequences | None = None) -> Latents:
        """One draw from the guide."""
        trace = traced(self.model.guide, self.data if data is None else data, seed=self.seed)
        sites = dict(latent_sites(trace))
        local = frozenset(name for name, site in sites.items() if is_local(site))
        return Latents({name: site["value"].detach() for name, site in sites.items()}, local)

    def extended(self, horizon: int) -> Sequences:
        """The data with a horizon; inputs stay at their last value."""
        inputs = None if self.data.inputs is None else self.data.inputs[:, -1:].expand(-1, horizon, -1)
        return self.data.extend(horizon=horizon, inputs=inputs)

    def cut(self) -> tuple[int, Sequences]:
        """A number of steps before the end, and the data cut there."""
        steps = self.data.num_steps - max(1, self.data.num_steps // 4)
        shorter = self.data.first(steps)
        try:
            self.model.check(shorter)
        except PyroSeqError as error:
            raise NotApplicable(f"the model refuses {steps} steps ({error})") from error
        return steps, shorter

    def hidden_steps(self) -> Tensor:
        """A random pattern of steps to hide, (series, time); at least one, and never the first step."""
        data, start = self.data, self.data.num_steps // 2 if self.model.is_conditional else 1
        hidden = torch.rand(data.num_series, data.num_steps, generator=self.generator()) < 0.4
        hidden[:, :start] = False
        hidden[0, -1] = True
        return hidden.to(data.device)

    def generator(self) -> torch.Generator:
        """A generator that starts from the seed of the case."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(eq=False)
class FixedPosterior:
    """A posterior with latent draws chosen by a check, for the verbs."""

    model: SequenceModel
    sites: Mapping[str, Tensor] = field(default_factory=dict)

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        """The chosen draws, for any data."""
        return dict(self.sites)


def latent_sites(trace: poutine.Trace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sites that were sampled: neither observed, nor deterministic, nor the plate's own."""
    for name, site in trace.nodes.items():
        if is_latent(site):
            yield name, site


def density_sites(trace: poutine.Trace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sites that contribute to a density, observed or not."""
    for name, site in trace.nodes.items():
        if is_random(site):
            yield name, site


def traced(method: Callable, data: Sequences, *, seed: int, num_samples: int | None = None) -> poutine.Trace:
    """Trace `model` or `guide`, with draws in front of the series when `num_samples` is given."""
    if num_samples is not None:
        method = over_samples(method, num_samples)
    with local_parameters(), isolated_rng(seed):
        return poutine.trace(method).get_trace(data)


def series_densities(method: Callable, data: Sequences, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Log density of each site inside the plate at `values`, (..., series), by `model` or `guide`."""
    trace = traced(poutine.condition(method, data=dict(values)), data, seed=0)
    return {name: site["fn"].log_prob(site["value"]).detach() for name, site in density_sites(trace) if is_local(site)}


def objective_terms(
    case: Case, data: Sequences, values: Mapping[str, Tensor] | None = None, *, num_particles: int = 1
) -> dict[str, Tensor]:
    """Terms of the training objective by name, at fixed latents or at the draw given by the seed.

    Uses a copy of the model, because an objective may change state, such as persistent chains.
    """
    model = copy.deepcopy(case.model)
    with isolated_rng(case.seed), nullcontext() if values is None else _pinned(values):
        terms = Objective(model, num_particles=num_particles)(data).terms
    return {name: term.detach() for name, term in terms.items()}


def _pinned(values: Mapping[str, Tensor]) -> poutine.messenger.Messenger:
    trace = poutine.Trace()
    for name, value in values.items():
        trace.add_node(name, name=name, type="sample", value=value, is_observed=False, infer={})
    return poutine.replay(trace=trace)


def require_equal(
    got: Mapping[str, Tensor], expected: Mapping[str, Tensor], reason: str, *, rtol: float = 1e-8
) -> None:
    """Fail with `reason`, naming the first entry of `got` that differs from `expected`; 0 requires equal bits."""
    require(got.keys() == expected.keys(), f"{reason} The sites differ: {sorted(got)} and {sorted(expected)}.")
    for name, value in got.items():
        other = expected[name]
        if value.shape != other.shape:
            raise CheckFailed(f"{reason} At {name!r} the shapes differ: {tuple(value.shape)}, {tuple(other.shape)}.")
        if torch.equal(value, other):
            continue
        gap = float((value - other).abs().max())
        allowed = rtol * max(1.0, float(other.abs().max()))
        require(gap <= allowed, f"{reason} At {name!r} the largest difference is {gap:.3g} (allowed {allowed:.1g}).")


def require_finite(value: Tensor, name: str, do: str) -> None:
    """Fail unless all of `value` is finite."""
    require(bool(torch.isfinite(value).all()), f"{name} is not finite. {do}")
