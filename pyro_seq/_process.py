"""State that all threads of a process share is used by one of them at a time.

Pyro's stack of handlers and its settings, torch's random generators and the modes of a module belong to the process.
Whoever borrows one of them holds the lock here, and `fit` and the verbs hold it from their first line to their last, so
that calls from several threads run one after another and each gives what it gives alone.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from pyro_seq.errors import UnsupportedError

P = ParamSpec("P")
Result = TypeVar("Result")

_LOCK = threading.RLock()  # a verb calls others, so a thread may take it again
_THREAD = threading.local()


@contextmanager
def process_state() -> Iterator[None]:
    """Hold the state of the process; other threads wait at this line.

    Raises:
        UnsupportedError: In a thread that reads ahead for `fit`, which would wait for `fit` while that waits for it.
    """
    if getattr(_THREAD, "reads_ahead", False):
        raise UnsupportedError(
            "`load` of a source must not call `fit`, verbs or draws of pyro_seq in the threads that read ahead: they "
            "would wait for the training that waits for them. Read in the training thread: `Trainer(num_workers=0)`."
        )
    with _LOCK:
        yield


def one_at_a_time(function: Callable[P, Result]) -> Callable[P, Result]:
    """A function that holds the state of the process while it runs."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        with process_state():
            return function(*args, **kwargs)

    return run


def read_ahead() -> None:
    """Say of this thread that training waits for what it reads."""
    _THREAD.reads_ahead = True
