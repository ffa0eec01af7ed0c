"""``Guard``: skips steps with non-finite numbers, and detects parameters that never get a gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pyro_seq.errors import NumericalError, UnsupportedError
from pyro_seq.training.buffers import Buffers
from pyro_seq.training.plan import Loss

_PATIENCE = 3  # bad steps in a row before giving up
_GRACE = 200  # steps in which every parameter must have had a gradient; a growing view may start without some
_SHOWN = 5  # names in a message


class Guard:
    """Checks a step between the backward pass and the optimiser: its gradients and the buffers that it changed.

    Attributes:
        buffers: The buffers of the model, restored if a step is skipped.
        skipped: Number of skipped steps.
        in_a_row: Number of consecutive skipped steps up to now.
        untouched: Names of parameters that have had no gradient so far.
    """

    def __init__(self, objective: nn.Module) -> None:
        self.trained = {name: value for name, value in objective.named_parameters() if value.requires_grad}
        self.buffers = Buffers(objective.model)  # type: ignore[arg-type]
        self.skipped = 0
        self.in_a_row = 0
        self.untouched = set(self.trained)

    def norm(self) -> Tensor:
        """Norm of the joint gradient, a scalar; not finite if any entry is not."""
        return torch.nn.utils.get_total_norm([p.grad for p in self.trained.values() if p.grad is not None])

    def accept(self) -> None:
        """Record a good step."""
        self.in_a_row = 0
        if self.untouched:
            self.untouched = {name for name in self.untouched if self.trained[name].grad is None}

    def reject(self, step: int, loss: Loss, cause: Exception | None) -> None:
        """Record a step that must be skipped, and undo its changes of the buffers.

        Raises:
            NumericalError: On the third such step in a row.
        """
        self.skipped += 1
        self.in_a_row += 1
        blame = self._blame(loss, cause)
        self.buffers.restore()
        if self.in_a_row < _PATIENCE:
            return
        since = "from the first step on" if self.skipped == step + 1 else f"for {self.in_a_row} steps in a row"
        raise NumericalError(
            f"The objective or its gradient was not finite {since}, up to step {step}: {blame}. "
            "These steps were not taken and the weights are still finite. Lower `learning_rate`, set `clip_norm`, "
            "scale the data to unit size, or begin with shorter series (`GrowingLength`)."
        ) from cause

    def _blame(self, loss: Loss, cause: Exception | None) -> str:
        if cause is not None:
            return f"{type(cause).__name__}: {str(cause).splitlines()[0].rstrip('.: ')}"
        terms = [name for name, term in loss.terms.items() if not bool(term.isfinite())]
        if terms:
            return f"not finite are the terms {terms}"
        names = [n for n, p in self.trained.items() if p.grad is not None and not bool(p.grad.isfinite().all())]
        if names:
            return f"not finite are the gradients of {_listed(names)}"
        names = self.buffers.not_finite()
        return f"not finite become the buffers {_listed(names)}" if names else "the norm of the gradient overflows"

    def require_gradients(self, steps_done: int, num_steps: int, distributed: bool) -> None:
        """Raise if some parameters never get a gradient.

        Raises:
            UnsupportedError: Naming them, after a grace period; immediately on several devices, which would wait for
                each other's gradients.
        """
        if self.untouched and (distributed or steps_done >= min(_GRACE, num_steps)):
            raise UnsupportedError(
                f"Every parameter must get a gradient. None came to {_listed(self.untouched)} in {steps_done} step(s). "
                "Remove the unused part, or freeze it with `requires_grad_(False)`; where `data` have too few steps to "
                "tell anything about it, train on longer series."
            )

    def require_finite(self) -> None:
        """Raise if weights or buffers are not finite, which a very large step can still cause.

        Raises:
            NumericalError: Naming them.
        """
        names = [name for name, value in self.trained.items() if not bool(value.isfinite().all())]
        names += self.buffers.not_finite()
        if names:
            raise NumericalError(
                f"Weights or buffers are not finite: {_listed(names)}. Lower `learning_rate` or set `clip_norm`."
            )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in ordered[:_SHOWN]) + more
