"""Models that keep the contract pass every check, and the report says what failed and what did not apply."""

from __future__ import annotations

import copy

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError
from pyro_seq.model import SequenceModel
from pyro_seq.testing import ModelCheckError, check_model
from pyro_seq.testing.checks import CHECKS, SLOW_CHECKS
from tests.support import Lines, Walks, binary_series, real_series

NO_DEVICE = set() if torch.cuda.is_available() else {"device_follows_the_data"}


@pytest.mark.parametrize("model_class", [Lines, Walks])
@pytest.mark.parametrize("seed", [0, 1])
def test_good_models_pass_every_check(model_class: type[SequenceModel], seed: int) -> None:
    data = real_series() if model_class is Lines else binary_series()
    report = check_model(model_class(), data, seed=seed, slow=True)
    assert set(report.names("not applicable")) == NO_DEVICE
    assert len(report.names("passed")) == len(CHECKS + SLOW_CHECKS) - len(NO_DEVICE)


def test_good_model_passes_on_ragged_data_with_times_per_series() -> None:
    data = binary_series()
    mask = torch.arange(9) < torch.tensor([9, 5, 9, 7, 9, 2])[:, None]
    times = 1e9 + torch.rand(6, 9, generator=torch.Generator().manual_seed(1)).double().cumsum(-1)
    report = check_model(Walks(), Sequences(data.values, mask, times))
    assert set(report.names("not applicable")) == NO_DEVICE | {"shared_times_equal_repeated"}


def test_checks_leave_the_model_and_global_state_alone() -> None:
    model = Lines()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check_model(model, real_series())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training


def test_report_lists_every_check_and_groups_one_cause() -> None:
    class Crashes(Lines):
        def model(self, data: Sequences) -> None:
            raise ZeroDivisionError("on purpose")

    with pytest.raises(ModelCheckError, match="on purpose") as error:
        check_model(Crashes(), real_series())
    report = error.value.report
    assert len(report.results) == len(CHECKS) == len(str(report).splitlines())
    assert str(error.value).count("on purpose") == 1
    assert isinstance(error.value, PyroSeqError) and isinstance(error.value, AssertionError)


def test_conditional_model_needs_no_prior() -> None:
    class Conditional(Lines):
        is_conditional = True

    report = check_model(Conditional(), real_series(), slow=True)
    needs_prior = {"unseen_series_is_finite", "prior_can_be_sampled", "density_matches_sampler"}
    assert set(report.names("not applicable")) == NO_DEVICE | needs_prior


def test_bad_arguments_are_named() -> None:
    with pytest.raises(DataError, match=r"`data`.*at least 3 series"):
        check_model(Lines(), real_series(2))
    with pytest.raises(DataError, match="without a horizon"):
        check_model(Lines(), real_series().extend(horizon=1))
    with pytest.raises(DataError, match=r"`only`.*'no_such'"):
        check_model(Lines(), real_series(), only=["no_such"])


def test_every_check_says_what_it_tests() -> None:
    assert all(check.__doc__ for check in CHECKS + SLOW_CHECKS)
