"""Filters: exact under the law of the observations, or under the law of codes that the guide reads from frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import pad

from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.distributions.filled_path import FilledPath
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.distributions.mixed_dynamics import MixedLinearGaussian, Past
from pyro_seq.distributions.states_given_path import StatesGivenPath
from pyro_seq.model import SequenceModel, is_latent, is_local, over_samples
from pyro_seq.ops.kalman import step
from pyro_seq.ops.kalman.routines import FilterResult
from pyro_seq.posterior import GuidePosterior, Posterior
from pyro_seq.predict._law import at_step, law_of, require_local_moves
from pyro_seq.predict.verbs import _Condition, _read

Draws = tuple[Tensor, Tensor, Mapping[str, Tensor]]  # observations and their means (sample, series, time, ...); latents


class Known(NamedTuple):
    """The information after a step, with leading axes (sample, series): moments of the state, and other quantities."""

    means: Tensor
    covs: Tensor
    log_likelihood: Tensor
    memory: Any = None


class Filter(Protocol):
    """A filter without internal state: it takes in steps and returns what is known."""

    @property
    def model(self) -> SequenceModel:
        """The fitted model."""
        ...

    @property
    def latents(self) -> Mapping[str, Tensor]:
        """Draws of the latents that all series share."""
        ...

    def start(self, data: Sequences) -> Known:
        """The information after all steps of `data`."""
        ...

    def take_in(self, known: Known, grid: Sequences) -> Known:
        """The information after the last step of `grid`; its earlier steps are hidden and only bridge the time."""
        ...

    def ahead(self, known: Known, grid: Sequences, num_new: int, num_samples: int) -> Draws:
        """Draws of the last `num_new` steps of `grid`, which are hidden."""
        ...


def filter_of(posterior: Posterior, data: Sequences, num_samples: int, seed: int) -> Filter:
    """The filter for the model: by codes if its guide reads them frame by frame, otherwise by the model's law."""
    site = _codes_site(posterior, data)
    if site is not None:
        return CodesFilter(posterior.model, site, num_samples, seed)
    return LawFilter(posterior.model, _shared_latents(posterior, data, num_samples, seed))


# ---------------------------------------------------------------------- the observations have a linear Gaussian law


@dataclass(frozen=True, eq=False)
class LawFilter:
    """Exact filter for a model whose observations have a linear Gaussian law, `SequenceModel.marginal`."""

    model: SequenceModel
    latents: Mapping[str, Tensor]

    def start(self, data: Sequences) -> Known:
        """The information after all steps of `data`; NaN if they do not determine the state."""
        law = law_of(self.model, data, self.latents)
        require_local_moves(self.model, data, self.latents, law)
        filtered = law.filter(data.values)
        means, covs = filtered.filtered_means[..., -1, :], filtered.filtered_covs[..., -1, :, :]
        return Known(_by_sample(means, 2), _by_sample(covs, 3), _by_sample(filtered.log_likelihood, 1))

    def take_in(self, known: Known, grid: Sequences) -> Known:
        """One step of the Kalman filter."""
        means, covs, log_likelihood, _ = known
        law = at_step(law_of(self.model, grid, self.latents).parameters, grid.num_steps - 1)
        before = FilterResult(means, covs, means, covs, log_likelihood)
        after = step(grid.values[:, -1], law, before, grid.entry_mask[:, -1])
        return Known(after.filtered_means, after.filtered_covs, log_likelihood + after.log_likelihood)

    def ahead(self, known: Known, grid: Sequences, num_new: int, num_samples: int) -> Draws:
        """Draws of the path that continues from the last state, and its exact means given the latents."""
        start = grid.num_steps - num_new - 1  # the last step of the filter
        parameters = law_of(self.model, grid, self.latents).parameters.between(start, grid.num_steps)
        parameters = parameters._replace(initial_mean=known.means, initial_cov=known.covs, diffuse=None)
        path = LinearGaussian(parameters, grid.num_steps - start)
        rounds = -(-num_samples // len(known.means))
        draws = path.rsample(torch.Size([rounds])).flatten(0, 1)[:num_samples, :, 1:]
        means = path.mean.repeat(rounds, 1, 1, 1)[:num_samples, :, 1:]
        latents = {name: draw[:, 0].repeat(rounds, *[1] * (draw.ndim - 2)) for name, draw in self.latents.items()}
        return draws, means, {name: draw[:num_samples] for name, draw in latents.items()}


def _shared_latents(posterior: Posterior, data: Sequences, num_samples: int, seed: int) -> dict[str, Tensor]:
    """Draws of the latents that all series share; empty if there are none."""
    trace = poutine.trace(posterior.model.model).get_trace(posterior.model.prepare(data))
    shared = [name for name, site in trace.nodes.items() if is_latent(site) and not is_local(site)]
    draws = posterior.draws(data, num_samples, seed=seed) if shared else {}
    return {name: draws[name] for name in shared}


def _by_sample(values: Tensor, ndim: int) -> Tensor:
    """Moments with leading axes sample and series before `ndim` - 1 others, with or without a sample axis before."""
    while values.ndim < ndim + 1:
        values = values[None]
    return values


# ---------------------------------------------------------------------- the guide reads codes frame by frame


@dataclass(frozen=True, eq=False)
class CodesFilter:
    """Filter for a model whose guide is a `FilledPath`: exact given draws of the codes of all frames so far.

    Given the codes, a `MixedLinearGaussian` is linear and Gaussian, and its future depends only on a `Past`. Each frame
    adds one code. A hidden frame is left out, and the dynamics read the mean of its code.
    """

    model: SequenceModel
    site: str
    num_samples: int
    seed: int

    @property
    def latents(self) -> Mapping[str, Tensor]:
        """None: all latents belong to series."""
        return {}

    def start(self, data: Sequences) -> Known:
        """The information after all frames of `data`."""
        return self._after(data, data.num_steps, None, 0)

    def take_in(self, known: Known, grid: Sequences) -> Known:
        """Take in one more code, with one step of the Kalman filter."""
        past, count = known.memory
        after = self._after(grid, 1, past, count)
        return after._replace(log_likelihood=known.log_likelihood + after.log_likelihood)

    def ahead(self, known: Known, grid: Sequences, num_new: int, num_samples: int) -> Draws:
        """Draws of codes, of the frames emitted by them, and of the states."""
        chosen = torch.arange(num_samples, device=known.means.device) % self.num_samples
        past, skipped = _of_samples(known.memory[0], chosen), grid.num_steps - num_new
        prior = self._path(self._guide(grid), past, skipped, past.code.shape[:-1])
        codes = prior.rsample()
        states = StatesGivenPath(prior.given(codes), codes).rsample()
        condition = _Condition({self.site: pad(codes, (0, 0, skipped, 0))})
        trace = poutine.trace(over_samples(condition(self.model.model), num_samples)).get_trace(grid)
        samples, means, _ = _read(trace, grid, num_samples, slice(skipped, None))
        return samples, means, {f"{self.site}_future": codes, "states_future": states}

    def _after(self, data: Sequences, num_new: int, past: Past | None, count: int) -> Known:
        """The information after the last `num_new` frames of `data`, with the log likelihood that they add."""
        law, skipped = self._guide(data), data.num_steps - num_new
        seen = data.step_mask[:, skipped:]
        each = Normal(law.loc[..., skipped:, :], law.scale[..., skipped:, :], validate_args=False)
        with isolated_rng(self.seed, count):
            codes = each.sample(torch.Size([self.num_samples]))
        prior = self._path(law, past, skipped, codes.shape[:-2])
        path = prior.complete(codes, seen.expand(codes.shape[:-1]), is_mean=True)
        after, evidence = prior.after(path, seen)
        after = after._replace(
            mean=after.mean.expand(*codes.shape[:2], -1), cov=after.cov.expand(*codes.shape[:2], -1, -1)
        )
        given = poutine.condition(self.model.model, {self.site: pad(path, (0, 0, skipped, 0))})
        x = poutine.trace(over_samples(given, self.num_samples)).get_trace(data).nodes["x"]
        read = torch.where(seen, each.log_prob(codes).sum(-1), 0.0).sum(-1)
        weight = evidence + x["fn"].log_prob(x["value"]) - read
        return Known(after.mean, after.cov, weight, (after, count + num_new))

    def _guide(self, data: Sequences) -> FilledPath:
        """The guide's law of the codes at all steps of `data`."""
        law: FilledPath = _laws_of_guide(self.model, data)[self.site]
        return law

    def _path(self, law: FilledPath, past: Past | None, skipped: int, batch: torch.Size) -> MixedLinearGaussian:
        """The model's law of the codes after `past`."""
        inputs = None if law.prior.inputs is None else law.prior.inputs[..., skipped:, :]
        steps = law.prior.num_steps - skipped
        return MixedLinearGaussian(law.prior.dynamics, steps, inputs=inputs, batch_shape=batch, past=past)


def _codes_site(posterior: Posterior, data: Sequences) -> str | None:
    """The latent site that the guide reads frame by frame; None if it draws anything else besides states."""
    if not (isinstance(posterior, GuidePosterior) and posterior.model.has_guide):
        return None
    laws = _laws_of_guide(posterior.model, data.first(1))
    codes = [name for name, law in laws.items() if isinstance(law, FilledPath)]
    are_all = all(isinstance(law, FilledPath | StatesGivenPath) for law in laws.values())
    return codes[0] if are_all and len(codes) == 1 else None


def _laws_of_guide(model: SequenceModel, data: Sequences) -> dict[str, Any]:
    """The distributions of the guide's latents."""
    trace = poutine.trace(_Zeros()(model.guide)).get_trace(model.prepare(data))
    return {name: site["fn"] for name, site in trace.nodes.items() if is_latent(site)}


class _Zeros(Messenger):
    """Sets codes to 0 instead of drawing them, because a draw goes step by step if frames are hidden."""

    def _pyro_sample(self, msg: dict) -> None:
        if isinstance(msg["fn"], FilledPath):
            msg["value"], msg["done"] = msg["fn"].loc.new_zeros(msg["fn"].shape()), True


def _of_samples(past: Any, chosen: Tensor) -> Any:
    """The `chosen` samples of a past, for any type of memory of the dynamics."""
    if isinstance(past, Tensor):
        return past[chosen]
    if isinstance(past, Past):
        return Past(*(_of_samples(part, chosen) for part in past))
    if isinstance(past, tuple | list):
        return type(past)(_of_samples(part, chosen) for part in past)
    return past
