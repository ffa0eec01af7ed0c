"""The guard that watches over the other tests catches offenders."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

OFFENDERS = """
import pyro, socket, torch

def test_parameter_store():
    pyro.param("leaked", torch.zeros(()))

def test_dtype():
    torch.set_default_dtype(torch.float64)

def test_validation():
    pyro.enable_validation(False)

def test_settings():
    pyro.settings.set(module_local_params=True)

def test_network():
    try:
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    except Exception:  # such as that of code which thinks it is offline
        pass

def test_clean_after_the_others():
    assert torch.zeros(()).dtype == torch.float32
    assert not pyro.get_param_store().keys()
"""


def test_leaks_of_global_state_and_reaching_for_a_network_are_errors(pytester: pytest.Pytester) -> None:
    """In a process apart: one in this process forgets the modules that it imported, and they cannot load twice."""
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(OFFENDERS)
    outcomes = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly").parseoutcomes()
    assert outcomes == {"passed": 5, "failed": 1, "errors": 4}
