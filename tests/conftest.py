"""Set-up shared by all tests: one thread, no screen, no network, no leaks of global state."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pyro
import pytest
import torch

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    data = os.environ.get("PYRO_SEQ_DATA", "")
    no_data = pytest.mark.skip(reason=f"no data folder: PYRO_SEQ_DATA is {data!r}")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if item.get_closest_marker("data") and not Path(data or "missing").is_dir():
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


def _global_state() -> dict[str, object]:
    return {
        "names in Pyro's global parameter store": sorted(pyro.get_param_store().keys()),
        "pyro.settings": pyro.settings.get(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "number of threads": torch.get_num_threads(),
        "Pyro handlers on the stack": len(pyro.poutine.runtime._PYRO_STACK),
    }


def _restore(state: dict[str, object]) -> None:
    pyro.clear_param_store()
    pyro.settings.set(**state["pyro.settings"])
    torch.set_default_dtype(state["default dtype"])
    torch.set_default_device(None)
    torch.set_grad_enabled(state["gradients enabled"])
    torch.use_deterministic_algorithms(state["deterministic algorithms"])
    torch.set_num_threads(state["number of threads"])
    pyro.poutine.runtime._PYRO_STACK.clear()


@pytest.fixture(autouse=True)
def no_global_state() -> Iterator[None]:
    """Seed every test, and fail the one that leaves global state changed."""
    pyro.set_rng_seed(0)
    before = _global_state()
    yield
    after = _global_state()
    changed = [f"{name}: {before[name]} became {after[name]}" for name in before if before[name] != after[name]]
    if changed:
        _restore(before)
        pytest.fail("the test left global state changed\n" + "\n".join(changed))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that reaches beyond this machine: all of it must run without a network."""
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("localhost", "127.0.0.1", "::1"):
            pytest.fail(f"the test reaches for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def assert_rng_untouched() -> Callable[[], AbstractContextManager[None]]:
    """`pyro_seq.testing.assert_rng_untouched`, a context manager, for tests that need nothing else from there."""
    from pyro_seq.testing import assert_rng_untouched

    return assert_rng_untouched


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module `toy`: `Lines`, `make_lines`, `make_data`, `exact_posterior`."""
    from tests import toy

    return toy


@pytest.fixture(scope="session")
def factors() -> ModuleType:
    """The module `factors`: `Factors`, `Bowl`, `make_data`, `evidence`, `slopes`, `objective_of`."""
    from tests import factors

    return factors


@pytest.fixture
def quiet() -> Any:
    """A `Trainer` without a progress bar, on the CPU."""
    from pyro_seq import Trainer

    return Trainer(progress=False, accelerator="cpu")
