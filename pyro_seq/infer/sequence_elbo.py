"""``SequenceELBO``: the training objective of the library as a loss for ``pyro.infer.SVI``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor

from pyro_seq._plain_pyro import warn_of_missing_units
from pyro_seq.data import Sequences
from pyro_seq.door import require_type
from pyro_seq.errors import DataError
from pyro_seq.infer.objective import Objective
from pyro_seq.model import SequenceModel
from pyro_seq.training.schedules import Schedule


class SequenceELBO(pyro.infer.ELBO):
    """The negative evidence lower bound with the model's training terms, for `pyro.infer.SVI`.

    Pyro's `Trace_ELBO` covers only the sites of a model. This loss is the objective of `SVI`: divergences in closed
    form where available, the terms of `SequenceModel.regulariser`, and weights on named terms. Like Pyro's losses it is
    the sum over all series, in nats, scaled up from a minibatch; the objective of `fit` is per series. Schedules count
    the steps taken with this object.

    Lessons on gaps, ``dreams`` and ``rehearsal``, count only if `scales` names them; `fit` adds them automatically.

    Args:
        model: The model whose `model` and `guide` methods are passed to `pyro.infer.SVI`.
        num_particles: Number of joint draws of all latents per step, or a function of the step.
        analytic_kl: Use closed-form divergences where they exist.
        scales: Weight of a term by name, a number or a function of the step.

    Raises:
        DataError: When `pyro.infer.SVI` has other functions, or a name in `scales` is not a term.

    Warns:
        UserWarning: Once, when the model has not taken units from data.

    Example:
        >>> model.take_units(train)  # doctest: +SKIP
        >>> optimiser = pyro.optim.Adam({"lr": 1e-3})  # doctest: +SKIP
        >>> svi = pyro.infer.SVI(model.model, model.guide, optimiser, loss=SequenceELBO(model))  # doctest: +SKIP
        >>> svi.step(train)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: SequenceModel,
        *,
        num_particles: int | Schedule = 1,
        analytic_kl: bool = True,
        scales: Mapping[str, float | Schedule] | None = None,
    ) -> None:
        super().__init__(max_plate_nesting=1)
        require_type(model, SequenceModel, "model")
        self._objective = Objective(model, num_particles=num_particles, analytic_kl=analytic_kl, scales=scales)
        self._step = 0

    def differentiable_loss(self, model: Callable, guide: Callable, data: Sequences) -> Tensor:
        """The loss at `data`, a minibatch or the whole set, as a differentiable tensor."""
        own = self._objective.model
        if model != own.model or guide != own.guide:
            raise DataError(
                "`SequenceELBO` must be given the functions of its model, `pyro.infer.SVI(model.model, model.guide, "
                f"optimiser, loss=SequenceELBO(model))`. Got {model!r} and {guide!r}."
            )
        require_type(data, Sequences, "data")
        if torch.is_grad_enabled():
            warn_of_missing_units(own)
        own.bind()
        self._objective.training = own.training  # lessons only count in training; modes of the parts stay as they are
        return self._objective(data, self._step).total * data.total

    def loss(self, model: Callable, guide: Callable, data: Sequences) -> float:
        """The loss as a number."""
        return float(self.differentiable_loss(model, guide, data).detach())

    def loss_and_grads(self, model: Callable, guide: Callable, data: Sequences) -> float:
        """The loss as a number; gradients accumulate in the parameters, and the call counts as a step."""
        loss = self.differentiable_loss(model, guide, data)
        if loss.requires_grad:
            loss.backward()
        self._step += 1
        return float(loss.detach())

    def _get_trace(self, model: Callable, guide: Callable, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError("The objective makes its own traces.")
