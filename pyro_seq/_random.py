"""Seeds: the library draws from separate generators and leaves the host program's random state unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from pyro_seq._process import process_state


def mixed_seed(*parts: int) -> int:
    """One well mixed 63-bit seed from several numbers, such as (seed, step, rank)."""
    return int(np.random.SeedSequence([int(part) % 2**64 for part in parts]).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def isolated_rng(*seed: int) -> Iterator[None]:
    """Seed the torch generators inside the block and restore the caller's state after it.

    Pyro and torch distributions draw from the global generators, so this gives them a separate stream.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with process_state(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(mixed_seed(*seed))
        yield
