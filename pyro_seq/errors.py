"""Exceptions of the library and the phrases their messages share.

Every message names the argument, the expected value, the value received, and a remedy.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


class PyroSeqError(Exception):
    """Base class: ``except PyroSeqError`` catches all errors that this library raises on purpose."""


class ShapeError(PyroSeqError, ValueError):
    """An argument has the wrong number of axes or sizes that do not fit together."""


class DataError(PyroSeqError, ValueError):
    """An argument or a file holds values that cannot be used (non-finite, unsorted, empty, unreadable)."""


class UnsupportedError(PyroSeqError, NotImplementedError):
    """A valid combination that the library deliberately does not support."""


class NumericalError(PyroSeqError, RuntimeError):
    """A computation gave non-finite numbers or did not converge."""


class CheckpointError(PyroSeqError, RuntimeError):
    """A file of saved weights is incomplete, altered, of another version, or belongs to another model."""


def shape_text(shape: Tensor | Sequence[int], names: Sequence[str]) -> str:
    """Describe a shape with its axis names; axes beyond the names are called ``obs``.

    Example:
        >>> shape_text((16, 25, 2), ("series", "time"))
        '(series 16, time 25, obs 2)'
    """
    sizes = tuple(shape.shape) if isinstance(shape, Tensor) else tuple(shape)
    named = [f"{name} {size}" for name, size in zip(names, sizes, strict=False)]
    named += [f"obs {size}" for size in sizes[len(names) :]]
    return f"({', '.join(named)})"
