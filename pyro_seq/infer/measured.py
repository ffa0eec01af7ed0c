"""Measures how observations scatter around a fitted model's means, if the likelihood's noise is a convention."""

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

_ENTRIES = 2**20  # number of observed entries used
_SERIES = 8  # minimum number of series used, even if they have more entries
_STREAM = 3  # stream of random numbers


@runtime_checkable
class _Measures(Protocol):
    def measure(self, means: Tensor, values: Tensor, mask: Tensor) -> None: ...


@one_at_a_time
def measure_noise(posterior: Posterior, data: Sequences, *, seed: int = 0) -> None:
    """Measure the noise that predictions draw around their means, for model parts such as a `PixelEmission`.

    For each series, the observed entries are compared with the means at one draw of the posterior; about a million
    entries, of series spread over `data`, are used. `fit` does this at its end; call it for files of earlier versions,
    or to measure on series other than those of `fit`. The result is part of the model's state.

    Args:
        posterior: The result of `fit` or `load`; its model is changed.
        data: Series similar to those to predict; for predictions of new series, use series not seen in training.
        seed: Seed of the draws.

    Warns:
        UserWarning: When the model's means are not finite; nothing is changed then.
    """
    require_posterior(posterior)
    require_data(posterior.model, data)
    measure(posterior, data, seed)


def measuring_parts(model: SequenceModel) -> list[_Measures]:
    """The parts of a model that measure; most models have none."""
    return [part for part in model.children() if isinstance(part, _Measures)]


def measure(posterior: Posterior, data: Sequences, seed: int) -> None:
    """`measure_noise` for data that are already checked."""
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
