from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pyro_seq.infer.trainer import Trainer


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests_infer_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_TOY, _FACTORS = _load("toy"), _load("factors")


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module `toy`: `Lines`, `make_lines`, `make_data`, `exact_posterior`."""
    return _TOY


@pytest.fixture(scope="session")
def factors() -> ModuleType:
    """The module `factors`: `Factors`, `Bowl`, `make_data`, `evidence`, `slopes`, `objective_of`."""
    return _FACTORS


@pytest.fixture
def quiet() -> Trainer:
    return Trainer(progress=False, accelerator="cpu")
