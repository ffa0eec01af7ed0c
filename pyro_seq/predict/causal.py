"""Copies of series that end at different steps, so that every hidden step can be drawn given only its past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.posterior import Prediction


@dataclass(frozen=True, eq=False)
class CausalCopies:
    """One copy of a series per gap, with everything after the start of the gap hidden, and one complete copy.

    The steps of one gap share a copy, because nothing is seen between them; so a gap is drawn jointly.

    Attributes:
        data: The copies.
        copy: Which copy is used for each step of the original, (series, time): for a hidden step the copy that ends
            with the last seen step before it, for a seen step the next longer copy.
        full: Which copy is the complete series, (series,).
        times: Time stamps of the original.
    """

    data: Sequences
    copy: Tensor
    full: Tensor
    times: Tensor

    @classmethod
    def of(cls, data: Sequences) -> CausalCopies:
        """Copies for the gaps of `data`; a step with some hidden entries counts as a separate gap."""
        length = data.num_steps
        steps = torch.arange(1, length + 1, device=data.device)
        # the number of steps up to the last one with anything observed, at each step
        known = (data.step_mask * steps).cummax(1).values
        has_hidden = ~data.entry_mask.flatten(2).all(-1) if data.mask.ndim > 2 else ~data.mask
        ends = torch.zeros(len(data), length + 1, dtype=torch.bool, device=data.device)
        ends.scatter_(1, torch.where(has_hidden, known, length), True)
        ends[:, length] = True
        number = ends.flatten().cumsum(0).view_as(ends) - 1
        # the next end at or after each position, from right to left
        series, end = ends.nonzero(as_tuple=True)
        following = torch.where(ends, number, len(series)).flip(1).cummin(1).values.flip(1)
        copies = data[series].hide(steps > end[:, None])
        return cls(copies, following.gather(1, known), number[:, length], data.times)

    def gathered(self, filled: Prediction, dims: Mapping[str, tuple[str, ...]]) -> Prediction:
        """For each step of the original series, the prediction of its copy there, for latents with `dims`."""
        steps = torch.arange(self.copy.shape[1], device=self.copy.device)

        def original(name: str, value: Tensor) -> Tensor:
            axes = dims[name]
            if value.ndim == 1 + len(axes):  # shared by all series
                return value
            return value[:, self.copy, steps] if axes[:1] == ("time",) else value[:, self.full]

        latents = {name: original(name, value) for name, value in filled.latents.items() if name in dims}
        samples, means = filled.samples[:, self.copy, steps], filled.emission_means[:, self.copy, steps]
        return Prediction(samples, means, latents, self.times)
