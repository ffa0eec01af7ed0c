"""Whether non-finite numbers raise an error, or are returned to a caller that can handle them.

A batch of chains can tell which chain caused them. A training step skips the checks: nearly all steps are sound, and
each check on the way waits for the device. It checks the result once and, if that is not finite, repeats the step with
all checks, which then report the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import pyro

from pyro_seq.errors import DataError

# torch.distributions says of numbers that are not finite, in a bare ValueError, that it found invalid values; where its
# checks are switched off, or what it would check is integrated out, our own speak next, and Pyro wraps both
_WORDS = {ValueError: ("found invalid values", "must be finite"), DataError: ("must be finite where observed",)}
_IS_PASSED: ContextVar[bool] = ContextVar("nonfinite_is_passed", default=False)
_IS_CHANCED: ContextVar[bool] = ContextVar("is_chanced", default=False)


@contextmanager
def passing_nonfinite() -> Iterator[None]:
    """Inside, operations on many independent rows return non-finite values instead of raising `NumericalError`.

    A batch of chains needs this: one non-finite row must not stop the others, and its energy, then also non-finite,
    identifies it. Applies to the current thread or task.
    """
    token = _IS_PASSED.set(True)
    try:
        yield
    finally:
        _IS_PASSED.reset(token)


def nonfinite_is_passed() -> bool:
    """True inside `passing_nonfinite`."""
    return _IS_PASSED.get()


@contextmanager
def chancing() -> Iterator[None]:
    """Like `passing_nonfinite`; also, numbers are not checked or corrected on the way if that means reading them.

    Errors must then come out as NaN, because the caller checks the result and, if it is not finite, repeats everything
    outside this context. Arguments of distributions are not checked either.
    """
    token = _IS_CHANCED.set(True)
    try:
        with passing_nonfinite(), pyro.validation_enabled(False):
            yield
    finally:
        _IS_CHANCED.reset(token)


def is_chanced() -> bool:
    """True inside `chancing`."""
    return _IS_CHANCED.get()


def is_about_numbers(error: Exception) -> bool:
    """Whether an error is about non-finite numbers rather than about a wrong call."""
    if not isinstance(error, ValueError):
        return True
    return any(words in str(error) for words in _WORDS.get(type(error), ()))
