"""All draws for an export, from the same draws of the latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._arguments import whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.door import require_posterior
from pyro_seq.errors import DataError
from pyro_seq.model import SequenceModel, is_local, is_random, over_samples
from pyro_seq.posterior import Posterior, Prediction, StoredPosterior, prediction_context
from pyro_seq.predict.verbs import forecast, reconstruct

_GUIDE_DRAWS = 100


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of the latents with the quantities derived from each.

    Attributes:
        seen: Over the seen steps.
        future: Over the horizon, or None without one.
        log_likelihood: Log density of each series' observations, (sample, series), or None if not requested.
        is_global: For each latent site, True if all series share it.
        num_chains: Number of chains, concatenated along the sample axis.
        sample_stats: Figures of a sampler, (chain, draw) each.
    """

    seen: Prediction
    future: Prediction | None
    log_likelihood: Tensor | None
    is_global: Mapping[str, bool]
    num_chains: int
    sample_stats: Mapping[str, Tensor]


@one_at_a_time
def take_draws(
    posterior: Posterior,
    data: Sequences,
    num_samples: int | None,
    chunk_size: int | None,
    seed: int,
    *,
    has_likelihood: bool,
) -> Draws:
    """Draw, with chains concatenated along the sample axis; by default 100 draws of a guide or all stored ones."""
    require_posterior(posterior)
    num_chains, sample_stats = 1, {}
    if num_samples is not None:
        num_samples = whole_number(num_samples, "num_samples", 1)
    if isinstance(posterior, StoredPosterior):
        posterior = thinned(posterior, num_samples)
        num_chains, length = next(iter(posterior.sites.values())).shape[:2]
        num_samples, sample_stats = num_chains * length, posterior.sample_stats
    count = _GUIDE_DRAWS if num_samples is None else num_samples
    # the verbs seed the latents separately from the noise, so both calls see the same latents
    seen = reconstruct(posterior, data, num_samples=count, chunk_size=chunk_size, seed=seed)
    future = forecast(posterior, data, num_samples=count, chunk_size=chunk_size, seed=seed) if data.horizon else None
    is_global, is_random = _kinds(posterior.model, data.seen())
    for name in seen.latents.keys() - is_global.keys():  # latents that the model integrates out follow from the others
        is_global[name], is_random[name] = False, False
    likelihood = None
    if has_likelihood and data.num_steps:
        latents = {
            name: value[:, None] if is_global[name] else value
            for name, value in seen.latents.items()
            if is_random[name]
        }
        likelihood = _log_likelihood(posterior.model, latents, data.seen(), count, chunk_size or count)
    return Draws(seen, future, likelihood, is_global, num_chains, sample_stats)


def thinned(posterior: StoredPosterior, num_samples: int | None) -> StoredPosterior:
    """Evenly spaced draws of every chain, `num_samples` in all."""
    num_chains, length = next(iter(posterior.sites.values())).shape[:2]
    if num_samples is None or num_samples == num_chains * length:
        return posterior
    if num_samples > num_chains * length or num_samples % num_chains:
        raise DataError(
            f"`num_samples` must be a multiple of the number of chains, up to all draws: {num_chains} chains of "
            f"{length}. Got {num_samples}. Leave it out to take all."
        )
    chosen = torch.linspace(0, length - 1, num_samples // num_chains).round().long()

    def thin(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value[:, chosen] for name, value in values.items()}

    return replace(posterior, sites=thin(posterior.sites), sample_stats=thin(posterior.sample_stats))


def _kinds(model: SequenceModel, data: Sequences) -> tuple[dict[str, bool], dict[str, bool]]:
    """For each latent site, whether it is shared by all series, and whether it is random or deterministic."""
    with prediction_context(model), isolated_rng(0):
        nodes = poutine.trace(model.model).get_trace(data).nodes
    sites = {name: site for name, site in nodes.items() if site["type"] == "sample" and name != "x"}
    is_global = {name: not is_local(site) for name, site in sites.items()}
    return is_global, {name: is_random(site) for name, site in sites.items()}


def _log_likelihood(
    model: SequenceModel, latents: Mapping[str, Tensor], data: Sequences, num_samples: int, chunk_size: int
) -> Tensor:
    """Log density of the observed entries of each series given each draw, (sample, series)."""
    parts = []
    with prediction_context(model), isolated_rng(0):
        for start in range(0, num_samples, chunk_size):
            values = {name: value[start : start + chunk_size] for name, value in latents.items()}
            size = min(chunk_size, num_samples - start)
            run = over_samples(poutine.condition(model.model, data=values), size)
            site = poutine.trace(run).get_trace(data).nodes["x"]
            # the distribution's own density: a recorded one would carry the weight of a minibatch
            parts.append(site["fn"].log_prob(site["value"]).expand(size, data.num_series))
    return torch.cat(parts)
