"""Whatever comes in, a `Sequences` keeps its promises or one of our own errors says why not."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis.extra import numpy as hnp

from pyro_seq.data import Sequences
from pyro_seq.errors import PyroSeqError

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
thorough = settings(quick, max_examples=400)

sizes = st.integers(0, 4)
floats = st.floats(-1e6, 1e6, width=32) | st.just(float("nan"))
indices = st.lists(st.integers(0, 10**6), min_size=1, max_size=5)


@st.composite
def sequences(draw):
    """A valid data set with any of its features."""
    num_series, num_steps, horizon = draw(st.integers(1, 4)), draw(sizes), draw(st.integers(0, 3))
    obs_shape = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    shape = (num_series, num_steps, *obs_shape)
    values = draw(hnp.arrays(draw(st.sampled_from([np.float32, np.float64])), shape, elements=floats))
    mask = None
    if draw(st.booleans()):
        mask = draw(hnp.arrays(np.bool_, draw(st.sampled_from([shape[:2], shape]))))
        values = (
            np.nan_to_num(values)
            if draw(st.booleans())
            else np.where(np.isnan(values) & _wide(mask, values), 0, values)
        )
    grid = (num_steps + horizon,) if draw(st.booleans()) else (num_series, num_steps + horizon)
    times = draw(hnp.arrays(np.float64, grid, elements=st.floats(0.1, 100))).cumsum(-1)
    inputs = draw(
        st.none() | hnp.arrays(np.float32, (num_series, num_steps + horizon, 2), elements=st.floats(-9, 9, width=32))
    )
    context = draw(st.none() | st.just({"extra": torch.arange(num_series)}))
    return Sequences(values, mask=mask, times=times, inputs=inputs, context=context)


def _wide(mask, values):
    return mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


def assert_same(left, right):
    for field in dataclasses.fields(Sequences):
        a, b = getattr(left, field.name), getattr(right, field.name)
        if isinstance(a, torch.Tensor):
            assert a.dtype == b.dtype and torch.equal(a, b), field.name
        elif isinstance(a, dict):
            assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        else:
            assert a == b, field.name


def assert_valid(data):
    assert_same(data, dataclasses.replace(data))
    assert not data.values[~data.entry_mask].any()
    assert data.times.dtype == torch.float64


@quick
@given(sequences(), indices)
def test_selections_keep_content_and_promises(data, numbers):
    rows = torch.tensor(numbers) % len(data)
    part = data[rows]
    assert_valid(part)
    assert torch.equal(part.values, data.values[rows])
    assert torch.equal(part.mask, data.mask[rows])
    distinct = rows.unique()
    batch = data.minibatch(distinct)
    assert_valid(batch)
    assert torch.equal(batch.index, distinct)
    assert batch.total == len(data)
    assert_same(data[list(range(len(data)))], data)


@quick
@given(sequences(), st.data())
def test_steps_round_trip(data, draw):
    seen = data.seen()
    assert_valid(seen)
    assert seen.horizon == 0
    assert_same(data.take_steps(torch.arange(data.num_steps)), seen)
    keep = draw.draw(hnp.arrays(np.bool_, (data.num_steps,)))
    part = data.take_steps(torch.from_numpy(keep))
    assert_valid(part)
    assert torch.equal(part.values, data.values[:, torch.from_numpy(keep)])
    own = torch.from_numpy(keep.nonzero()[0]).expand(len(data), -1)
    assert torch.equal(data.take_steps(own).values, part.values)


@quick
@given(sequences(), st.integers(0, 5))
def test_a_horizon_comes_and_goes(data, horizon):
    seen = data.seen()
    inputs = None if data.inputs is None else torch.ones(len(data), horizon, 2)
    longer = seen.extend(horizon, inputs=inputs)
    assert_valid(longer)
    assert longer.horizon == horizon
    assert_same(longer.seen(), seen)
    future = longer.times[..., longer.num_steps :]
    assert_same(data.extend(times=future, inputs=inputs), longer)


@quick
@given(sequences(), st.data())
def test_hiding_only_hides(data, draw):
    shape = draw.draw(st.sampled_from([data.values.shape[:2], data.values.shape]))
    hidden = torch.from_numpy(draw.draw(hnp.arrays(np.bool_, tuple(shape))))
    part = data.hide(hidden)
    assert_valid(part)
    wide = hidden.reshape(hidden.shape + (1,) * (data.values.ndim - hidden.ndim))
    assert torch.equal(part.entry_mask, data.entry_mask & ~wide)
    assert torch.equal(part.values, data.values * part.entry_mask)
    assert_same(part.hide(hidden), part)


@quick
@given(sequences(), st.integers(1, 4), st.integers(1, 3))
def test_windows_hold_what_the_series_hold(data, length, stride):
    try:
        cut = data.windows(length, stride=stride)
    except PyroSeqError:
        windows = data.step_mask.unfold(1, length, stride) if length <= data.num_steps else data.step_mask[:, :0]
        assert not windows.any()
        return
    assert_valid(cut)
    assert cut.num_steps == length
    assert cut.step_mask.any(-1).all()
    if stride == length and data.num_steps % length == 0:
        assert cut.mask.sum() == data.mask.sum()


@quick
@given(sequences(), st.integers(0, 2**32), st.data())
def test_splits_partition(data, seed, draw):
    first = draw.draw(st.integers(1, len(data)))
    counts = [first, len(data) - first] if first < len(data) else [first]
    marked = dataclasses.replace(data, context={"row": torch.arange(len(data))})
    parts = marked.split(counts, seed=seed)
    assert sorted(torch.cat([part.context["row"] for part in parts]).tolist()) == list(range(len(data)))
    for part in parts:
        assert_valid(part)


@quick
@given(sequences())
def test_lists_and_arrays_hold_the_same(data):
    seen = data.seen()
    times = seen.times.expand(len(seen), -1)
    parts = [seen.values[i].masked_fill(~seen.entry_mask[i], float("nan")) for i in range(len(seen))]
    again = Sequences.from_list(parts, times=list(times), masks=list(seen.mask))
    assert_valid(again)
    assert torch.equal(again.values, seen.values)
    assert torch.equal(again.mask, seen.mask)
    assert torch.equal(again.times.expand(len(seen), -1), times)


@quick
@given(st.lists(st.integers(0, 5), min_size=1, max_size=5), st.integers(1, 3), st.data())
def test_ragged_lists_come_back_unpadded(lengths, obs, draw):
    parts = [draw.draw(hnp.arrays(np.float32, (length, obs), elements=floats)) for length in lengths]
    times = [draw.draw(hnp.arrays(np.float64, (n,), elements=st.floats(0.01, 1e3))).cumsum() for n in lengths]
    data = Sequences.from_list(parts, times=times)
    assert_valid(data)
    assert data.num_steps == max(lengths)
    for i, (part, stamps) in enumerate(zip(parts, times, strict=True)):
        assert torch.equal(data.values[i, : len(part)], torch.from_numpy(np.nan_to_num(part, nan=0.0)))
        assert torch.equal(data.entry_mask[i, : len(part)], torch.from_numpy(~np.isnan(part)))
        assert not data.mask[i, len(part) :].any()
        assert torch.equal(data.times.expand(len(data), -1)[i, : len(stamps)], torch.from_numpy(stamps))


anything = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=2)
    | st.lists(st.lists(st.lists(st.floats(), max_size=3), max_size=3), max_size=3)
    | hnp.arrays(
        hnp.boolean_dtypes()
        | hnp.integer_dtypes(endianness="?")
        | hnp.floating_dtypes(endianness="?")
        | hnp.complex_number_dtypes(),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)


@thorough
@given(values=anything, mask=anything, times=anything, inputs=anything, index=anything, total=anything)
def test_nonsense_works_or_raises_our_error(values, mask, times, inputs, index, total):
    for fields in ({}, {"mask": mask}, {"times": times}, {"inputs": inputs}, {"index": index}, {"total": total}):
        try:
            assert_valid(Sequences(values, **fields))
        except PyroSeqError as error:
            assert "`" in str(error)


@thorough
@example(mask=None, times=None, inputs=None, item=np.array([True, True]))
@given(mask=anything, times=anything, inputs=anything, item=anything)
def test_nonsense_beside_good_values_works_or_raises_our_error(mask, times, inputs, item):
    data = Sequences(torch.ones(2, 3, 2))
    if isinstance(item, float) and item > 1e4:
        item = 1e300  # no test shall fill the memory with a horizon
    attempts = [
        lambda: dataclasses.replace(data, mask=mask),
        lambda: dataclasses.replace(data, times=times),
        lambda: dataclasses.replace(data, inputs=inputs),
        lambda: dataclasses.replace(data, context=inputs),
        lambda: dataclasses.replace(data, context={"extra": inputs}),
        lambda: data[item],
        lambda: data.minibatch(item),
        lambda: data.take_steps(item),
        lambda: data.first(item),
        lambda: data.hide(mask),
        lambda: data.extend(item),
        lambda: data.extend(times=times),
        lambda: data.extend(1, inputs=inputs),
        lambda: data.split(item, seed=0)[0],
        lambda: data.windows(item),
        lambda: data.windows(1, stride=item),
        lambda: Sequences.from_list(item),
        lambda: Sequences.from_list(list(data.values), times=times, masks=mask, inputs=inputs),
        lambda: Sequences.from_numpy(item, mask=mask),
    ]
    for attempt in attempts:
        try:
            assert_valid(attempt())
        except PyroSeqError as error:
            assert "`" in str(error)
