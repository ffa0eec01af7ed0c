"""Names of variables, inputs, static covariates and series, and what keeps them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Labels, Sequences
from pyro_seq.errors import DataError, ShapeError

NAMES = Labels(variables=["pulse", "pressure"], inputs=["dose"], static=["age", "weight"], series=["a", "b", "c"])


def labelled() -> Sequences:
    """Three series whose static covariates tell them apart, with a horizon."""
    return Sequences(
        torch.arange(24.0).reshape(3, 4, 2),
        times=torch.arange(6.0),
        inputs=torch.zeros(3, 6, 1),
        static=torch.tensor([[0.0, 10.0], [1.0, 11.0], [2.0, 12.0]]),
        labels=NAMES,
    )


def kept(data: Sequences, series: list[int]) -> None:
    """Each covariate and label went where its series did; the other names stay."""
    assert data.static[:, 0].tolist() == series
    assert data.labels.series == tuple("abc"[number] for number in series)
    for axis in ("variables", "inputs", "static"):
        assert getattr(data.labels, axis) == getattr(NAMES, axis)


@pytest.mark.parametrize(
    ("operation", "series"),
    [
        (lambda data: data[1], [1]),
        (lambda data: data[1:], [1, 2]),
        (lambda data: data[::-1], [2, 1, 0]),
        (lambda data: data[[2, 0, 2]], [2, 0, 2]),
        (lambda data: data[torch.tensor([True, False, True])], [0, 2]),
        (lambda data: data.minibatch(torch.tensor([2, 1])), [2, 1]),
        (lambda data: data.take_steps(torch.tensor([0, 3])), [0, 1, 2]),
        (lambda data: data.take_steps(torch.tensor([[0, 3], [0, 1], [1, 2]])), [0, 1, 2]),
        (lambda data: data.first(2), [0, 1, 2]),
        (lambda data: data.seen(), [0, 1, 2]),
        (lambda data: data.extend(horizon=1, inputs=torch.zeros(3, 1, 1)), [0, 1, 2]),
        (lambda data: data.hide(torch.ones(3, 4, dtype=torch.bool)), [0, 1, 2]),
        (lambda data: data.windows(2, stride=2), [0, 0, 1, 1, 2, 2]),
        (lambda data: dataclasses.replace(data.windows(2, stride=2)), [0, 0, 1, 1, 2, 2]),
        (lambda data: data.to(dtype=torch.float64), [0, 1, 2]),
        (lambda data: dataclasses.replace(data, values=data.values + 1), [0, 1, 2]),
    ],
)
def test_operations_keep_labels_and_covariates(operation, series):
    kept(operation(labelled()), series)


def test_parts_and_numbers_keep_labels_and_covariates():
    parts = labelled().split([2, 1], seed=0)
    series = [int(age) for part in parts for age in part.static[:, 0]]
    assert sorted(series) == [0, 1, 2]
    kept(parts[0], series[:2])
    kept(parts[1], series[2:])
    assert labelled().to(dtype=torch.float64).static.dtype == torch.float64


@pytest.mark.parametrize("series", [["a", "b", "c"], [7, 2**40, -3], None])
def test_files_keep_labels_and_covariates(tmp_path, series):
    data = dataclasses.replace(labelled(), labels=dataclasses.replace(NAMES, series=series))
    data.to_npz(tmp_path / "data.npz")
    again = Sequences.from_npz(tmp_path / "data.npz")
    assert again.labels == data.labels
    assert torch.equal(again.static, data.static)


def test_windows_of_one_series_share_its_label_in_a_file(tmp_path):
    labelled().windows(2, stride=2).to_npz(tmp_path / "windows.npz")
    assert Sequences.from_npz(tmp_path / "windows.npz").labels.series == ("a", "a", "b", "b", "c", "c")


def test_files_without_labels_are_read(tmp_path):
    np.savez(tmp_path / "old.npz", values=np.zeros((2, 3, 1)))
    data = Sequences.from_npz(tmp_path / "old.npz")
    assert data.labels == Labels()
    assert data.static is None


def test_static_covariates_become_inputs_at_every_time():
    data = labelled().with_static_as_inputs()
    assert data.static is None
    assert data.labels.inputs == ("dose", "age", "weight")
    assert data.labels.static is None
    assert torch.equal(data.inputs, torch.cat([torch.zeros(3, 6, 1), labelled().static[:, None].expand(3, 6, 2)], -1))
    alone = Sequences(torch.zeros(2, 3, 1), static=torch.tensor([[1.0], [2.0]])).with_static_as_inputs()
    assert alone.inputs[..., 0].tolist() == [[1.0] * 3, [2.0] * 3]
    assert alone.labels == Labels()
    with pytest.raises(DataError, match="`with_static_as_inputs` needs static covariates"):
        alone.with_static_as_inputs()


def test_names_that_are_missing_are_made_up_where_others_are_given():
    data = Sequences(
        torch.zeros(1, 2, 1), inputs=torch.zeros(1, 2, 2), static=torch.ones(1, 1), labels=Labels(static=["age"])
    )
    assert data.with_static_as_inputs().labels.inputs == ("input_0", "input_1", "age")
    assert Labels().of("variables", [2, 2]) == ["x_0_0", "x_0_1", "x_1_0", "x_1_1"]
    assert Labels().of("series", [3]) == [0, 1, 2]


def test_labels_of_any_list_are_pythons_own():
    for names in (["x", "y"], ("x", "y"), np.array(["x", "y"]), pd.Index(["x", "y"]), pd.Series(["x", "y"])):
        assert Labels(variables=names).variables == ("x", "y")
    series = Labels(series=np.array([3, 4], dtype=np.int32)).series
    assert series == (3, 4)
    assert type(series[0]) is int


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"variables": "pulse"}, "`variables` must be a list of texts. Got str of 5. Put them into a list."),
        ({"variables": 3}, "`variables` must be a list of texts. Got int"),
        ({"inputs": ["x", 2]}, "`inputs` must be texts, all of one kind. Got 2 after 'x'"),
        ({"series": ["x", 2]}, "`series` must be texts or whole numbers, all of one kind. Got 2 after 'x'"),
        ({"series": [1.5]}, "`series` must be texts or whole numbers, all of one kind. Got 1.5"),
        ({"series": [True, False]}, "`series` must be texts or whole numbers"),
        ({"static": ["x", "y", "x"]}, "`static` must be unique. Got 'x' 2 times. Rename all but one."),
        ({"series": [1, 1]}, "`series` must be unique. Got 1 2 times"),
    ],
)
def test_wrong_labels_are_refused(arguments, text):
    with pytest.raises(DataError) as error:
        Labels(**arguments)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (Labels(variables=["x"]), r"`labels.variables` must name each of 2. Got 1: x. Correct the names."),
        (Labels(series=list("abcdefg")), r"`labels.series` must name each of 3. Got 7: a, b, c, d, ... \(7\)"),
        (Labels(static=["x"]), r"`labels.static` must be None for data without `static`"),
        (Labels(inputs=["x"]), r"`labels.inputs` must be None for data without `inputs`"),
    ],
)
def test_labels_are_as_many_as_what_they_name(labels, text):
    with pytest.raises(ShapeError, match=text):
        Sequences(torch.zeros(3, 4, 2), labels=labels)


def test_images_have_no_names_of_variables():
    with pytest.raises(ShapeError, match="`labels.variables` must be None for observations of more axes than one"):
        Sequences(torch.zeros(1, 2, 3, 3), labels=Labels(variables=["x"] * 0))


def test_names_in_place_of_labels_are_refused():
    with pytest.raises(DataError, match=r"`labels` must be `Labels`. Got list. Write `labels=Labels\(variables"):
        Sequences(torch.zeros(3, 4, 2), labels=["x", "y"])


@pytest.mark.parametrize(
    ("static", "error", "text"),
    [
        (torch.zeros(2, 1), ShapeError, r"`static` must be \(series 3, static_dim\). Got \(2, 1\)"),
        (torch.zeros(3), ShapeError, r"`static` must be \(series 3, static_dim\). Got \(3,\)"),
        (torch.tensor([[1.0], [float("nan")], [2.0]]), DataError, r"`static` must be finite.*Got nan at \(1, 0\)"),
        ([["f"], ["m"], ["f"]], DataError, "`static` must be an array of numbers"),
    ],
)
def test_wrong_covariates_are_refused(static, error, text):
    with pytest.raises(error, match=text):
        Sequences(torch.zeros(3, 4, 2), static=static)


def test_labels_are_shown_in_short():
    text = repr(labelled())
    assert text == (
        "Sequences((series 3, time 4, obs 2), horizon 2, static 2, 0 % missing, total 3, "
        "Labels(variables pulse, pressure; inputs dose; static age, weight; series a, b, c))"
    )
    many = Sequences(torch.zeros(1000, 2, 1), labels=Labels(series=range(1000)))
    assert repr(many).endswith("Labels(series 0, 1, 2, 3, ... (1000)))")
    assert repr(Sequences(torch.zeros(3, 4, 2))) == "Sequences((series 3, time 4, obs 2), 0 % missing, total 3)"


def test_columns_are_selected_by_name_with_all_that_belongs_to_them():
    values = torch.arange(12.0).reshape(1, 4, 3)
    data = Sequences(
        values,
        mask=values % 5 > 0,
        inputs=values[..., :2] + 100,
        static=[[7.0, 8.0]],
        labels=Labels(variables=["a", "b", "c"], inputs=["u", "v"], static=["s", "t"], series=["one"]),
    )
    chosen = data.select(variables=["c", "a"], inputs=[], static=["t"])
    assert torch.equal(chosen.values, data.values[..., [2, 0]]) and torch.equal(chosen.mask, data.mask[..., [2, 0]])
    assert chosen.inputs is None and chosen.static.tolist() == [[8.0]]
    assert chosen.labels == Labels(variables=["c", "a"], static=["t"], series=["one"])
    assert torch.equal(data.select(inputs=["v", "u"]).inputs, data.inputs[..., [1, 0]])
    assert data.select().labels == data.labels
    whole = dataclasses.replace(data, mask=[[True, False, True, True]])
    assert torch.equal(whole.select(variables=["b"]).mask, whole.mask)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ({"variables": ["d"]}, "`variables` must be among those of the data, a, b. Got d. Correct the name"),
        ({"variables": "a"}, "`variables` must be a list of names"),
        ({"variables": []}, "at least one variable"),
        ({"variables": ["a", "a"]}, "must name each column once. Got a, a"),
        ({"inputs": ["u"]}, r"these data have no names for them.*labels=Labels\(inputs="),
    ],
)
def test_columns_that_are_not_there_are_refused(names, text):
    data = Sequences(torch.zeros(1, 2, 2), labels=Labels(variables=["a", "b"]))
    with pytest.raises(DataError, match=text):
        data.select(**names)


def test_labels_of_some_variables() -> None:
    twice = labelled()[torch.tensor([0, 0, 2])].labels
    assert twice.of_variables([1]) == dataclasses.replace(NAMES, variables=["pressure"]).of_series(
        torch.tensor([0, 0, 2])
    )
    assert Labels().of_variables([0]) == Labels()
