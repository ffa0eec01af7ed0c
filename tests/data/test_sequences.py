"""Construction of `Sequences`: what is taken, what is refused, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError, ShapeError

nan, inf = float("nan"), float("inf")


def example(num_series=6, num_steps=5, obs_shape=(2,), **fields):
    generator = torch.Generator().manual_seed(0)
    return Sequences(torch.randn(num_series, num_steps, *obs_shape, generator=generator), **fields)


# ---------------------------------------------------------------------- NaN, infinity and masks (I1 to I4)


def test_nan_that_the_mask_calls_observed_is_refused_with_place_and_count():
    values = torch.zeros(2, 3, 2)
    values[1, 2, 0] = values[1, 2, 1] = nan
    with pytest.raises(
        DataError, match=r"`values` is NaN at 2 entries that `mask` calls observed, first at \(1, 2, 0\)"
    ):
        Sequences(values, mask=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("bad", [inf, -inf])
@pytest.mark.parametrize("mask", [None, torch.zeros(2, 3, dtype=torch.bool)])
def test_infinity_is_refused_even_under_a_mask(bad, mask):
    values = torch.zeros(2, 3, 1)
    values[0, 1] = bad
    with pytest.raises(DataError, match=r"`values` must be finite. Got 1 infinite entries, first at \(0, 1, 0\)"):
        Sequences(values, mask=mask)


def test_finite_values_whose_sum_overflows_are_accepted():
    data = Sequences(torch.full((1, 10, 1), 3e38))
    assert data.mask.all()


@pytest.mark.parametrize("fill", [nan, 0.0, 1e30])
def test_what_stands_under_a_mask_is_zeroed(fill):
    mask = torch.tensor([[True, False, True], [False, False, False]])
    values = torch.where(mask[..., None], torch.ones(2, 3, 1), torch.tensor(fill))
    assert torch.equal(Sequences(values, mask=mask).values, mask[..., None].float())


def test_mask_from_nan_is_by_step_where_that_says_all_and_by_entry_otherwise():
    values = torch.zeros(1, 3, 2)
    values[0, 1] = nan
    assert Sequences(values).mask.tolist() == [[True, False, True]]
    values[0, 2, 1] = nan
    assert Sequences(values).mask.tolist() == [[[True, True], [False, False], [True, False]]]


def test_everything_may_be_missing():
    data = Sequences(torch.full((2, 3, 1), nan))
    assert not data.mask.any()
    assert data.lengths.tolist() == [0, 0]
    assert "100 % missing" in repr(data)


@pytest.mark.parametrize(
    "mask", [np.ones((2, 3), np.uint8), [[1.0, 0.0, 1.0]] * 2, torch.ones(2, 3, 1, dtype=torch.int64)]
)
def test_masks_of_zeros_and_ones_are_read_as_boolean(mask):
    assert Sequences(torch.zeros(2, 3, 1), mask=mask).mask.dtype == torch.bool


def test_a_mask_of_other_numbers_or_another_shape_is_refused():
    with pytest.raises(DataError, match="`mask` must be boolean"):
        Sequences(torch.zeros(2, 3, 1), mask=torch.full((2, 3), 0.5))
    with pytest.raises(ShapeError, match=r"`mask` must be .*Got \(3, 2\) for `values` \(series 2, time 3, obs 1\)"):
        Sequences(torch.zeros(2, 3, 1), mask=torch.ones(3, 2))


# ---------------------------------------------------------------------- kinds of array (I5, I10)


@pytest.mark.parametrize(
    "values",
    [
        [[[1], [0]]],
        [[[1.0], [0.0]]],
        (((True,), (False,)),),
        [np.array([[1.0], [0.0]])],
        [[torch.tensor([1.0]), torch.tensor([0.0])]],
        np.array([[[1], [0]]], dtype=np.uint8),
        np.array([[[1], [0]]], dtype=np.uint16),
        np.array([[[1], [0]]], dtype=">f4"),
        np.array([[[1], [0]]], dtype=np.float16),
        np.array([[[1], [0]]], dtype=np.longdouble),
        np.array([[[0], [1]]])[:, ::-1],
        np.asfortranarray(np.array([[[1.0], [0.0]]])),
        torch.tensor([[[1], [0]]], dtype=torch.int8),
        torch.tensor([[[1], [0]]], dtype=torch.bfloat16),
        torch.tensor([[[1.0, 0.0]]]).transpose(1, 2),
        torch.tensor([[[1.0], [0.0]]], requires_grad=True),
        torch.nn.Parameter(torch.tensor([[[1.0], [0.0]]])),
    ],
    ids=lambda values: f"{type(values).__name__}-{getattr(values, 'dtype', '')}",
)
def test_numbers_of_any_kind_are_taken(values):
    data = Sequences(values)
    assert data.values.flatten().tolist() == [1.0, 0.0]
    assert data.dtype in (torch.float32, torch.float64)
    assert not data.values.requires_grad
    assert data.values.is_contiguous()


def test_single_and_double_precision_are_kept_and_the_rest_becomes_the_default():
    for dtype in (torch.float32, torch.float64):
        assert Sequences(torch.zeros(1, 2, 1, dtype=dtype)).dtype == dtype
    for dtype in (torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool):
        assert Sequences(torch.zeros(1, 2, 1, dtype=dtype)).dtype == torch.get_default_dtype()


def test_numbers_are_never_rescaled():
    frames = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    assert torch.equal(Sequences(frames).values.flatten(), torch.arange(256.0))
    for scale in (1e-12, 1e12):
        assert torch.equal(Sequences(torch.full((1, 2, 1), scale)).values, torch.full((1, 2, 1), scale))


def test_a_read_only_array_and_an_expanded_tensor_are_taken():
    array = np.zeros((2, 3, 1))
    array.setflags(write=False)
    Sequences(array)
    data = Sequences(torch.ones(1, 1, 1).expand(2, 3, 1), mask=torch.tensor([[True, False, True]]).expand(2, 3))
    assert data.values.sum() == 4


def test_entries_that_a_masked_array_hides_are_missing():
    data = Sequences(np.ma.masked_equal(np.array([[[1], [-999]]]), -999))
    assert data.mask.tolist() == [[True, False]]


def test_the_container_shares_no_memory_with_what_it_was_made_from():
    values, mask, times = torch.zeros(2, 3, 1), torch.ones(2, 3, dtype=torch.bool), torch.arange(3.0).double()
    data = Sequences(values, mask=mask, times=times)
    values.fill_(1.0), mask.fill_(False), times.fill_(9.0)
    assert data.values.sum() == 0
    assert data.mask.all()
    assert data.times.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    "values",
    [
        None,
        "abc",
        object(),
        {"a": 1},
        [[[1.0], [2.0]], [[1.0]]],
        [[["a"]]],
        np.array([[[None]]]),
        10**400,
        [[[10**400]]],
    ],
    ids=lambda values: type(values).__name__,
)
def test_what_is_no_array_of_numbers_is_refused(values):
    with pytest.raises(PyroSeqError, match="`values` must"):
        Sequences(values)


def test_complex_sparse_and_nested_values_are_refused():
    with pytest.raises(DataError, match="`values` must be real"):
        Sequences(torch.zeros(1, 2, 1, dtype=torch.complex64))
    with pytest.raises(DataError, match="`values` must be an array"):
        Sequences(torch.zeros(1, 2, 1).to_sparse())


# ---------------------------------------------------------------------- sizes and shapes (I6, I7)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (3, 1, 1, 1, 1), (2, 5, 3, 7, 5), (2, 0, 1)])
def test_small_and_odd_sizes_work(shape):
    data = Sequences(torch.ones(shape))
    assert (data.num_series, data.num_steps, data.obs_shape) == (shape[0], shape[1], shape[2:])
    assert data.horizon == 0
    assert data.lengths.tolist() == [shape[1]] * shape[0]
    assert len(data) == shape[0]
    assert torch.equal(data.values, torch.ones(shape))


def test_an_empty_batch_is_refused():
    with pytest.raises(DataError, match="`values` must hold at least one series"):
        Sequences(torch.zeros(0, 3, 1))
    with pytest.raises(ShapeError, match=r"`values` must hold at least one entry a step.*obs 0"):
        Sequences(torch.zeros(2, 3, 0))


@pytest.mark.parametrize("shape", [(), (3,), (4, 5)])
def test_too_few_axes_are_refused_with_the_remedy(shape):
    with pytest.raises(
        ShapeError, match=r"`values` must have the axes \(series, time, \*obs\).*values\[\.\.\., None\]"
    ):
        Sequences(torch.zeros(shape))


def test_context_must_have_the_series_axis():
    with pytest.raises(ShapeError, match=r"`context\['view'\]` must have the series axis first. Got \(5,\) for 6"):
        example(context={"view": torch.zeros(5)})
    with pytest.raises(DataError, match="`context` must map names"):
        example(context=[torch.zeros(6)])


@pytest.mark.parametrize(
    ("index", "total", "error", "text"),
    [
        (torch.arange(5), None, ShapeError, "`index` must name each of the 6 series"),
        (None, 5, ShapeError, "`total` must be at least that"),
        (torch.arange(6.0), None, DataError, "`index` must hold whole numbers from 0 to 5"),
        (torch.arange(6) + 1, None, DataError, "`index` must hold whole numbers from 0 to 5"),
        (torch.arange(6) - 1, 9, DataError, "`index` must hold whole numbers from 0 to 8"),
        (None, "many", DataError, "`total` must be a whole number"),
        (None, nan, DataError, "`total` must be a whole number"),
    ],
)
def test_a_wrong_place_in_the_whole_is_refused(index, total, error, text):
    with pytest.raises(error, match=text):
        example(index=index, total=total)


# ---------------------------------------------------------------------- times (I8)


def test_times_are_counted_when_absent_and_double_otherwise():
    assert example().times.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    for times in ([-3, -2, 0, 1, 1000], np.arange(5, dtype=np.int32), torch.arange(5.0), np.arange(5)[::-1][::-1]):
        assert example(times=times).times.dtype == torch.float64


def test_a_large_offset_costs_no_accuracy():
    times = 1_700_000_000.0 + torch.arange(5, dtype=torch.float64) * 1e-3
    assert torch.equal(example(times=times).times, times)


@pytest.mark.parametrize(
    ("times", "text"),
    [
        ([0.0, 2.0, 1.0, 3.0, 4.0], r"`times` must increase from step to step. Got 2.0 followed by 1.0 at \(1,\)"),
        ([0.0, 1.0, 1.0, 3.0, 4.0], r"`times` must increase from step to step. Got 1.0 followed by 1.0 at \(1,\)"),
        ([[0.0, 1.0, 2.0, 3.0, 4.0]] * 5 + [[0.0, 1.0, 2.0, 3.0, 2.5]], r"Got 3.0 followed by 2.5 at \(5, 3\)"),
        ([0.0, 1.0, nan, 3.0, 4.0], r"`times` must be finite. Got nan at \(2,\)"),
        ([0.0, 1.0, 2.0, 3.0, inf], r"`times` must be finite. Got inf at \(4,\)"),
        (["a"] * 5, "`times` must be an array of numbers"),
        (np.arange(5).astype("datetime64[D]").astype(str), "`times` must be an array of numbers.*pandas.to_datetime"),
        (torch.arange(5) * 1j, "`times` must be real"),
    ],
)
def test_times_that_cannot_be_used_are_refused(times, text):
    with pytest.raises(DataError, match=text):
        example(times=times)


def test_times_must_cover_the_values():
    with pytest.raises(
        ShapeError, match=r"`times` must cover every observed step. Got `len\(times\)` = 4 but `values` has 5"
    ):
        example(times=torch.arange(4.0))
    for times in (torch.tensor(0.0), torch.zeros(5, 5), torch.zeros(1, 6, 5)):
        with pytest.raises(ShapeError, match=r"`times` must be \(time,\) or \(series, time\)"):
            example(times=times)


def test_inputs_must_cover_the_horizon_and_be_known():
    times = torch.arange(7.0)
    assert example(times=times, inputs=np.ones((6, 7, 1), dtype=np.int64)).inputs.dtype == torch.float32
    with pytest.raises(ShapeError, match=r"`inputs` must be \(series 6, time 7, input_dim\).*Got \(6, 5, 1\)"):
        example(times=times, inputs=torch.zeros(6, 5, 1))
    bad = torch.zeros(6, 7, 2)
    bad[4, 6, 1] = nan
    with pytest.raises(DataError, match=r"`inputs` must be finite.*Got nan at \(4, 6, 1\)"):
        example(times=times, inputs=bad)


def test_a_device_that_is_none_is_refused():
    with pytest.raises(DataError, match="`device` must be one that torch knows.*Got 'quantum'"):
        Sequences(torch.zeros(1, 2, 1)).to("quantum")
