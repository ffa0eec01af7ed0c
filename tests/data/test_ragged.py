from __future__ import annotations

import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, PyroSeqError, ShapeError

nan, inf = float("nan"), float("inf")


# ---------------------------------------------------------------------- from_numpy


def test_from_numpy_passes_every_field_on():
    values = np.random.default_rng(0).normal(size=(3, 4, 2))
    data = Sequences.from_numpy(
        values, mask=values[..., 0] > 0, times=np.arange(5), inputs=np.ones((3, 5, 1)), dtype=torch.float32
    )
    assert data.dtype == data.inputs.dtype == torch.float32
    assert torch.equal(data.mask, torch.from_numpy(values[..., 0] > 0))
    assert data.horizon == 1
    assert Sequences.from_numpy(values).dtype == torch.float64


def test_from_numpy_reads_a_memory_map_without_touching_it(tmp_path):
    np.save(tmp_path / "video.npy", np.full((2, 3, 4, 4), 255, dtype=np.uint8))
    data = Sequences.from_numpy(np.load(tmp_path / "video.npy", mmap_mode="r"))
    assert data.values.eq(255).all()


# ---------------------------------------------------------------------- from_list (I9)


def ragged(obs_shape=(2,), lengths=(4, 2, 0, 1), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, *obs_shape, generator=generator) for length in lengths]


@pytest.mark.parametrize("obs_shape", [(1,), (2,), (3, 4, 4)])
def test_ragged_series_are_their_unpadded_selves(obs_shape):
    parts = ragged(obs_shape)
    data = Sequences.from_list(parts)
    assert data.lengths.tolist() == [4, 2, 0, 1]
    assert data.times.tolist() == [0.0, 1.0, 2.0, 3.0]
    for i, part in enumerate(parts):
        alone = data[i].first(len(part))
        assert torch.equal(alone.values[0], part)
        assert alone.mask.all()
        assert not data.mask[i, len(part) :].any()
        assert not data.values[i, len(part) :].any()


def test_times_go_on_over_the_padding_at_the_median_spacing():
    times = [[0.0, 0.5, 1.0, 9.0], [-3.0, 1.0], [], [7.0]]
    data = Sequences.from_list(ragged(), times=times)
    assert data.times.tolist() == [
        [0.0, 0.5, 1.0, 9.0],
        [-3.0, 1.0, 5.0, 9.0],
        [0.0, 1.0, 2.0, 3.0],
        [7.0, 8.0, 9.0, 10.0],
    ]


def test_times_are_shared_where_all_series_start_alike():
    data = Sequences.from_list(ragged(), times=[[0.0, 0.5, 1.0, 9.0], [0.0, 0.5], [], [0.0]])
    assert data.times.tolist() == [0.0, 0.5, 1.0, 9.0]


def test_integer_times_and_large_offsets_lose_nothing():
    start = 1_700_000_000_123
    data = Sequences.from_list(ragged(lengths=(3, 2)), times=[np.arange(3) + start, np.arange(2) * 2 + start])
    assert data.times.tolist() == [[start, start + 1, start + 2], [start, start + 2, start + 4]]


def test_masks_by_step_or_by_entry_and_nan():
    parts = [torch.ones(2, 2), torch.tensor([[nan, 1.0]])]
    assert Sequences.from_list(parts).mask.tolist() == [[[True, True]] * 2, [[False, True], [False, False]]]
    masks = [[True, False], [[False, True]]]
    mixed = Sequences.from_list(parts, masks=masks)
    assert mixed.mask.tolist() == [[[True, True], [False, False]], [[False, True], [False, False]]]
    by_step = Sequences.from_list(parts, masks=[np.array([1, 0]), np.array([0])])
    assert by_step.mask.tolist() == [[True, False], [False, False]]
    with pytest.raises(
        DataError, match=r"`values` is NaN at 1 entries that `mask` calls observed, first at \(1, 0, 0\)"
    ):
        Sequences.from_list(parts, masks=[[True, True], [True]])


def test_inputs_are_padded_with_zero_and_kinds_may_mix():
    parts = [np.ones((2, 1)), torch.ones(1, 1), [[3], [4], [5]]]
    data = Sequences.from_list(parts, inputs=[np.ones((2, 2), dtype=int), torch.ones(1, 2), np.ones((3, 2))])
    assert data.dtype == torch.float64
    assert data.inputs.sum(-1).tolist() == [[2, 2, 0], [2, 0, 0], [2, 2, 2]]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"values": []}, DataError, "`values` must be a list with one array for each series. Got list of 0"),
        ({"values": torch.zeros(2, 3, 1)}, DataError, "`values` must be a list.*Got Tensor of 2"),
        ({"values": "ab"}, DataError, "`values` must be a list"),
        ({"values": [torch.zeros(3)]}, ShapeError, r"`values\[0\]` must be \(time, \*obs\).*\[:, None\]"),
        (
            {"values": [torch.zeros(3, 2), torch.zeros(3, 1)]},
            ShapeError,
            r"`values\[1\]` must be .*\(2,\). Got \(3, 1\)",
        ),
        ({"values": [torch.zeros(3, 2), None]}, DataError, r"`values\[1\]` must be an array of numbers"),
        ({"times": [[0.0]]}, ShapeError, "`times` must be a list of one array for each of 2 series. Got list of 1"),
        ({"times": torch.zeros(2, 3)}, ShapeError, "`times` must be a list"),
        ({"times": [[0, 1, 2], [0]]}, ShapeError, r"`times\[1\]` must have 2 steps, as `values\[1\]` has.*Got \(1,\)"),
        ({"times": [[0, 1, 2], [[0], [1]]]}, ShapeError, r"`times\[1\]` must have 2 steps.*1 axes"),
        ({"times": [[0, 1, 2], [1, 0]]}, DataError, r"`times` must increase.*at \(1, 0\)"),
        ({"times": [[0, 1, 2], [0, nan]]}, DataError, r"`times` must be finite. Got nan at \(1, 1\)"),
        ({"masks": [[True] * 3, [True]]}, ShapeError, r"`masks\[1\]` must have 2 steps"),
        ({"masks": [[True] * 3, [[True]] * 2]}, ShapeError, r"`masks\[1\]` must be \(time,\) or \(time, \*obs\)"),
        ({"inputs": [torch.zeros(3, 2), torch.zeros(2, 3)]}, ShapeError, r"`inputs\[1\]` must have 2 steps.*2 axes"),
        ({"inputs": [torch.zeros(3), torch.zeros(2)]}, ShapeError, r"`inputs\[0\]` must have 3 steps.*2 axes"),
    ],
)
def test_wrong_lists_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        Sequences.from_list(**{"values": [torch.zeros(3, 2), torch.zeros(2, 2)], **arguments})


# ---------------------------------------------------------------------- from_dataframe


AVERAGED = pytest.mark.filterwarnings("ignore:.*they are averaged")


def long_frame():
    return pd.DataFrame(
        {
            "who": ["b", "a", "b", "a", "b", "b"],
            "day": [3, 1, 1, 2, 1, 2],
            "x": [30.0, 1.0, 10.0, 2.0, nan, nan],
            "y": [3, 1, 1, 2, 3, 2],
            "dose": [0.3, 0.1, 0.1, 0.2, 0.3, 0.2],
        },
        index=list("uvwxyz"),
    )


def read(frame, **changes):
    return Sequences.from_dataframe(frame, **{"series": "who", "time": "day", "values": ["x", "y"], **changes})


@AVERAGED
def test_a_long_frame_is_sorted_averaged_and_padded():
    data = read(long_frame(), inputs=["dose"])
    assert data.dtype == torch.float32
    assert data.times.tolist() == [1.0, 2.0, 3.0]
    assert data.values.tolist() == [[[10, 2], [0, 2], [30, 3]], [[1, 1], [2, 2], [0, 0]]]
    assert data.mask.tolist() == [
        [[True, True], [False, True], [True, True]],
        [[True, True], [True, True], [False] * 2],
    ]
    torch.testing.assert_close(data.inputs[..., 0], torch.tensor([[0.2, 0.2, 0.3], [0.1, 0.2, 0.0]]))


@AVERAGED
def test_the_order_of_rows_matters_only_for_the_order_of_series():
    frame = long_frame()
    shuffled = frame.sample(frac=1.0, random_state=0)
    order = [list(shuffled["who"].unique()).index(name) for name in frame["who"].unique()]
    left, right = read(frame), read(shuffled)[order]
    assert torch.equal(left.values, right.values)
    assert torch.equal(left.mask, right.mask)


def test_series_on_other_grids_keep_their_own_times():
    frame = pd.DataFrame({"who": [1, 1, 2, 2], "day": [0.0, 1.0, 0.5, 4.0], "x": 1.0, "y": 1.0})
    assert read(frame).times.tolist() == [[0.0, 1.0], [0.5, 4.0]]


def test_dates_and_durations_count_in_seconds():
    day = pd.to_datetime(["2020-01-01", "2020-01-02"] * 2)
    frame = pd.DataFrame({"who": ["a", "a", "b", "b"], "day": day, "x": 1.0, "y": 1.0})
    assert read(frame).times.tolist() == [1577836800.0, 1577923200.0]
    frame["day"] = day.tz_localize("UTC")
    assert read(frame).times.tolist() == [1577836800.0, 1577923200.0]
    frame["day"] = day - day[0]
    assert read(frame).times.tolist() == [0.0, 86400.0]


@AVERAGED
def test_nullable_integer_and_boolean_columns_are_numeric():
    frame = long_frame()
    frame["x"] = pd.array([1, None, 3, 4, None, 6], dtype="Int64")
    frame["y"] = frame["y"] > 1
    data = read(frame, dtype=torch.float64)
    assert data.dtype == torch.float64
    assert data.values[0].tolist() == [[3.0, 0.5], [6.0, 1.0], [1.0, 1.0]]
    assert data.mask[1].tolist() == [[False, True], [True, True], [False, False]]


@AVERAGED
@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (
            lambda frame: frame.iloc[:0],
            {},
            "`frame` must be a pandas.DataFrame with rows and columns. Got DataFrame of 0",
        ),
        (lambda frame: frame.to_dict(), {}, "`frame` must be a pandas.DataFrame"),
        (lambda frame: frame, {"values": ["x", "z"]}, r"must each name one column of `frame`. Got \['z'\]"),
        (lambda frame: frame, {"series": "id"}, r"Got \['id'\], and the columns are"),
        (lambda frame: frame, {"values": []}, r"`values` \(at least one\)"),
        (
            lambda frame: frame,
            {"values": "x"},
            r"`values` must be a list of column names. Got 'x'. Write `values=\['x'\]`",
        ),
        (lambda frame: frame, {"inputs": "x"}, "`inputs` must be a list of column names"),
        (lambda frame: frame, {"values": ["who"]}, "Column 'who' must be numeric or of categories. Got .* first 'b'"),
        (lambda frame: frame.assign(x=1j), {}, "Column 'x' must be numeric"),
        (lambda frame: frame.assign(x=inf), {}, "Column 'x' must be finite. Got inf in row 'u'"),
        (lambda frame: frame.assign(day=frame["x"]), {}, r"Column 'day' \(`time`\) has no time stamp in row 'y'"),
        (lambda frame: frame.assign(day=frame["who"]), {}, "Column 'day' must be numeric"),
        (lambda frame: frame.assign(who=frame["x"]), {}, r"Column 'who' \(`series`\) has no name in row 'y'"),
        (
            lambda frame: frame,
            {"inputs": ["x"]},
            r"Column 'x' \(`inputs`\) must be known at every step. Got NaN at time 2",
        ),
        (
            lambda frame: pd.concat([frame, frame["x"]], axis=1),
            {},
            r"must each name one column of `frame`. Got \['x'\]",
        ),
    ],
)
def test_wrong_frames_are_refused(change, arguments, text):
    with pytest.raises(DataError, match=text):
        read(change(long_frame()), **arguments)


@AVERAGED
def test_the_frame_is_not_changed():
    frame = long_frame()
    read(frame, inputs=["dose"])
    pd.testing.assert_frame_equal(frame, long_frame())


# ---------------------------------------------------------------------- npz files (S1, S2, S8)


def example():
    values = torch.arange(12.0).reshape(2, 3, 2)
    return Sequences(values, mask=values[..., 0] > 1, times=[0.0, 0.5, 1.0, 4.0], inputs=torch.ones(2, 4, 1))


def test_a_file_comes_back_as_it_went(tmp_path):
    path = tmp_path / "with space and ü.npz"
    for data in (example(), example().seen(), Sequences(torch.ones(1, 2, 3, 4, dtype=torch.float64))):
        data.to_npz(path)
        again = Sequences.from_npz(str(path))
        for name in ("values", "mask", "times"):
            assert torch.equal(getattr(again, name), getattr(data, name))
        assert again.dtype == data.dtype
        assert (again.inputs is None) == (data.inputs is None)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    example().to_npz(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        example()[0].to_npz(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["data.npz"]


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        Sequences.from_npz(tmp_path / "nowhere.npz")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        example().to_npz(tmp_path / "nowhere" / "data.npz")


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_is_refused_with_its_path(tmp_path, tenth):
    path = tmp_path / "data.npz"
    example().to_npz(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    with pytest.raises(DataError, match=r"`path` must be a complete \.npz file.*data\.npz"):
        Sequences.from_npz(path)


def test_no_flipped_byte_goes_unseen_or_raises_anything_else(tmp_path):
    path = tmp_path / "data.npz"
    example().to_npz(path)
    content = path.read_bytes()
    unseen = 0
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        try:
            again = Sequences.from_npz(path)
        except PyroSeqError:
            continue
        unseen += 1
        for name in ("values", "mask", "times", "inputs"):  # a byte that carries no data, such as a date
            assert torch.equal(getattr(again, name), getattr(example(), name))
    assert unseen < len(range(0, len(content), 7)) / 2


@pytest.mark.parametrize("name", ["mask", "times", "inputs"])
def test_an_array_whose_name_changed_is_missed(tmp_path, name):
    """A gap would else become an observed zero: the name stands in two places, and no sum of a zip file covers it."""
    path = tmp_path / "data.npz"
    example().to_npz(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(name.encode() + b".npy", name[:-1].encode() + b"X.npy"))
    with pytest.raises(DataError, match="do not have the sum"):
        Sequences.from_npz(path)


def test_a_file_without_a_sum_is_read(tmp_path):
    """As earlier versions wrote them, and as NumPy does."""
    path, data = tmp_path / "data.npz", example()
    np.savez(path, values=data.values.numpy(), mask=data.mask.numpy(), inputs=data.inputs.numpy(), times=data.times)
    assert torch.equal(Sequences.from_npz(path).mask, data.mask)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def object_array(marker):
    array = np.empty((1, 2, 1), dtype=object)
    array[...] = Bomb(marker)
    return array


@pytest.mark.parametrize(
    "write",
    [
        lambda path, marker: np.savez(path, values=object_array(marker)),
        lambda path, marker: np.savez(path, values=np.zeros((1, 2, 1)), times=object_array(marker)),
        lambda path, marker: path.write_bytes(pickle.dumps(Bomb(marker))),
        lambda path, marker: torch.save(Bomb(marker), path),
        lambda path, marker: np.save(path.open("wb"), np.zeros((1, 2, 1))),
        lambda path, marker: path.write_bytes(b""),
        lambda path, marker: path.write_text("series,time,x"),
        lambda path, marker: zipfile.ZipFile(path, "w").close(),
        lambda path, marker: np.savez(path, frames=np.zeros((1, 2, 1))),
    ],
    ids=["object values", "object times", "pickle", "torch", "npy", "empty", "text", "empty zip", "foreign"],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_foreign_files_are_refused_and_run_no_code(tmp_path, write):
    path, marker = tmp_path / "data.npz", str(tmp_path / "marker")
    write(path, marker)
    with pytest.raises(DataError, match=r"`path` must.*data\.npz"):
        Sequences.from_npz(path)
    assert not os.path.exists(marker)


def test_a_file_that_says_it_unpacks_to_more_than_a_memory_is_refused(tmp_path):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", bytes(1000))
        archive.filelist[0].file_size = 2**40
    with pytest.raises(DataError, match=r"bytes would unpack to 1099511627776"):
        Sequences.from_npz(path)


def test_wrong_content_is_refused_with_the_path(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, values=np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"data\.npz: `values` must have the axes"):
        Sequences.from_npz(path)
    np.savez(path, values=np.full((2, 3, 1), inf))
    with pytest.raises(DataError, match=r"data\.npz: `values` must be finite"):
        Sequences.from_npz(path)


def test_other_arrays_in_the_file_are_left_alone(tmp_path):
    np.savez(tmp_path / "data.npz", values=np.zeros((2, 3, 1)), labels=object_array("unused"))
    assert len(Sequences.from_npz(tmp_path / "data.npz")) == 2
