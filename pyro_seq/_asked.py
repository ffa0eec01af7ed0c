"""Questions that a model asks Pyro's handlers during a run, and that a verb answers."""

from __future__ import annotations

from pyro.poutine.runtime import effectful


@effectful(type="horizon_alone")
def is_horizon_alone() -> bool:
    """Whether the seen steps of a prediction are not used, so that they need no decoding."""
    return False
