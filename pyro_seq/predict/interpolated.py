"""A posterior interpolated between two sets of series."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.door import require_data
from pyro_seq.errors import ShapeError
from pyro_seq.model import SequenceModel
from pyro_seq.posterior import Posterior


@dataclass(eq=False, repr=False)
class InterpolatedPosterior:
    r"""Latents interpolated between those of the verb's data and those of `other`.

    .. math::
        z = (1 - \lambda)\, z_\text{data} + \lambda\, z_\text{other}

    Both are drawn with the same random numbers, so that a Gaussian guide gives a Gaussian whose mean and scale are
    interpolated. `SRVP` keeps the content of the data: the dynamics change, the appearance does not.

    Attributes:
        posterior: The posterior returned by `fit`.
        other: Data with the same number of series and steps as the data of the verb.
        weight: The share :math:`\lambda` of `other`, a number or one for each series (series,).

    Example:
        >>> halfway = InterpolatedPosterior(posterior, other, 0.5)  # doctest: +SKIP
        >>> prediction = forecast(halfway, data, horizon=20)  # doctest: +SKIP
    """

    posterior: Posterior
    other: Sequences
    weight: float | Tensor = 0.5

    def __repr__(self) -> str:
        return f"InterpolatedPosterior({self.posterior!r}, {self.other!r})"

    @property
    def model(self) -> SequenceModel:
        """The fitted model."""
        return self.posterior.model

    def draws(self, data: Sequences, num_samples: int, *, seed: int = 0) -> dict[str, Tensor]:
        r"""Latent sites between those given ``data.seen()`` and those given `other`: (sample, series, \*event)."""
        require_data(self.model, self.other, "other")
        here, there = data.seen(), self.other.seen()
        if here.values.shape != there.values.shape:
            raise ShapeError(
                f"`other` must have as many series, steps and entries as `data`. Got {there!r} and {here!r}. Cut one."
            )
        start = self.posterior.draws(here, num_samples, seed=seed)
        end = self.posterior.draws(there, num_samples, seed=seed)
        return {name: torch.lerp(value, end[name], self._weight_of(value)) for name, value in start.items()}

    def _weight_of(self, value: Tensor) -> Tensor:
        weight = torch.as_tensor(self.weight, dtype=value.dtype, device=value.device)
        return weight if weight.ndim == 0 else weight.reshape(-1, *[1] * (value.ndim - 2))
