"""A system: shapes and types that do not fit, and parts of its parameters."""

from __future__ import annotations

import math

import pytest
import torch

from pyro_seq.errors import DataError, NumericalError, ShapeError
from pyro_seq.ops.kalman import (
    kalman_filter,
)
from pyro_seq.ops.kalman.system import prepare
from tests.ops.kalman.cases import (
    BATCH,
    GOOD,
    INPUT,
    STATE,
    ZEROS,
    changed,
    random_case,
)

WRONG = {
    "integers": (GOOD._replace(values=GOOD.values.long()), DataError, "`values` must be a floating-point"),
    "scalar steps": (GOOD._replace(values=ZEROS(6)), ShapeError, r"must be \(\*batch, time, obs\)"),
    "no steps": (GOOD._replace(values=ZEROS(0, 2)), ShapeError, "at least one step"),
    "NaN": (GOOD._replace(values=GOOD.values * torch.nan, mask=None), DataError, r"values\[0, 0, 0, 0\] = nan"),
    "number mask": (GOOD._replace(mask=ZEROS(*BATCH, 6)), DataError, "`mask` must be boolean"),
    "short mask": (GOOD._replace(mask=ZEROS(5).bool()), ShapeError, "`mask` must have the shape"),
    "dtype": (changed(GOOD, transition=GOOD.parameters.transition.float()), DataError, "`transition` must have"),
    "rows": (changed(GOOD, observation=ZEROS(5, STATE)), ShapeError, r"`observation` must be \(obs 2, state 3\)"),
    "time": (changed(GOOD, transition_cov=ZEROS(5, 3, 3)), ShapeError, r"`transition_cov` .* time 6 or 1, state 3"),
    "start": (changed(GOOD, initial_cov=ZEROS(2, 2)), ShapeError, "`initial_cov` must be"),
    "no start": (changed(GOOD, initial_mean=ZEROS(())), ShapeError, "`initial_mean` must be"),
    "half an input": (changed(GOOD, inputs=None), DataError, "must be given together"),
    "input steps": (changed(GOOD, inputs=ZEROS(5, INPUT)), ShapeError, "`inputs` must be"),
    "batch": (changed(GOOD, initial_mean=ZEROS(3, STATE)), ShapeError, "must broadcast"),
    "no variance": (changed(GOOD, observation_cov=-torch.eye(2).double()), NumericalError, "innovation .* step 0"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name):
    case, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        kalman_filter(*case)


def test_a_part_of_the_steps_has_the_matrices_of_those_steps():
    parameters = random_case().parameters
    assert parameters.num_steps == 6
    part = parameters.between(2, 5)
    assert part.num_steps == 3
    assert torch.equal(part.transition, parameters.transition[..., 2:5, :, :])
    assert torch.equal(part.inputs, parameters.inputs[..., 2:5, :])
    assert torch.equal(part.initial_mean, parameters.initial_mean)
    constant = random_case(varying=False, inputs=False).parameters
    assert constant.num_steps is None and constant.between(2, 5).transition is constant.transition


def test_hidden_entries_leave_the_observation_equation():
    """Their rows and columns are those of an entry that sees nothing and has unit variance; others stay."""
    case = random_case(seed=2)
    system = prepare(*case)
    seen = case.mask
    both = seen[..., None] & seen[..., None, :]
    expected = torch.where(both, case.parameters.observation_cov, 0.0) + torch.diag_embed((~seen).double())
    assert torch.equal(system.observation_cov, expected)
    assert torch.equal(system.observation, torch.where(seen[..., None], case.parameters.observation, 0.0))
    assert torch.equal(system.values[..., 0], torch.where(seen, case.values, 0.0))
    assert torch.equal(system.num_seen, seen.sum(-1))


def test_covariances_are_counted_once_where_series_share_them():
    shared, varying = random_case(varying=False, hide="nothing"), random_case(varying=True, hide="nothing")
    assert prepare(*shared).num_covs == 1 and prepare(*shared).batch_shape == BATCH
    assert prepare(*varying).num_covs == math.prod(BATCH)
