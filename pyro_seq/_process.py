"""A lock for state that all threads of a process share.

Pyro's stack of handlers and its settings, torch's random generators and the modes of a module belong to the process.
Code that changes them holds this lock, and `fit` and the verbs hold it during the whole call, so that calls from
several threads run one after another and give the same results as alone.
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
    """Hold the lock on the state of the process; other threads wait here.

    Raises:
        UnsupportedError: In a thread that reads ahead for `fit`: both would wait for each other.
    """
    if getattr(_THREAD, "reads_ahead", False):
        raise UnsupportedError(
            "`load` of a source must not call `fit`, verbs or draws of pyro_seq in the threads that read ahead: they "
            "would wait for the training that waits for them. Read in the training thread: `Trainer(num_workers=0)`."
        )
    with _LOCK:
        yield


def one_at_a_time(function: Callable[P, Result]) -> Callable[P, Result]:
    """Decorator: hold the lock on the state of the process while the function runs."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> Result:
        with process_state():
            return function(*args, **kwargs)

    return run


def read_ahead() -> None:
    """Mark this thread as one that reads data for training."""
    _THREAD.reads_ahead = True
