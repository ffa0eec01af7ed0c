"""How observations lie around what a fitted model says of them, where the likelihood's own noise is a convention."""

from __future__ import annotations

import warnings
from typing import Protocol, runtime_checkable

import torch
from pyro import poutine
from torch import Tensor

from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng, mixed_seed
from pyro_seq.data import Sequences
from pyro_seq.door import require_data, require_posterior
from pyro_seq.errors import NumericalError
from pyro_seq.model import SequenceModel, over_samples
from pyro_seq.posterior import Posterior, prediction_context

_ENTRIES = 2**20  # of observations that are looked at
_SERIES = 8  # that are looked at even where they have more entries
_STREAM = 3  # of random numbers


@runtime_checkable
class _Measures(Protocol):
    def measure(self, means: Tensor, values: Tensor, mask: Tensor) -> None: ...


@one_at_a_time
def measure_noise(posterior: Posterior, data: Sequences, *, seed: int = 0) -> None:
    """Let the parts of a fitted model, such as a `PixelEmission`, measure what predictions draw around their means.

    Each series is explained by one draw of the posterior, and its observed entries are held against the means. About a
    million entries of series from all over `data` are looked at. `fit` does so at its end; call it for files of earlier
    versions, or to measure on other series than `fit` did. The result is part of the model's state.

    Args:
        posterior: What `fit` or `load` returned; its model is changed.
        data: Series that predictions are like; of new series draws are right when these are new, too.
        seed: Seed of the draws.

    Warns:
        UserWarning: When the model cannot explain the series in finite numbers; nothing is changed then.
    """
    require_posterior(posterior)
    require_data(posterior.model, data)
    measure(posterior, data, seed)


def measuring_parts(model: SequenceModel) -> list[_Measures]:
    """The parts of a model that measure; most models have none."""
    return [part for part in model.children() if isinstance(part, _Measures)]


def measure(posterior: Posterior, data: Sequences, seed: int) -> None:
    """`measure_noise` on data that have been checked."""
    count = min(len(data), max(_SERIES, _ENTRIES // max(1, data.values[:1].numel())))
    data = data.seen()[torch.arange(count, device=data.device) * len(data) // count]
    try:
        means = _means(posterior, data, seed)
    except NumericalError as error:
        warnings.warn(f"The noise of predictions could not be measured: {error}", stacklevel=3)
        return
    for part in measuring_parts(posterior.model):
        part.measure(means, data.values, data.entry_mask)


def _means(posterior: Posterior, data: Sequences, seed: int) -> Tensor:
    r"""Means of the emission (series, time, \*obs) at one draw of the latents."""
    model, seed = posterior.model, mixed_seed(seed, _STREAM)
    with prediction_context(model):
        data = model.prepare(data)
    draws = posterior.draws(data, 1, seed=seed)
    with prediction_context(model), isolated_rng(seed):
        run = over_samples(poutine.condition(model.model, data=draws), 1)
        means = poutine.trace(run).get_trace(data).nodes["x"]["fn"].mean.expand(1, *data.values.shape)[0]
    if not bool(means[data.entry_mask].isfinite().all()):
        raise NumericalError("Means of the emission are not finite.")
    return means
