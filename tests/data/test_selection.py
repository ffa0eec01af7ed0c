"""Selections, horizons, moves, splits and windows of `Sequences`."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError, ShapeError

nan, inf = float("nan"), float("inf")


def example(num_series=6, num_steps=5, obs_shape=(2,), **fields):
    generator = torch.Generator().manual_seed(0)
    return Sequences(torch.randn(num_series, num_steps, *obs_shape, generator=generator), **fields)


def full_example():
    """Every field in use: per-series times, horizon 2, inputs, context, a mask by entry, a place in a larger set."""
    generator = torch.Generator().manual_seed(1)
    times = torch.rand(6, 7, generator=generator, dtype=torch.float64).add(0.1).cumsum(-1)
    return example(
        mask=torch.rand(6, 5, 2, generator=generator) < 0.7,
        times=times,
        inputs=torch.randn(6, 7, 3, generator=generator),
        context={"first": torch.randn(6, 4, generator=generator)},
        index=torch.arange(10, 16),
        total=20,
    )


def assert_same(left, right):
    for field in dataclasses.fields(Sequences):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype, field.name
            assert torch.equal(a, b), field.name
        elif isinstance(a, dict):
            assert a.keys() == b.keys()
            assert all(torch.equal(a[name], b[name]) for name in a)
        else:
            assert a == b, field.name


def assert_trusted_copy_is_valid(data):
    """What the unchecked path made, the checked path accepts and leaves alone."""
    assert_same(data, dataclasses.replace(data))


# ---------------------------------------------------------------------- selections


@pytest.mark.parametrize(
    ("item", "rows"),
    [
        (2, [2]),
        (-1, [5]),
        (np.int64(3), [3]),
        (torch.tensor(4), [4]),
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [5, 3, 1]),
        ([5, 0], [5, 0]),
        (range(2, 4), [2, 3]),
        (np.array([1, -1]), [1, 5]),
        (torch.tensor([0, 0, 0, 0, 0, 0, 0, 1]), [0] * 7 + [1]),
        (torch.tensor([True, False, False, True, False, False]), [0, 3]),
        ([False, True] * 3, [1, 3, 5]),
    ],
    ids=str,
)
def test_selection_is_a_data_set_of_its_own(item, rows):
    data = full_example()
    part = data[item]
    assert_trusted_copy_is_valid(part)
    assert torch.equal(part.values, data.values[rows])
    assert torch.equal(part.mask, data.mask[rows])
    assert torch.equal(part.times, data.times[rows])
    assert torch.equal(part.inputs, data.inputs[rows])
    assert torch.equal(part.context["first"], data.context["first"][rows])
    assert part.index.tolist() == list(range(len(rows)))
    assert part.total == len(rows)


@pytest.mark.parametrize("item", [[], slice(3, 3), [False] * 6, torch.tensor([], dtype=torch.int64)], ids=str)
def test_an_empty_selection_is_refused(item):
    with pytest.raises(DataError, match="must keep at least one of the 6 series"):
        example()[item]


@pytest.mark.parametrize(
    ("item", "error", "text"),
    [
        (6, DataError, "`index` must lie between 0 and 5"),
        (-7, IndexError, "`index` must lie between 0 and 5"),
        ([0, 99], DataError, "`index` must lie between 0 and 5"),
        (0.5, DataError, "`index` must hold whole numbers"),
        ("a", DataError, "`index` must be an array of numbers"),
        (None, DataError, "`index` must be an array of numbers"),
        ((0, 1), ShapeError, "Select steps with `take_steps`"),
        ([True, False], ShapeError, "Boolean `index` must have an entry for each of 6 series"),
        (slice("a", None), ShapeError, "`index` must be a slice of whole numbers"),
    ],
)
def test_a_wrong_selection_is_refused(item, error, text):
    with pytest.raises(error, match=text) as caught:
        example()[item]
    assert isinstance(caught.value, PyroSeqError)


def test_iteration_ends_and_yields_single_series():
    data = full_example()
    parts = list(data)
    assert [len(part) for part in parts] == [1] * 6
    assert torch.equal(torch.cat([part.values for part in parts]), data.values)


def test_minibatch_remembers_its_place():
    data = full_example()
    batch = data.minibatch(torch.tensor([4, 1]))
    assert batch.index.tolist() == [14, 11]
    assert batch.total == 20
    assert batch.weight == 10.0
    assert_trusted_copy_is_valid(batch)
    assert_same(batch.minibatch(torch.tensor([1])), data.minibatch(torch.tensor([1])))
    with pytest.raises(ShapeError, match="`index` must name at most 20 series"):
        data.minibatch(torch.zeros(21, dtype=torch.int64))


def test_take_steps_shared_and_by_series():
    data = full_example()
    shared = data.take_steps(torch.tensor([0, 3, 4]))
    assert shared.horizon == 0
    assert torch.equal(shared.values, data.values[:, [0, 3, 4]])
    assert torch.equal(shared.times, data.times[:, [0, 3, 4]])
    assert torch.equal(shared.inputs, data.inputs[:, [0, 3, 4]])
    own = data.take_steps(torch.tensor([[0, 3, 4]]).expand(6, 3))
    assert_same(own, shared)
    for part in (shared, own, data.first(2), data.first(0), data.take_steps([-2, -1])):
        assert_trusted_copy_is_valid(part)
    assert_same(data.take_steps([True, False, False, False, True]), data.take_steps([0, 4]))
    assert_same(data.take_steps([-2, -1]), data.take_steps([3, 4]))
    assert example().take_steps([1, 2]).times.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([1, 0], DataError),
        ([1, 1], DataError),
        ([5], DataError),
        ([-6], DataError),
        ([0.5], DataError),
        ([[0, 1]], ShapeError),
        (0, ShapeError),
        ("a", DataError),
    ],
    ids=str,
)
def test_wrong_steps_are_refused(steps, error):
    with pytest.raises(error, match="`steps` must"):
        example().take_steps(steps)


@pytest.mark.parametrize(("num_steps", "error"), [(6, ShapeError), (-1, DataError), (1.5, DataError), ("a", DataError)])
def test_first_refuses_what_is_not_there(num_steps, error):
    with pytest.raises(error, match="`num_steps` must"):
        example().first(num_steps)


@pytest.mark.parametrize("by_entry", [False, True])
@pytest.mark.parametrize("hidden_by_entry", [False, True])
def test_hide_adds_to_the_mask_and_zeroes(by_entry, hidden_by_entry):
    mask = torch.ones(6, 5, 2, dtype=torch.bool) if by_entry else torch.ones(6, 5, dtype=torch.bool)
    mask[0, 0] = False
    data = example(mask=mask)
    hidden = torch.zeros(6, 5, 2, dtype=torch.bool) if hidden_by_entry else torch.zeros(6, 5, dtype=torch.bool)
    hidden[3, 2] = True
    before = data.values.clone()
    part = data.hide(hidden)
    expected = torch.ones(6, 5, 2, dtype=torch.bool)
    expected[0, 0] = expected[3, 2] = False
    assert torch.equal(part.entry_mask, expected)
    assert torch.equal(part.values, before * expected)
    assert torch.equal(data.values, before)
    assert_trusted_copy_is_valid(part)


def test_hide_refuses_another_shape():
    with pytest.raises(ShapeError, match=r"`hidden` must be \(series, time\)"):
        example().hide(torch.zeros(5, 6))


# ---------------------------------------------------------------------- horizons (I11)


@pytest.mark.parametrize("horizon", [0, 1, 10_000, 3.0, np.int64(2)])
def test_extend_continues_at_the_median_spacing(horizon):
    data = example(times=[0.0, 0.5, 1.0, 1.5, 9.0]).extend(horizon)
    assert data.horizon == horizon
    assert torch.equal(data.times[5:], 9.0 + 0.5 * torch.arange(1, int(horizon) + 1, dtype=torch.float64))
    assert_trusted_copy_is_valid(data)
    assert_same(data.seen(), example(times=[0.0, 0.5, 1.0, 1.5, 9.0]))


def test_extend_by_times_shared_or_by_series():
    assert example().extend(times=[5, 7]).times.tolist() == [0, 1, 2, 3, 4, 5, 7]
    by_series = example().extend(times=torch.tensor([[5.0, 6.0]]).expand(6, 2))
    assert by_series.times.shape == (6, 7)
    assert example(times=by_series.seen().times).extend(times=[8.0]).times[:, -1].tolist() == [8.0] * 6
    assert example(num_steps=1).extend(2).times.tolist() == [0.0, 1.0, 2.0]
    assert example(num_steps=0).extend(2).times.tolist() == [0.0, 1.0]
    assert example().extend(5).extend(1).horizon == 1


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, DataError, "exactly one of `horizon` and `times`"),
        ({"horizon": 1, "times": [5.0]}, DataError, "exactly one of `horizon` and `times`"),
        ({"horizon": -1}, DataError, "`horizon` must be a whole number from 0 to 100000000. Got -1"),
        ({"horizon": 1.5}, DataError, "`horizon` must be a whole number"),
        ({"horizon": "a"}, DataError, "`horizon` must be a whole number"),
        ({"horizon": 1e300}, DataError, "`horizon` must be a whole number"),
        ({"horizon": inf}, DataError, "`horizon` must be a whole number"),
        ({"times": [3.5]}, DataError, "`times` must increase from step to step. Got 4.0 followed by 3.5"),
        ({"times": [-1.0]}, DataError, "`times` must increase"),
        ({"times": [5.0, nan]}, DataError, "`times` must be finite"),
        ({"times": 5.0}, ShapeError, r"`times` must be \(horizon,\) or \(series 6, horizon\)"),
        ({"times": torch.full((4, 1), 5.0)}, ShapeError, r"`times` must be \(horizon,\) or \(series 6, horizon\)"),
        ({"horizon": 1, "inputs": torch.zeros(6, 1, 1)}, ShapeError, "these data have none"),
    ],
)
def test_a_wrong_horizon_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        example().extend(**arguments)


def test_inputs_are_extended_with_the_times():
    data = example(inputs=torch.zeros(6, 5, 2))
    longer = data.extend(1, inputs=torch.ones(6, 1, 2))
    assert longer.inputs[:, 5].eq(1).all()
    assert_same(longer.seen(), data)
    assert_same(data.extend(0), data)
    with pytest.raises(ShapeError, match="`inputs` over the horizon is missing"):
        data.extend(1)
    with pytest.raises(ShapeError, match=r"`inputs` must be \(series 6, horizon 1, input 2\).*Got \(6, 2, 2\)"):
        data.extend(1, inputs=torch.zeros(6, 2, 2))
    with pytest.raises(DataError, match=r"`inputs` must be finite.*at \(0, 5, 0\)"):
        data.extend(1, inputs=torch.full((6, 1, 2), nan))


# ---------------------------------------------------------------------- moving, copying


def test_to_converts_the_floating_fields_only():
    data = full_example().to("cpu", torch.float64)
    assert data.dtype == data.inputs.dtype == data.context["first"].dtype == torch.float64
    assert (data.mask.dtype, data.index.dtype, data.times.dtype) == (torch.bool, torch.int64, torch.float64)
    assert_same(data.to(dtype=torch.float32), full_example())
    assert_same(data.to(), data)


def test_to_refuses_what_cannot_hold_the_numbers():
    with pytest.raises(DataError, match=r"`dtype` torch\.float32 must hold every number"):
        Sequences(torch.full((1, 2, 1), 1e300, dtype=torch.float64)).to(dtype=torch.float32)
    for dtype in (torch.float16, torch.int64):
        with pytest.raises(DataError, match=r"`dtype` must be torch\.float32 or torch\.float64"):
            example().to(dtype=dtype)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_copies_are_equal_in_content_and_frozen(duplicate):
    data = full_example()
    twin = duplicate(data)
    assert_same(twin, data)
    assert twin != data
    with pytest.raises(dataclasses.FrozenInstanceError):
        twin.total = 3


def test_replace_checks_again():
    with pytest.raises(DataError, match="`values` must be finite"):
        dataclasses.replace(example(), values=torch.full((6, 5, 2), inf))


def passes_over(shape, function):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        function()
    return [event.name for event in profile.events() if list(shape) in (event.input_shapes or [])]


def test_a_selection_checks_nothing_twice():
    data = example(num_series=50, num_steps=10, obs_shape=(8,))
    batch = data.minibatch(torch.arange(20))
    assert passes_over((20, 10, 8), lambda: data.minibatch(torch.arange(20))) == []
    assert passes_over((20, 10, 8), lambda: batch.extend(3).seen()) == []
    assert passes_over((20, 10, 8), lambda: dataclasses.replace(batch)) != []


@pytest.mark.gpu
def test_every_view_works_on_the_device_of_the_data():
    host, device = full_example(), full_example().to("cuda")
    views = [
        lambda data: data[[3, 1]],
        lambda data: data[torch.tensor([True, False] * 3, device=data.device)],
        lambda data: data.minibatch(torch.tensor([4, 2])),
        lambda data: data.take_steps(torch.tensor([0, 2])),
        lambda data: data.take_steps(torch.tensor([[0, 2]]).expand(6, 2)),
        lambda data: data.hide(torch.eye(6, 5)),
        lambda data: data.extend(2, inputs=torch.ones(6, 2, 3)),
        lambda data: data.windows(2),
        lambda data: data.split([4, 2], seed=0)[1],
        lambda data: dataclasses.replace(data, inputs=data.inputs.cpu(), times=data.times.tolist()),
    ]
    for view in views:
        moved = view(device)
        assert moved.values.device == moved.mask.device == moved.times.device == moved.index.device == device.device
        assert_same(moved.to("cpu"), view(host))


# ---------------------------------------------------------------------- splits and windows


@pytest.mark.parametrize(
    ("sizes", "counts"), [([0.5, 0.25, 0.25], [10, 5, 5]), ((12, 8), [12, 8]), ([1 / 3] * 3, [7, 6, 7])]
)
def test_split_shares_no_series_and_loses_none(sizes, counts):
    data = Sequences(torch.arange(20.0)[:, None, None].expand(20, 3, 1))
    parts = data.split(sizes, seed=3)
    assert [len(part) for part in parts] == counts
    assert [part.total for part in parts] == counts
    numbers = torch.cat([part.values[:, 0, 0] for part in parts])
    assert sorted(numbers.tolist()) == list(range(20))
    assert not torch.equal(numbers, torch.arange(20.0))
    for part, again, other in zip(parts, data.split(sizes, seed=3), data.split(sizes, seed=4), strict=True):
        assert torch.equal(part.values, again.values)
        assert not torch.equal(part.values, other.values)


def test_split_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    example().split([3, 3], seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "sizes", [[0.8, 0.1], [3, 4], [6, 0], [7, -1], [0.99, 0.01], [1.5, -0.5], [nan, 1.0], 0.5, "a", [], None], ids=str
)
def test_wrong_sizes_are_refused(sizes):
    with pytest.raises(DataError, match="`sizes` must be"):
        example().split(sizes, seed=0)


def test_split_needs_a_whole_seed():
    with pytest.raises(DataError, match="`seed` must be a whole number"):
        example().split([3, 3], seed=None)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (2, 1), (3, 2), (5, 1), (2, 5)])
def test_windows_are_slices_that_keep_their_stamps(length, stride):
    data = full_example()
    data = dataclasses.replace(data, mask=torch.ones(6, 5, dtype=torch.bool))
    cut = data.windows(length, stride=stride)
    expected = [(row, start) for row in range(6) for start in range(0, 5 - length + 1, stride)]
    assert len(cut) == cut.total == len(expected)
    for window, (row, start) in zip(cut, expected, strict=True):
        steps = slice(start, start + length)
        assert torch.equal(window.values[0], data.values[row, steps])
        assert torch.equal(window.times[0], data.times[row, steps])
        assert torch.equal(window.inputs[0], data.inputs[row, steps])
        assert torch.equal(window.context["first"][0], data.context["first"][row])
    assert_trusted_copy_is_valid(cut)


def test_windows_without_observations_are_dropped():
    values = torch.ones(2, 4, 1)
    values[0, 1:] = values[1] = nan
    cut = Sequences(values).windows(2)
    assert len(cut) == 1
    assert cut.times.tolist() == [[0.0, 1.0]]
    with pytest.raises(DataError, match="`windows` needs at least one observed entry"):
        Sequences(torch.full((1, 4, 1), nan)).windows(2)


@pytest.mark.parametrize(
    ("length", "stride", "error", "text"),
    [
        (6, 1, ShapeError, "`length` must lie between 1 and the 5 steps there are. Got 6"),
        (0, 1, DataError, "`length` must be a whole number from 1 to"),
        (2, 0, DataError, "`stride` must be a whole number from 1 to"),
        (2.5, 1, DataError, "`length` must be a whole number"),
    ],
)
def test_wrong_windows_are_refused(length, stride, error, text):
    with pytest.raises(error, match=text):
        example().windows(length, stride=stride)
