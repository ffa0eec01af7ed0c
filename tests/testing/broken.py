"""Faults of a model that more than one check finds, and what it means that a check finds one."""

from __future__ import annotations

from types import ModuleType

import pyro
import pytest
from torch import Tensor

from pyro_seq.data import Sequences
from pyro_seq.model import SequenceModel
from pyro_seq.testing import ModelCheckError, check_model
from pyro_seq.testing.checks import CHECKS, SLOW_CHECKS
from tests.support import Lines, Walks, binary_series, real_series

Broken = list[tuple[type[SequenceModel], str, str]]


class ForgetsTotal(Lines):
    def series(self, data: Sequences) -> pyro.plate:
        return pyro.plate("series", data.num_series, dim=-1)


class ForecastSeesItsEnd(Lines):
    """Centres the path over all times, the horizon included."""

    def path(self, line: Tensor, drift: Tensor, data: Sequences) -> Tensor:
        path = super().path(line, drift, data)
        return path - path.mean(-2, keepdim=True)


def assert_fails(model_class: type[SequenceModel], check: str, words: str) -> None:
    data = binary_series() if issubclass(model_class, Walks) else real_series()
    with pytest.raises(ModelCheckError) as error:
        check_model(model_class(), data, only=[check])
    assert error.value.report.names("failed") == (check,)
    assert f"{check}: " in str(error.value) and model_class.__name__ in str(error.value)
    assert words in str(error.value)


def checks_without_a_fault(module: ModuleType, broken: Broken) -> set[str]:
    """Names of the checks of a module that no broken model fails."""
    names = {check.__name__ for check in CHECKS + SLOW_CHECKS if check.__module__ == module.__name__}
    return names - {check for _, check, _ in broken}
