r"""Views: random or growing parts of a minibatch, used in one training step.

A view is a function of the minibatch, the step and a generator: ``view(data, step, generator) -> Sequences``. It may
shorten, thin, shift or resample the series; validation and prediction never see it.

A view that keeps the beginning of each series and does not move steps in time declares ``is_anchored = True``: a latent
of the series then has the same meaning under each draw of the view, which persistent chains rely on. Without this
attribute, which can also be set on a function, a view is assumed to move series.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pyro_seq._arguments import require
from pyro_seq._host import on_host, uploaded
from pyro_seq.data import Sequences
from pyro_seq.data._validation import widen
from pyro_seq.training.schedules import Schedule

View = Callable[[Sequences, int, torch.Generator], Sequences]


@dataclass(frozen=True)
class GrowingLength:
    """The first steps of every series: `start` steps at training step 0, growing to all of them at step `full_at`.

    Long rollouts of an untrained model diverge; starting with short ones is the usual remedy.
    """

    is_anchored: ClassVar[bool] = True

    start: int
    full_at: int

    def __post_init__(self) -> None:
        require(self.start >= 1, "start", "1 or more", self.start)
        require(self.full_at >= 1, "full_at", "1 or more", self.full_at)

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The first L(step) steps of `data`."""
        start = min(self.start, data.num_steps)
        length = start + int((data.num_steps - start) * min(step / self.full_at, 1.0))
        return data if length == data.num_steps else data.first(length)


@dataclass(frozen=True)
class RandomWindows:
    """A random window of each series.

    The window starts at the first step with probability `at_start`, so that the initial distribution keeps learning
    from true beginnings; otherwise uniformly at a step with at least `shortest` steps left up to the last observed one.
    A window that runs past the end is padded and masked, and its times continue at the last spacing.

    Args:
        length: Steps in a window, or a function of the training step; no longer than the series.
        at_start: Probability of a window from the first step.
        shortest: Minimum number of steps in a window, if the series is long enough.
    """

    length: int | Schedule
    at_start: float = 0.3
    shortest: int = 1

    def __post_init__(self) -> None:
        require(self.shortest >= 1, "shortest", "1 or more", self.shortest)
        if not callable(self.length):
            require(self.length >= 1, "length", "1 or more", self.length)
        require(0.0 <= self.at_start <= 1.0, "at_start", "a probability", self.at_start)

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """One window per series."""
        length = int(self.length(step)) if callable(self.length) else self.length
        length = min(max(length, 1), data.num_steps)
        draws = torch.rand(2, data.num_series, generator=generator)
        start = (draws[1] * (on_host(data.lengths) - self.shortest + 1).clamp(min=1)).long()
        start = torch.where(draws[0] < self.at_start, 0, start)
        return _gather(data, start[:, None] + torch.arange(length))


@dataclass(frozen=True)
class Thin:
    """The first `keep` steps, then every `stride`-th; for data with inputs the others are hidden, as in `RandomSteps`.

    Args:
        stride: Distance between kept steps.
        keep: Steps at the beginning that are all kept.
        random_offset: Start the thinned part of each series at a random one of its first `stride` steps.
    """

    stride: int
    keep: int = 1
    random_offset: bool = False

    def __post_init__(self) -> None:
        require(self.stride >= 1, "stride", "1 or more", self.stride)
        require(self.keep >= 0, "keep", "0 or more", self.keep)

    @property
    def is_anchored(self) -> bool:
        """Whether the first shown step is always the same."""
        return self.keep > 0 or not self.random_offset

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The kept steps."""
        keep = min(self.keep, data.num_steps)
        count = (data.num_steps - keep) // self.stride
        thinned = keep + self.stride * torch.arange(count)
        if not self.random_offset:
            return _only(data, torch.cat([torch.arange(keep), thinned + self.stride - 1]))
        offset = torch.randint(self.stride, (data.num_series, 1), generator=generator)
        kept = torch.arange(keep).expand(data.num_series, -1)
        return _only(data, torch.cat([kept, thinned + offset], 1))


@dataclass(frozen=True)
class RandomSteps:
    """`count` steps of each series: the first `keep`, and a random increasing choice of the rest.

    For data with inputs the other steps are hidden rather than dropped, so that the inputs at these steps keep their
    effect.

    Args:
        count: Number of steps that remain, or a function of the training step; at most the number of steps.
        keep: Number of steps at the beginning that are always kept.
        per_series: Choose separately for each series instead of once per minibatch.
    """

    count: int | Schedule
    keep: int = 1
    per_series: bool = True

    def __post_init__(self) -> None:
        require(self.keep >= 0, "keep", "0 or more", self.keep)
        if not callable(self.count):
            require(self.count >= max(self.keep, 1), "count", "at least 1 and `keep`", self.count)

    @property
    def is_anchored(self) -> bool:
        """Whether the first step is always kept."""
        return self.keep > 0

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The chosen steps."""
        count = max(int(self.count(step)), self.keep, 1) if callable(self.count) else self.count
        if count >= data.num_steps:
            return data
        rows = data.num_series if self.per_series else 1
        order = torch.rand(rows, data.num_steps - self.keep, generator=generator).argsort(1)
        chosen = self.keep + order[:, : count - self.keep].sort(1).values
        steps = torch.cat([torch.arange(self.keep).expand(rows, -1), chosen], 1)
        return _only(data, steps if self.per_series else steps[0])


@dataclass(frozen=True)
class RandomGaps:
    """Hide some observations in a share of the series, so that a guide learns to infer latents from the rest.

    With equal probability, all steps before a random step, all steps after one, or a random share of the steps are
    hidden; for masks of single entries, a random share of the entries. At least one entry remains. The likelihood
    covers only the remaining entries, so the objective bounds their evidence and the guide approaches the posterior
    given them, also for gaps that are rare in training data, such as a missing beginning.

    Args:
        probability: Probability that a series has anything hidden.
    """

    is_anchored: ClassVar[bool] = True

    probability: float = 0.5

    def __post_init__(self) -> None:
        require(0.0 <= self.probability <= 1.0, "probability", "a probability", self.probability)

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The same series with more hidden."""
        size, length = data.num_series, data.num_steps
        chance, kind, share = (draws[:, None] for draws in torch.rand(3, size, generator=generator))
        cut, seen = share * on_host(data.lengths)[:, None], on_host(data.mask)
        steps = torch.arange(length)
        order = torch.rand(seen.shape, generator=generator)
        kept_steps = torch.where(kind < 1 / 3, steps >= cut, (kind >= 2 / 3) | (steps <= cut))
        kept = widen(kept_steps, order) & (widen(kind < 2 / 3, order) | (order >= widen(share, order)))
        kept |= widen(chance >= self.probability, order)
        first = torch.where(seen, order, 2.0).flatten(1)
        spared = torch.zeros_like(first, dtype=torch.bool).scatter_(1, first.argmin(1, keepdim=True), True)
        is_empty = ~(seen & kept).flatten(1).any(1, keepdim=True)
        mask = uploaded(seen & (kept | (spared & is_empty).view_as(kept)), data.device)
        return data._with(values=_hidden_to_zero(data.values, mask), mask=mask)


@dataclass(frozen=True)
class TimeWarp:
    """Play each series at a random speed, log-uniform from `low` to `high`, by interpolating in the step index.

    Interpolation is linear. Times keep their stamps, so the content runs faster or slower. A step is observed if all
    the steps that it is interpolated from are; steps beyond the end of the series are hidden, with constant inputs.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        require(0.0 < self.low <= self.high, "low", "positive and not above `high`", (self.low, self.high))

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The resampled series."""
        uniform = torch.rand(data.num_series, 1, generator=generator, dtype=torch.float64)
        rate = self.low * (self.high / self.low) ** uniform
        position = rate * torch.arange(data.num_steps)
        inside = position <= data.num_steps - 1
        position = position.clamp(max=data.num_steps - 1)
        before = position.floor().long()
        fraction = (position - before).to(data.dtype)
        after = before + (fraction > 0)
        rows = torch.arange(data.num_series)[:, None]

        def resampled(field: Tensor) -> Tensor:
            weight = widen(fraction, field).to(field.device)
            return field[rows, before] * (1 - weight) + field[rows, after] * weight

        seen = on_host(data.mask)
        mask = uploaded(seen[rows, before] & seen[rows, after] & widen(inside, seen), data.device)
        inputs = None if data.inputs is None else resampled(data.inputs)
        values = resampled(data.values)
        return data._with(values=_hidden_to_zero(values, mask), mask=mask, inputs=inputs)


@dataclass(frozen=True)
class CyclicShift:
    """Roll each series by a random number of steps; times stay.

    Valid only for periodic sequences, whose last step is followed by the first, such as one full turn of an object.
    """

    def __call__(self, data: Sequences, step: int, generator: torch.Generator) -> Sequences:
        """The rolled series."""
        if data.num_steps == 0:
            return data
        start = torch.randint(data.num_steps, (data.num_series, 1), generator=generator)
        steps = (start + torch.arange(data.num_steps)) % data.num_steps
        rows = torch.arange(data.num_series)[:, None]
        inputs = None if data.inputs is None else data.inputs[rows, steps]
        mask = uploaded(on_host(data.mask)[rows, steps], data.device)
        return data._with(values=data.values[rows, steps], mask=mask, inputs=inputs)


def _only(data: Sequences, steps: Tensor) -> Sequences:
    """The chosen steps, (steps,) or (series, steps)."""
    if data.inputs is None:
        return data.take_steps(steps)
    hidden = torch.ones(data.num_series, data.num_steps, dtype=torch.bool)
    return data.seen().hide(hidden.scatter(1, steps.expand(data.num_series, -1), False))


def _gather(data: Sequences, steps: Tensor) -> Sequences:
    """Select steps (series, time) of each series; those beyond the end are padded and masked."""
    last = data.num_steps - 1
    inside, steps_inside = steps <= last, steps.clamp(max=last)
    rows, seen = torch.arange(data.num_series)[:, None], on_host(data.mask)
    mask = uploaded(seen[rows, steps_inside] & widen(inside, seen), data.device)
    times = on_host(data.times).expand(data.num_series, -1)
    spacing = times[:, -1:] - times[:, -2:-1] if last > 0 else torch.ones_like(times)
    return data._with(
        values=_hidden_to_zero(data.values[rows, steps_inside], mask),
        mask=mask,
        times=uploaded(times[rows, steps_inside] + spacing * (steps - steps_inside), data.device),
        inputs=None if data.inputs is None else data.inputs[rows, steps_inside],
    )


def _hidden_to_zero(values: Tensor, mask: Tensor) -> Tensor:
    return torch.where(widen(mask, values), values, values.new_zeros(()))
