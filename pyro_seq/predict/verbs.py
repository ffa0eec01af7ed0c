"""The predictive verbs. All of them run the model on draws of its latents; none has model-specific formulas.

Threads may share a posterior; calls wait for each other, so several threads are no faster than one.
"""

from __future__ import annotations

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_seq._arguments import require, seed_number, whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq._random import isolated_rng
from pyro_seq.data import Sequences
from pyro_seq.door import require_data, require_posterior, warn_of_gaps
from pyro_seq.errors import DataError, UnsupportedError
from pyro_seq.model import SequenceModel, is_local, over_samples
from pyro_seq.posterior import Posterior, Prediction, prediction_context
from pyro_seq.predict.causal import CausalCopies
from pyro_seq.predict.finite import about_numbers, require_finite, require_finite_latents

CHUNK_ENTRIES = 2**24  # entries of observations that are predicted at a time, 64 megabytes in single precision
_DRAWS, _OBSERVATIONS = 0, 1  # streams of random numbers, so that noise does not depend on how latents were drawn


@one_at_a_time
def forecast(
    posterior: Posterior,
    data: Sequences,
    *,
    horizon: int | None = None,
    times: Tensor | None = None,
    inputs: Tensor | None = None,
    num_samples: int = 100,
    chunk_size: int | None = None,
    seed: int = 0,
) -> Prediction:
    r"""Draw the future of each series given its seen steps.

    A `horizon` begins after the last observed step of each series, so series of unequal length are each forecast from
    their own end; hidden steps after that end are drawn first. A horizon given by `times`, of this call or of the data,
    is shared: it begins after the longest series, at the given time stamps.

    Cost: one pass of the model over all steps per draw; apart from the result itself, memory grows with `chunk_size`,
    not with `num_samples`.

    Args:
        posterior: The posterior returned by `fit`.
        data: Seen steps; a horizon in ``data.times`` is used when neither `horizon` nor `times` is given.
        horizon: Number of steps after the last observed one, beyond the grid at the median spacing of its steps.
        times: Future time stamps (horizon,) or (series, horizon), in the unit of the data, or dates if the data have
            dates; ``data.calendar.dates(prediction.times)`` converts back to dates.
        inputs: Inputs over the horizon (series, horizon, input_dim), for data that have inputs. They replace those of
            the data if the data already have a horizon and neither `horizon` nor `times` is given. For what-if
            scenarios, vary only `inputs`: with the same seed, all draws of the past stay the same.
        num_samples: Number of draws.
        chunk_size: Draws computed at a time; by default as many as give 2^24 entries of observations, or fewer for a
            model that needs many numbers per entry.
        seed: Seed of the draws, a whole number below 2^63. The caller's random state is not touched.

    Returns:
        Draws over the horizon: ``samples`` and ``emission_means`` (sample, series, horizon, \*obs), and ``times``
        (horizon,), or (series, horizon) if times or ends differ between series.

    Raises:
        ShapeError: When `data` do not fit the model.
        DataError: When there is no horizon, future times are not later than the seen ones, or data and model differ in
            floating type or device.
        UnsupportedError: When series with inputs end at a hidden step.
        NumericalError: When draws are not finite, naming the first time and series; this holds for all verbs.

    Example:
        >>> prediction = forecast(posterior, data, horizon=20)  # doctest: +SKIP
    """
    num_samples, chunk_size, seed = _checked(posterior, data, num_samples, chunk_size, seed)
    has_ends = horizon is not None and times is None
    steps = _after_the_end(data, horizon) if has_ends else slice(data.num_steps, None)
    data = _extended(data, horizon, times, inputs)
    posterior.model.check(data)
    data = _prepared(posterior, data)
    draws = _draws(posterior, data, num_samples, seed)
    return _predict(posterior.model, draws, data, _Condition(draws), num_samples, steps, chunk_size, seed)


@one_at_a_time
def reconstruct(
    posterior: Posterior, data: Sequences, *, num_samples: int = 100, chunk_size: int | None = None, seed: int = 0
) -> Prediction:
    r"""Draw each seen step anew from the model, given all seen steps.

    Args:
        posterior: The posterior returned by `fit`.
        data: Series to explain; a horizon is dropped.
        num_samples: Number of draws.
        chunk_size: Draws computed at a time; by default as many as make 2^24 entries of observations.
        seed: Seed of the draws.

    Returns:
        Draws over the seen steps, hidden entries included: (sample, series, time, \*obs).
    """
    num_samples, chunk_size, seed = _checked(posterior, data, num_samples, chunk_size, seed)
    return _reconstructed(posterior, data.seen(), num_samples, chunk_size, seed)


@one_at_a_time
def impute(
    posterior: Posterior,
    data: Sequences,
    *,
    is_causal: bool = False,
    num_samples: int = 100,
    chunk_size: int | None = None,
    seed: int = 0,
) -> Prediction:
    r"""Draw the hidden entries given the observed ones, which are kept unchanged.

    Args:
        posterior: The posterior returned by `fit`.
        data: Series with missing entries.
        is_causal: Draw each gap given only the past, as in online use (filtering), instead of past and future
            (smoothing). Costs one more copy of a series per gap; latents at seen steps are then conditioned on all
            steps up to the next gap.
        num_samples: Number of draws.
        chunk_size: Draws computed at a time; by default as many as make 2^24 entries of observations.
        seed: Seed of the draws.

    Returns:
        Draws over the seen steps (sample, series, time, \*obs); observed entries are the same in every draw.
    """
    num_samples, chunk_size, seed = _checked(posterior, data, num_samples, chunk_size, seed)
    require(isinstance(is_causal, bool), "is_causal", "True or False", is_causal)
    data = data.seen()
    copies = CausalCopies.of(data) if is_causal else None
    given = data if copies is None else copies.data
    filled = _reconstructed(posterior, given, num_samples, chunk_size, seed)
    filled = filled if copies is None else copies.gathered(filled, posterior.model.dims)
    samples = torch.where(data.entry_mask, data.values, filled.samples)
    means = torch.where(data.entry_mask, data.values, filled.emission_means)
    return Prediction(samples, means, filled.latents, filled.times, data.labels, data.calendar)


@one_at_a_time
def sample(
    posterior: Posterior, data: Sequences, *, num_samples: int = 100, chunk_size: int | None = None, seed: int = 0
) -> Prediction:
    r"""Draw new series from the prior, on the time grid, inputs and number of series of `data`.

    Global latents, such as the weights of a Bayesian network, come from the posterior; latents of single series come
    from the prior, so the values in `data` are not used.

    Args:
        posterior: The posterior returned by `fit`.
        data: Data that give the grid: times (a horizon included), inputs, number of series.
        num_samples: Number of draws.
        chunk_size: Draws computed at a time; by default as many as make 2^24 entries of observations.
        seed: Seed of the draws.

    Returns:
        Draws over all of ``data.times``: (sample, series, time, \*obs).

    Raises:
        UnsupportedError: When the model needs seen frames to start from.
    """
    require_posterior(posterior)
    model = posterior.model
    if model.is_conditional:
        raise UnsupportedError(
            f"{type(model).__name__} has no prior without seen frames. Use `forecast` on series that start with some."
        )
    num_samples, chunk_size, seed = _checked(posterior, data, num_samples, chunk_size, seed, has_values=False)
    draws = _draws(posterior, data, num_samples, seed, only_shared=True)
    condition = _Condition(draws, only_global=True)
    return _predict(model, draws, data, condition, num_samples, slice(0, None), chunk_size, seed)


class _Condition(Messenger):
    """Set latent sites to draws and un-observe ``x``, so that a run of the model predicts."""

    def __init__(self, draws: dict[str, Tensor], only_global: bool = False) -> None:
        super().__init__()
        self.draws = draws
        self.only_global = only_global
        self.chunk = slice(None)
        self.is_horizon_alone = False

    def _pyro_horizon_alone(self, msg: dict) -> None:
        msg["value"], msg["done"] = self.is_horizon_alone, True

    def _pyro_sample(self, msg: dict) -> None:
        name = msg["name"]
        if name in ("x", "x_future") and "predictive" in msg["infer"]:
            msg["fn"] = msg["infer"]["predictive"]().expand(msg["fn"].batch_shape)
        if name == "x":
            if not self.only_global and hasattr(msg["fn"], "replicate"):
                msg["fn"] = msg["fn"].replicate(msg["value"])  # the latent path is inside the distribution
            msg["is_observed"], msg["value"] = False, None
        elif name in self.draws and not (self.only_global and is_local(msg)):
            msg["value"], msg["is_observed"] = self.draws[name][self.chunk], True


def _checked(
    posterior: Posterior,
    data: Sequences,
    num_samples: int,
    chunk_size: int | None,
    seed: int,
    *,
    has_values: bool = True,
) -> tuple[int, int | None, int]:
    """Refuse arguments that a verb cannot use; return its whole numbers, the chunk size included."""
    require_posterior(posterior)
    require_data(posterior.model, data, has_values=has_values)
    if has_values:
        warn_of_gaps(posterior, data)
    num_samples = whole_number(num_samples, "num_samples", 1)
    if chunk_size is not None:
        chunk_size = whole_number(chunk_size, "chunk_size", 1, 2**63 - 1)
    return num_samples, chunk_size, seed_number(seed)


def _extended(data: Sequences, horizon: int | None, times: Tensor | None, inputs: Tensor | None) -> Sequences:
    """The data with the horizon given by the arguments, or with the horizon that they already have."""
    if horizon is not None or times is not None:
        return data.extend(horizon=horizon, times=times, inputs=inputs)
    if inputs is not None and data.horizon:
        return data.extend(times=data.times[..., data.num_steps :], inputs=inputs)
    if inputs is not None:
        raise DataError(
            "`inputs` are those over the horizon that `horizon` or `times` adds. Got neither. Add one of them, or give "
            "the data inputs over all of their `times`."
        )
    if not data.horizon:
        raise DataError(
            f"`forecast` needs a horizon. Got none with {data!r}. Pass `horizon=` or `times=`, or data whose `times` "
            "are longer than their `values`."
        )
    return data


def _prepared(posterior: Posterior, data: Sequences) -> Sequences:
    with prediction_context(posterior.model):
        return posterior.model.prepare(data)


def _after_the_end(data: Sequences, horizon: int | None) -> slice | Tensor:
    """The steps (series, horizon) after the last observed one of each series; a slice if all end with the grid."""
    if bool((data.lengths == data.num_steps).all()):
        return slice(data.num_steps, None)
    if data.inputs is not None:
        raise UnsupportedError(
            "`horizon` begins after the last observed step of each series, and some end before the grid does, where "
            "`inputs` over the horizon would be given twice. Forecast series of one length at a time, "
            "`data[data.lengths == 12].first(12)`, or pass `times` after the grid."
        )
    return data.lengths[:, None] + torch.arange(whole_number(horizon, "horizon"), device=data.device)


def _reconstructed(
    posterior: Posterior, data: Sequences, num_samples: int, chunk_size: int | None, seed: int
) -> Prediction:
    """Each step of `data` drawn anew, given all of them."""
    data = _prepared(posterior, data)
    draws = _draws(posterior, data, num_samples, seed)
    return _predict(posterior.model, draws, data, _Condition(draws), num_samples, slice(0, None), chunk_size, seed)


def _draws(
    posterior: Posterior, data: Sequences, num_samples: int, seed: int, *, only_shared: bool = False
) -> dict[str, Tensor]:
    """Draws of all latents, or of those alone that all series share, where a posterior has these without the rest."""
    draw = getattr(posterior, "shared_draws", posterior.draws) if only_shared else posterior.draws
    with about_numbers():
        return draw(data, num_samples, seed=_stream(seed, _DRAWS))


def _stream(seed: int, stream: int) -> int:
    return 2 * seed + stream


def _predict(
    model: SequenceModel,
    draws: dict[str, Tensor],
    data: Sequences,
    condition: _Condition,
    num_samples: int,
    steps: slice | Tensor,
    chunk_size: int | None,
    seed: int,
) -> Prediction:
    """Run the model on draws, one chunk at a time, and keep `steps` of the result, shared or (series, time)."""
    times = data.times[..., steps] if isinstance(steps, slice) else _picked(data.times.expand(len(data), -1), steps)
    condition.is_horizon_alone = isinstance(steps, slice) and steps.start == data.num_steps
    chunks: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
    if chunk_size is None:
        numbers = data.times.shape[-1] * data.values[:, :1].numel() * model.numbers_per_entry(draws)
        chunk_size = max(1, CHUNK_ENTRIES // max(1, numbers))
    with prediction_context(model), isolated_rng(_stream(seed, _OBSERVATIONS)), about_numbers():
        for start in range(0, num_samples, chunk_size):
            condition.chunk = slice(start, start + chunk_size)
            size = min(chunk_size, num_samples - start)
            run = over_samples(condition(model.model), size)
            samples, means, latents = _read(poutine.trace(run).get_trace(data), data, size, steps)
            require_finite(samples, means, times)
            require_finite_latents(latents, model.dims, data)
            others = model.integrated_out(data, latents)
            require_finite_latents(others, model.dims, data)
            chunks.append((samples, means, {**latents, **others}))
    all_samples, all_means, all_latents = zip(*chunks, strict=True)
    joined = {name: torch.cat([latents[name] for latents in all_latents]) for name in all_latents[0]}
    drawn, drawn_means = _joined([*all_samples]), _joined([*all_means])
    return Prediction(drawn, drawn_means, joined, times, data.labels, data.calendar)


def _read(
    trace: poutine.Trace, data: Sequences, num_samples: int, steps: slice | Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    shape = (num_samples, data.num_series)
    samples, means, latents = [], [], {}
    skipped = steps.start - (0 if "x" in trace.nodes else data.num_steps) if isinstance(steps, slice) else 0
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or site_is_subsample(site):
            continue
        value = site["value"]
        if name in ("x", "x_future"):
            event = site["fn"].event_shape
            samples.append(value.expand(shape + event)[:, :, skipped:])
            means.append(site["fn"].mean.expand(shape + event)[:, :, skipped:])
            skipped = max(skipped - event[0], 0)
        else:
            latents[name] = value.expand(shape + site["fn"].event_shape) if is_local(site) else value[:, 0]
    if not samples:
        empty = data.values.new_zeros(shape + data.values.shape[1:])
        return empty, empty, latents
    seen, their_means = _joined(samples, 2), _joined(means, 2)
    if isinstance(steps, Tensor):
        seen, their_means = _picked(seen, steps, 1), _picked(their_means, steps, 1)
    return seen, their_means, latents


def _picked(values: Tensor, steps: Tensor, dim: int = 0) -> Tensor:
    """Select `steps` (series, time) per series from values with the axes series and time at `dim`."""
    shape = (1,) * dim + tuple(steps.shape) + (1,) * (values.ndim - dim - 2)
    return values.take_along_dim(steps.reshape(shape), dim + 1)


def _joined(parts: list[Tensor], dim: int = 0) -> Tensor:
    """Concatenate the non-empty parts; a single part is not copied, because it may be large."""
    filled = [part for part in parts if part.shape[dim]] or parts[:1]
    return filled[0] if len(filled) == 1 else torch.cat(filled, dim)
