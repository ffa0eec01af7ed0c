"""Whether numbers that are not finite stop a computation, or pass to a caller who knows whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IS_PASSED: ContextVar[bool] = ContextVar("nonfinite_is_passed", default=False)


@contextmanager
def passing_nonfinite() -> Iterator[None]:
    """Inside, operations on many independent rows return what is not finite instead of raising `NumericalError`.

    A batch of chains needs this: one row that leaves the finite numbers must not stop the others, and its energy, which
    is then not finite either, says which one it is. Holds for the present thread or task.
    """
    token = _IS_PASSED.set(True)
    try:
        yield
    finally:
        _IS_PASSED.reset(token)


def nonfinite_is_passed() -> bool:
    """True inside `passing_nonfinite`."""
    return _IS_PASSED.get()
