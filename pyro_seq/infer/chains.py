"""The input and output of the kernels of `MCMC`, and the latent sites that chains sample."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._nonfinite import passing_nonfinite
from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, NumericalError, UnsupportedError
from pyro_seq.infer.continuable import require_continuable
from pyro_seq.model import SequenceModel, is_latent, is_local

_NUM_TRIES = 20  # draws of the prior


class ChainRun(NamedTuple):
    r"""Length, number, seed and start of a run of chains.

    Attributes:
        num_samples: Draws per chain.
        warmup_steps: Steps before the first draw.
        num_chains: Number of chains.
        seed: Seed of all random numbers.
        has_progress: Whether to show progress bars.
        start: Draws of a fit by site, (draw, series, \*event), or (draw, \*event) if all series share the site. Each
            chain starts at one of them, with steps scaled by their spread in each direction.
        draws_shared: Whether the guide draws shared latents, once per chain, for kernels that move series separately.
    """

    num_samples: int
    warmup_steps: int
    num_chains: int
    seed: int
    has_progress: bool = False
    start: Mapping[str, Tensor] | None = None
    draws_shared: bool = False


class Chains(NamedTuple):
    r"""Draws of all chains.

    Attributes:
        sites: Draws by site, (chain, draw, series, \*event), or (chain, draw, \*event) if all series share the site.
        global_sites: Names of the sites that all series share.
        sample_stats: Statistics of the sampler by name, (chain, draw), or (chain, draw, series) for per-series chains.
    """

    sites: dict[str, Tensor]
    global_sites: frozenset[str]
    sample_stats: dict[str, Tensor]


def latent_sites(model: SequenceModel, data: Sequences) -> dict[str, dict]:
    """The latent sites of a trace of the model, by name; raises if one is discrete or verbs cannot use ``x``."""
    trace = _prior_trace(model, data)
    require_continuable(trace)
    sites = {}
    for name, site in trace.nodes.items():
        if not is_latent(site):
            continue
        if site["fn"].support.is_discrete:
            raise UnsupportedError(
                f"Gradient-based kernels need continuous latents. Got the discrete site {name!r}. Sum it out in the "
                "model."
            )
        sites[name] = site
    if not sites:
        raise UnsupportedError(f"{type(model).__name__} has no latent sites, so there is nothing to sample.")
    return sites


def _prior_trace(model: SequenceModel, data: Sequences) -> poutine.Trace:
    """A trace of the model at a draw of its prior; only names and shapes of its sites are used."""
    for attempt in range(1, _NUM_TRIES + 1):
        try:
            with pyro.validation_enabled(False), passing_nonfinite():
                return poutine.trace(model.model).get_trace(data)
        except NumericalError as error:
            if attempt == _NUM_TRIES:
                raise NumericalError(
                    f"{type(model).__name__} broke down at each of {_NUM_TRIES} draws of its prior, by which chains "
                    "learn what latents there are. Narrow the prior, such as `BayesianMLP(..., prior_scale=0.3)`, or "
                    f"take a solver of fixed steps, `RK4(step_size=...)`. At the last one: {error}"
                ) from error
    raise AssertionError("one of the draws returns or raises")


def require_whole(data: Sequences, method: str) -> None:
    """Raise if `data` are a minibatch."""
    if data.total != data.num_series or not torch.equal(data.index.sort().values.cpu(), torch.arange(data.total)):
        raise DataError(
            f"{method} needs the whole data set: on a minibatch its posterior would be wrong. Got {data.num_series} of "
            f"{data.total} series. Select a data set of its own with `data[index]` rather than `data.minibatch(index)`."
        )


def global_names(sites: dict[str, dict]) -> frozenset[str]:
    """Names of the sites that all series share."""
    return frozenset(name for name, site in sites.items() if not is_local(site))


def warn_of_interrupt(num_chains: int, num_draws: int, plan: ChainRun) -> None:
    """Warn which draws of an interrupted run are kept."""
    warnings.warn(
        f"Interrupted. Kept are {num_draws} draws of each of {num_chains} chains, where {plan.num_samples} of "
        f"{plan.num_chains} were asked for.",
        UserWarning,
        stacklevel=3,
    )
