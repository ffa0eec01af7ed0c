"""Whether numbers that are not finite stop a computation, or pass to a caller who knows what to do.

A batch of chains knows whose they are. A step of training takes the chance: nearly all steps are sound, and to ask
about numbers on the way costs a wait for the device each time. It looks at the result once, and repeats what is not
finite with all checks, which then say why.
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


@contextmanager
def chancing() -> Iterator[None]:
    """As `passing_nonfinite`, and numbers are neither checked nor mended on the way where that means to read them.

    What is wrong must then come out as NaN, for whoever takes the chance looks at the result and, where that is not
    finite, repeats all without. Arguments of distributions go unchecked, too.
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
    """Whether an error says that numbers are not finite, rather than that a call is wrong."""
    if not isinstance(error, ValueError):
        return True
    return any(words in str(error) for words in _WORDS.get(type(error), ()))
