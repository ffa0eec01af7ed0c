"""What is asked of a run of a model: a question that the model puts to Pyro's handlers, and that a verb answers."""

from __future__ import annotations

from pyro.poutine.runtime import effectful


@effectful(type="horizon_alone")
def is_horizon_alone() -> bool:
    """Whether nobody will look at the seen steps of what is predicted, so that they need no decoding."""
    return False
