"""The directory of a run: locked by one run at a time, with leftovers of killed runs removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from pyro_seq._files import StrPath, remove_drafts
from pyro_seq.errors import CheckpointError
from pyro_seq.training.trainer import CHECKPOINT

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows: no lock between runs
    fcntl = None  # type: ignore[assignment]

_LOCK = ".lock"


@contextmanager
def held(directory: StrPath | None) -> Iterator[None]:
    """Lock `directory` against other runs, and remove checkpoint drafts of killed runs.

    The system releases the lock when a process ends, in any way; a leftover lock file has no effect. If a run has
    several processes, the first holds the lock for all.

    Raises:
        CheckpointError: When another run is using it.
    """
    if directory is None or fcntl is None or vars(rank_zero_only).get("rank"):
        yield
        return
    path = Path(directory) / _LOCK
    descriptor = _locked(path)
    try:
        remove_drafts(Path(directory) / CHECKPOINT)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int:
    """The descriptor of the file at `path`, locked for this process."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace")
            os.close(descriptor)
            raise CheckpointError(
                f"`directory` {str(path.parent)!r} is in use by another run ({owner}), and both would write the same "
                "files. Wait for it, or choose another."
            ) from None
        except OSError:  # a file system without locks: train without one
            return descriptor
        with suppress(FileNotFoundError):  # its owner may have just removed it; then it locks nothing
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                os.truncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
                return descriptor
        os.close(descriptor)
