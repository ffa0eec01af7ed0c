"""The names of the training data's columns as part of the saved state."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Labels
from pyro_seq.data._columns import require_same_names
from pyro_seq.errors import DataError
from pyro_seq.nn.seen_names import SeenNames
from pyro_seq.nn.seen_range import SeenRange
from tests.make_believe_gpu import make_believe_gpu

ODD = ("Blutdruck (mmHg)", "température, °C", '"a\\b"')


def knowing(**names) -> SeenNames:
    found = SeenNames()
    found.take(Labels(**names))
    return found


def test_names_of_any_kind_come_back_from_the_state():
    saved = knowing(variables=ODD, inputs=["dose"], series=["a"], static=["age"])
    again = SeenNames()
    again.load_state_dict(saved.state_dict())
    assert again.labels == Labels(variables=ODD, inputs=["dose"])


def test_nothing_is_kept_where_there_are_no_names():
    assert SeenNames().state_dict() == {} and knowing(series=["a"]).state_dict() == {}
    again = knowing(variables=["a"])
    again.load_state_dict({})
    assert again.labels == Labels()


def test_first_names_stay_until_all_are_taken_anew():
    names = knowing(variables=["a", "b"])
    names.take(Labels(variables=["b", "a"], inputs=["c"]))
    assert names.labels == Labels(variables=["a", "b"], inputs=["c"])
    names.take(Labels(variables=["b", "a"]), again=True)
    assert names.labels == Labels(variables=["b", "a"])


def test_long_lists_of_names_are_told_by_where_they_are():
    names = [f"gene {number}" for number in range(30)]
    with pytest.raises(DataError, match=r"select\(variables=posterior.model.labels.variables\)`") as caught:
        known = knowing(variables=names).labels
        require_same_names(Labels(variables=names[::-1]), known, "data", "posterior.model.labels")
    assert len(str(caught.value)) < 500


def test_precision_and_place_of_a_model_leave_names_alone():
    names = knowing(variables=ODD).to(torch.float64).half()
    assert names.labels.variables == ODD


def test_names_are_where_the_range_is():
    with make_believe_gpu() as device:
        seen = SeenRange().to(device)
        seen.take_names(Labels(variables=ODD))
        assert seen.names.text.device == device and seen.names.labels.variables == ODD
