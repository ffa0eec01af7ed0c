"""Assertions for tests of stochastic code."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import NormalDist

import numpy as np
import torch
from pyro.ops.stats import effective_sample_size
from torch import Tensor


def assert_close_mc(
    samples: Tensor, expected: Tensor | float, k: float = 4.0, *, has_chains: bool = False, min_ess: float = 100.0
) -> None:
    r"""Assert that the mean of draws equals `expected` within `k` Monte Carlo standard errors.

    .. math::
        |\bar s - e| \le k'\, \hat\sigma / \sqrt{n_\mathrm{eff}}

    With several entries, k' is larger than k, so that the chance of a false alarm at *any* entry is that of `k` for one
    entry.

    Args:
        samples: Independent draws (sample, ...), or draws of chains (chain, sample, ...).
        expected: The true mean, (...) or a number.
        k: Standard errors allowed for a single entry; 4 gives 6 false alarms in 100 000 seeds.
        has_chains: `samples` come from chains: count effective draws instead of draws.
        min_ess: Smallest number of effective draws for a meaningful assertion.

    Raises:
        AssertionError: When an entry is too far off, a value is not finite, or there are too few effective draws.

    Example:
        >>> draws = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        >>> assert_close_mc(draws, 0.0)
    """
    flat = samples.detach().double()
    if not bool(torch.isfinite(flat).all()):
        raise AssertionError(f"Draws must be finite. {int((~torch.isfinite(flat)).sum())} entries are not.")
    if has_chains:
        ess = effective_sample_size(flat, chain_dim=0, sample_dim=1)
        flat = flat.flatten(0, 1)
        constant = flat.std(0) == 0
        ess = torch.where(constant, torch.full_like(ess, flat.shape[0]), ess).clamp(max=flat.shape[0])
    else:
        ess = torch.full(flat.shape[1:], float(flat.shape[0]), dtype=torch.float64)
    if float(ess.min()) < min_ess:
        raise AssertionError(f"At least {min_ess:g} effective draws are needed. Got {float(ess.min()):.1f}.")
    expected = torch.as_tensor(expected, dtype=torch.float64, device=flat.device).expand(flat.shape[1:])
    error = flat.std(0) / ess.sqrt()
    rounding = torch.finfo(samples.dtype).eps * expected.abs().clamp(min=1.0) * 10
    gap = (flat.mean(0) - expected).abs()
    allowed = _widened(k, gap.numel()) * error + rounding
    if bool((gap > allowed).any()):
        worst = int((gap / allowed).argmax())
        mean, wanted = flat.mean(0).reshape(-1)[worst], expected.reshape(-1)[worst]
        raise AssertionError(
            f"{int((gap > allowed).sum())} of {gap.numel()} means are off. Worst at flat entry {worst}: mean "
            f"{float(mean):.6g}, expected {float(wanted):.6g}, standard error {float(error.reshape(-1)[worst]):.3g}, "
            f"allowed {float(allowed.reshape(-1)[worst]):.3g}."
        )


def _widened(k: float, entries: int) -> float:
    tail = NormalDist().cdf(-k) / max(entries, 1)
    return -NormalDist().inv_cdf(tail) if tail > 0.0 else k


@contextmanager
def assert_rng_untouched() -> Iterator[None]:
    """Assert that the block leaves the global random states of torch, NumPy and Python as they were.

    Raises:
        AssertionError: When one of them has changed; names it.

    Example:
        >>> with assert_rng_untouched():
        ...     _ = torch.rand(3, generator=torch.Generator().manual_seed(0))
    """
    before = _random_states()
    yield
    moved = [name for name, state in _random_states().items() if state != before[name]]
    if moved:
        raise AssertionError(f"The global random state of {', '.join(moved)} has moved. Use a generator of your own.")


def _random_states() -> dict[str, object]:
    states: dict[str, object] = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr([np.asarray(part).tolist() for part in np.random.get_state()]),
        "random": random.getstate(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["torch.cuda"] = torch.cuda.get_rng_state().numpy().tobytes()
    return states
