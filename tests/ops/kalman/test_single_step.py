"""One step at a time against the filter of whole series."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.ops.kalman import (
    kalman_filter,
    step,
)
from tests.ops.kalman.cases import (
    BATCH,
    CASES,
    Case,
    largest,
)


def at_step(case: Case, t: int) -> Case:
    """The arguments of `step`."""
    values, parameters, mask = case
    moving = {
        name: tensor[..., t, :] if name == "inputs" else tensor if tensor.ndim == 2 else tensor[..., t, :, :]
        for name, tensor in parameters._asdict().items()
        if tensor is not None and not name.startswith("initial_")
    }
    seen = None if mask is None else mask[..., t, :] if mask.ndim == values.ndim else mask[..., t]
    return Case(values[..., t, :], parameters._replace(**moving), seen)


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_steps_are_the_filter(case):
    whole = kalman_filter(*case)
    result, total = None, 0.0
    for t in range(case.values.shape[-2]):
        value, parameters, mask = at_step(case, t)
        result = step(value, parameters, result, mask)
        total = total + result.log_likelihood
        for name in whole._fields[:4]:
            assert largest(getattr(result, name) - getattr(whole, name).select(len(BATCH), t)) < 1e-12
    torch.testing.assert_close(total, whole.log_likelihood, rtol=1e-12, atol=1e-12)


def test_step_may_first_predict_then_observe():
    case = CASES[1]
    first = step(*at_step(case, 0)[:2])
    value, parameters, _ = at_step(case, 1)
    hidden = torch.zeros(BATCH, dtype=torch.bool)
    ahead = step(value * torch.nan, parameters, first, hidden)
    assert torch.equal(ahead.filtered_means, ahead.predicted_means)
    assert torch.equal(ahead.log_likelihood, torch.zeros(BATCH, dtype=torch.float64))
    torch.testing.assert_close(ahead.predicted_means, step(value, parameters, first).predicted_means, rtol=0, atol=0)
