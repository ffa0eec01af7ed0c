"""The guards that watch over the other tests do catch offenders."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

pytest_plugins = ["pytester"]

OFFENDERS = """
import pyro, torch

def test_parameter_store():
    pyro.param("leaked", torch.zeros(()))

def test_dtype():
    torch.set_default_dtype(torch.float64)

def test_validation():
    pyro.enable_validation(False)

def test_settings():
    pyro.settings.set(module_local_params=True)

def test_clean_after_the_others():
    assert torch.zeros(()).dtype == torch.float32
    assert not pyro.get_param_store().keys()
"""


def test_leaks_of_global_state_are_errors(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(OFFENDERS)
    outcomes = pytester.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes()
    assert outcomes == {"passed": 5, "errors": 4}


@pytest.mark.parametrize("draw", [torch.rand, np.random.rand, lambda _: random.random(), torch.manual_seed])
def test_touched_random_state_is_an_error(draw, assert_rng_untouched) -> None:
    with pytest.raises(AssertionError, match="random state moved"), assert_rng_untouched():
        draw(1)


def test_untouched_random_state_passes(assert_rng_untouched) -> None:
    with assert_rng_untouched():
        torch.rand(1, generator=torch.Generator().manual_seed(0))
