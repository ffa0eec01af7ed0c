"""The training objective: a weighted sum of named terms."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match, check_site_shape
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.infer.continuable import require_continuable
from pyro_seq.infer.lessons import Lessons
from pyro_seq.model import SequenceModel, is_latent, is_local, is_random, local_parameters, over_samples
from pyro_seq.training.plan import Loss
from pyro_seq.training.schedules import Schedule


class Objective(nn.Module):
    r"""Negative evidence lower bound per series, with weights on its terms.

    .. math::
        L = \frac1N \Big( -\log p(x \mid z) + \sum_k w_k\, \mathrm{KL}\left[q(z_k) \| p(z_k)\right]
            + \sum_j w_j\, r_j \Big)

    Each site has a term of the same name; a latent site's term is its Kullback-Leibler divergence, in closed form if
    one exists and `analytic_kl` is set, otherwise estimated from the draw. The regularisers r_j are the model's. With
    weights other than 1 it is a training objective but not a bound.

    Args:
        model: Model whose parameters become parameters of this module.
        num_particles: Number of joint draws of all latents per evaluation, vectorised, or a function of the step.
        analytic_kl: Use closed-form divergences where they exist.
        scales: Weight of a term by name, a number or a function of the step; 1 by default.

    Raises:
        UnsupportedError: When `scales` names lessons that the model does not have.
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        num_particles: int | Schedule = 1,
        analytic_kl: bool = True,
        scales: Mapping[str, float | Schedule] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.num_particles = num_particles
        self.analytic_kl = analytic_kl
        self.lessons = Lessons(model, dict(scales or {}))
        self._lengths: dict[str, Tensor] = {}

    @property
    def num_steps(self) -> dict[str, float]:
        """Steps of each per-series latent, mean of the last minibatch up to the last observed step; 1 without time."""
        return {name: float(length) for name, length in self._lengths.items()}

    def forward(self, data: Sequences, step: int = 0) -> Loss:
        """Evaluate at `data`, a minibatch or the whole set; `step` drives the schedules of `scales`."""
        num_particles = int(self.num_particles(step)) if callable(self.num_particles) else self.num_particles
        with local_parameters():
            terms = self._terms(self.model.prepare(data), num_particles)
        terms = {name: term / (data.total * num_particles) for name, term in terms.items()}
        return Loss(scaled(terms, self.lessons.counted(self.training), step), terms)

    def _terms(self, data: Sequences, num_particles: int) -> dict[str, Tensor]:
        model_trace, guide_trace = joint_traces(self.model, data, num_particles)
        terms = {}
        for name, site in model_trace.nodes.items():
            if is_random(site):
                observed = site["is_observed"]
                terms[name] = -site["log_prob_sum"] if observed else self._divergence(name, site, guide_trace)
                if not observed and is_local(site):
                    has_time = "time" in self.model.dims.get(name, ())
                    self._lengths[name] = data.lengths.float().mean() if has_time else torch.ones(())
        for name, term in self.model.regulariser(data, model_trace, guide_trace).items():
            terms[name] = term.sum() * data.weight
        for name, term in self.lessons.terms(data, guide_trace, self.training).items():
            terms[name] = num_particles * term.sum() * data.weight
        return terms

    def _divergence(self, name: str, site: dict, guide_trace: poutine.Trace) -> Tensor:
        guide_site = guide_trace.nodes[name]
        if self.analytic_kl:
            try:
                divergence = torch.distributions.kl_divergence(guide_site["fn"], site["fn"])
                return scale_and_mask(divergence, guide_site["scale"], guide_site["mask"]).sum()
            except NotImplementedError:
                pass
        return guide_site["log_prob_sum"] - site["log_prob_sum"]


def joint_traces(model: SequenceModel, data: Sequences, num_particles: int) -> tuple[poutine.Trace, poutine.Trace]:
    """Traces of the model at draws of the guide, and of the guide, with the log densities of all sites.

    Several draws form one more axis, to the left of the series. Call it with parameters local to the module.

    Raises:
        UnsupportedError: When a site of the guide has no reparametrised draws, or verbs cannot draw from site ``x``.
    """
    programs = [model.guide, model.model]
    if num_particles > 1:
        programs = [over_samples(program, num_particles) for program in programs]
    guide_trace = poutine.trace(programs[0]).get_trace(data)
    model_trace = poutine.trace(poutine.replay(programs[1], trace=guide_trace)).get_trace(data)
    require_continuable(model_trace)
    guide_trace, model_trace = prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)
    if is_validation_enabled():
        check_model_guide_match(model_trace, guide_trace, max_plate_nesting=1)
    _require_gradients(guide_trace)
    guide_trace.compute_score_parts()
    model_trace.compute_log_prob()
    if is_validation_enabled():
        for trace in (model_trace, guide_trace):
            for site in trace.nodes.values():
                if site["type"] == "sample":
                    check_site_shape(site, max_plate_nesting=1 + (num_particles > 1))
    return model_trace, guide_trace


def scaled(terms: Mapping[str, Tensor], scales: Mapping[str, float | Schedule], step: int) -> Tensor:
    """The sum of named terms, each times its weight at `step`, which is 1 unless given.

    Raises:
        DataError: When a weight does not belong to any term.
    """
    unknown = scales.keys() - terms.keys()
    if unknown:
        raise DataError(
            f"`scales` names terms that the objective does not have: {sorted(unknown)}. The terms are {sorted(terms)}."
        )
    weights = {name: scale(step) if callable(scale) else scale for name, scale in scales.items()}
    return torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()


def _require_gradients(guide_trace: poutine.Trace) -> None:
    for name, site in guide_trace.nodes.items():
        if is_latent(site) and not site["fn"].has_rsample:
            raise UnsupportedError(
                f"The guide's site {name!r} must be reparametrised. Got {type(site['fn']).__name__} without "
                "`rsample`. Use a distribution with one, or train with `pyro.infer.SVI`, which has other estimators."
            )
