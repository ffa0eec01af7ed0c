"""Clips from files: every format gives back the frames that were written, and every fault names its file."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from pyro_seq.datasets import VideoFolder, bair, kth
from pyro_seq.errors import DataError, PyroSeqError, ShapeError, UnsupportedError

HEIGHT, WIDTH = 6, 8


def video(num_frames: int = 7, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Frames (time, height, width, channel)."""
    return np.random.default_rng(seed).integers(0, 256, (num_frames, HEIGHT, WIDTH, channels), dtype=np.uint8)


def write_images(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(folder / f"frame{number}.png")


def as_values(frames: np.ndarray) -> torch.Tensor:
    """(time, channel, height, width) in [0, 1]."""
    return torch.from_numpy(frames.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def write_movie(path: Path, frames: np.ndarray, codec: str, **options: str) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


# ---------------------------------------------------------------------- formats


@pytest.mark.parametrize("channels", [1, 3])
def test_folders_of_images(tmp_path: Path, channels: int) -> None:
    """Eleven frames, so that an order by letters would be wrong."""
    videos = [video(11, channels, seed) for seed in range(2)]
    for number, frames in zip(("2", "10"), videos, strict=True):
        write_images(tmp_path / f"clip{number}", frames)
    (tmp_path / "notes.txt").write_text("not a video")
    data = VideoFolder(tmp_path, num_steps=11, is_colour=channels == 3)
    assert (
        data.names == ("clip2", "clip10")
        and repr(data) == f"VideoFolder((series 2, time 11, obs {channels}, obs 6, obs 8))"
    )
    assert torch.equal(data[:].values, torch.stack([as_values(frames) for frames in videos]))


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kind", ["uint8", "float64", "bool"])
def test_arrays_of_one_video_and_of_many(tmp_path: Path, suffix: str, kind: str) -> None:
    many = np.stack([video(seed=seed) for seed in range(3)])
    stored = {"uint8": many, "float64": many / 255.0, "bool": many > 127}[kind]
    expected = {"uint8": many, "float64": many, "bool": np.where(many > 127, 255, 0).astype(np.uint8)}[kind]
    arrays = {"one": stored[0, ..., 0], "several": np.asfortranarray(stored)}
    if suffix == "npy":
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
    else:
        np.savez(tmp_path / "all.npz", **arrays)
    data = VideoFolder(tmp_path, num_steps=7)
    assert len(data) == 4 and len(set(data.names)) == 4
    assert torch.equal(data[:].values, torch.stack([as_values(expected[row]) for row in (0, 0, 1, 2)]))


def test_animations(tmp_path: Path) -> None:
    frames = video(9)
    pictures = [Image.fromarray(frame[..., 0]) for frame in frames]
    pictures[0].save(tmp_path / "clip.gif", save_all=True, append_images=pictures[1:])
    for data in (
        VideoFolder(tmp_path, num_steps=4, stride=5),
        VideoFolder(tmp_path / "clip.gif", num_steps=4, stride=5),
    ):
        torch.testing.assert_close(data[[1]].values[0], as_values(frames)[5:])  # grey passes through colours


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "mpeg4"), ("avi", "mpeg4"), ("mkv", "ffv1")])
def test_movies_are_read_from_any_frame_on(tmp_path: Path, suffix: str, codec: str) -> None:
    """Each frame has a grey of its own, which compression keeps to a few levels."""
    greys = np.arange(20, 240, 20)
    frames = np.broadcast_to(greys[:, None, None, None], (11, 32, 48, 3)).astype(np.uint8)
    write_movie(tmp_path / f"clip.{suffix}", frames, codec)
    data = VideoFolder(tmp_path, num_steps=3, stride=1)
    assert len(data) == 9 and data.obs_shape == (1, 32, 48)
    for start in (8, 0, 5):
        shown = data[[start]].values.mean((2, 3, 4))[0] * 255
        np.testing.assert_allclose(shown, greys[start : start + 3], atol=4)


def test_colours_sizes_and_frame_steps(tmp_path: Path) -> None:
    frames = video(9, 3)
    write_images(tmp_path / "clip", frames)
    grey = VideoFolder(tmp_path, num_steps=3, frame_step=3, stride=1)
    assert len(grey) == 3
    expected = (as_values(frames)[1::3] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    torch.testing.assert_close(grey[[1]].values[0, :, 0], expected)
    np.save(tmp_path / "grey.npy", video(9)[..., 0])
    colour = VideoFolder(tmp_path / "grey.npy", num_steps=9, is_colour=True)
    assert torch.equal(colour[0].values[0], as_values(video(9)).expand(-1, 3, -1, -1))
    small = VideoFolder(tmp_path, num_steps=9, size=(3, 4), is_colour=True).subset("clip".__eq__)
    halves = torch.nn.functional.interpolate(as_values(frames), (3, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(small[0].values[0], halves, rtol=0, atol=1e-5)
    flat = np.full((2, 5, 9), 0.25, np.float32)
    np.save(tmp_path / "flat.npy", flat)
    assert VideoFolder(tmp_path / "flat.npy", num_steps=2, size=16)[0].values.unique().tolist() == [0.25]


# ---------------------------------------------------------------------- clips


def test_clips_cover_each_video_by_stride(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", a=video(7)[..., 0], b=video(4)[..., 0])
    assert VideoFolder(tmp_path, num_steps=3).clips.tolist() == [[0, 0], [0, 3], [1, 0]]
    data = VideoFolder(tmp_path, num_steps=3, stride=1)
    assert data.clips.tolist() == [[0, start] for start in range(5)] + [[1, 0], [1, 1]]
    batch = data.minibatch(torch.tensor([6, 2]))
    assert batch.context["video"].tolist() == [1, 0] and batch.context["start"].tolist() == [1, 2]
    assert torch.equal(batch.values[0], as_values(video(4))[1:4]) and batch.total == 7
    assert data.beginnings().clips.tolist() == [[0, 0], [1, 0]] and len(data.beginnings(1)) == 1
    assert data.subset(lambda name: name.endswith("b")).clips.tolist() == [[1, 0], [1, 1]]
    assert data.recut(num_steps=4).clips.tolist() == [[0, 0], [1, 0]]
    assert data.recut(num_steps=4).num_steps == 4 and data.num_steps == 3
    data.check()


def test_random_clips_are_uniform_over_videos_then_over_starts(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", a=video(10)[..., 0], b=video(4)[..., 0])
    data = VideoFolder(tmp_path, num_steps=3, stride=1)
    drawn = data.draw(4_000, seed=1)
    assert drawn.clips.tolist() == data.draw(4_000, seed=1).clips.tolist() != data.draw(4_000, seed=2).clips.tolist()
    count = np.bincount(drawn.clips[:, 0] * 8 + drawn.clips[:, 1], minlength=10)
    expected = np.array([250.0] * 8 + [1000.0] * 2)
    assert (np.abs(count - expected) < 4.5 * np.sqrt(expected)).all()


def test_short_videos_are_refused_or_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", a=video(7)[..., 0], b=video(4)[..., 0])
    with pytest.raises(DataError, match="takes 5 frames. 1 of 2 videos are shorter, the first 'all.npz/b' with 4"):
        VideoFolder(tmp_path, num_steps=5)
    assert VideoFolder(tmp_path, num_steps=5, skip_short=True).clips.tolist() == [[0, 0]]
    with pytest.raises(DataError, match="takes 9 frames"):
        VideoFolder(tmp_path, num_steps=5, frame_step=2, skip_short=True)


def test_memory_holds_a_clip_and_not_the_file(tmp_path: Path) -> None:
    """A file of 48 MB, of which clips of 16 kB are read."""
    np.lib.format.open_memmap(tmp_path / "all.npy", "w+", np.uint8, (50, 240, 64, 64, 1)).flush()
    tracemalloc.start()
    data = VideoFolder(tmp_path, num_steps=4, stride=1)
    for number in range(0, len(data), 1_000):
        data[number]
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


# ---------------------------------------------------------------------- faults


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no videos"):
        VideoFolder(tmp_path, num_steps=2)
    with pytest.raises(DataError, match="there is nothing"):
        VideoFolder(tmp_path / "absent", num_steps=2)


@pytest.mark.parametrize("name", ["frame2.png", "clip.gif", "clip.npy", "clip.npz", "clip.mp4"])
@pytest.mark.parametrize("content", [b"", b"not what the name says" * 10])
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} cannot be read"):
        VideoFolder(tmp_path, num_steps=1)


@pytest.mark.parametrize("name", ["frame2.png", "clip.gif", "clip.npy", "clip.npz", "clip.mp4"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, name: str, share: float) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    pictures = [Image.fromarray(frame) for frame in frames]
    path = tmp_path / name
    if name == "clip.gif":
        pictures[0].save(path, save_all=True, append_images=pictures[1:])
    elif name == "clip.npy":
        np.save(path, frames)
    elif name == "clip.npz":
        np.savez(path, frames)
    elif name == "clip.mp4":
        write_movie(path, frames, "mpeg4")
    else:
        pictures[0].save(tmp_path / "frame1.png")
        pictures[1].save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PyroSeqError, match=name):
        VideoFolder(tmp_path, num_steps=12 if name.startswith("clip") else 2).check()


def test_a_program_named_like_an_image_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow goes by the content and hands PostScript to Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("Ghostscript was called"))
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("frame0.png", "frame1.png"):
        (tmp_path / name).write_bytes(program)
    with pytest.raises(DataError, match=r"frame0\.png cannot be read"):
        VideoFolder(tmp_path, num_steps=2)[0]


def test_frames_of_changing_size(tmp_path: Path) -> None:
    write_images(tmp_path / "clip", video(3))
    Image.new("L", (WIDTH, HEIGHT + 1)).save(tmp_path / "clip" / "frame2.png")
    with pytest.raises(ShapeError, match=r"frame2.png has 7 x 8 pixels, frame1.png has 6 x 8"):
        VideoFolder(tmp_path, num_steps=2, size=4)
    Image.new("L", (WIDTH, HEIGHT)).save(tmp_path / "clip" / "frame2.png")
    write_images(tmp_path / "other", video(3)[:, :4])
    with pytest.raises(ShapeError, match="'other' has .* brought to one by `size`|by `size`. 'other'"):
        VideoFolder(tmp_path, num_steps=2)
    assert VideoFolder(tmp_path, num_steps=2, size=4)[:].values.shape == (2, 2, 1, 4, 4)


def test_arrays_that_are_no_videos(tmp_path: Path) -> None:
    path = tmp_path / "clip.npy"
    for array, match, kind in (
        (np.zeros((3, 4)), r"Got \(3, 4\)", ShapeError),
        (np.zeros((2, 3, 4, 5)), "1 or 3 channels", ShapeError),
        (np.zeros((0, 4, 4)), r"\(0, 4, 4\)", ShapeError),
        (np.zeros((3, 4, 4), np.int64), "int64", DataError),
        (np.full((3, 4, 4), 2.0), "from 0 to 1", DataError),
        (np.full((3, 4, 4), np.nan), "from 0 to 1", DataError),
    ):
        np.save(path, array)
        with pytest.raises(kind, match=match):
            VideoFolder(path, num_steps=2).check()
    np.savez_compressed(tmp_path / "clip.npz", video())
    with pytest.raises(DataError, match="compressed"):
        VideoFolder(tmp_path / "clip.npz", num_steps=2)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "clip.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "clip.npz", trap)
    for name in ("clip.npy", "clip.npz"):
        with pytest.raises(DataError, match=name):
            VideoFolder(tmp_path / name, num_steps=1).check()
    assert not (tmp_path / "ran").exists()


def test_movies_need_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'pyro-seq\[video\]'"):
        VideoFolder(tmp_path, num_steps=1)


@pytest.mark.parametrize("options", [{"num_steps": 0}, {"stride": 0}, {"frame_step": 0}, {"size": 0}])
def test_wrong_arguments(tmp_path: Path, options: dict) -> None:
    np.save(tmp_path / "clip.npy", video()[..., 0])
    with pytest.raises(DataError, match=next(iter(options))):
        VideoFolder(tmp_path, **{"num_steps": 2, **options})
    with pytest.raises(DataError, match="at least one clip"):
        VideoFolder(tmp_path, num_steps=2).subset(lambda name: False)


# ---------------------------------------------------------------------- published sets


def write_kth(root: Path) -> None:
    for person in (1, 2, 19, 20, 21, 25):
        for action, length in (("boxing", 9), ("walking", 12)):
            name = f"person{person:02d}_{action}_d1"
            frames = np.full((length, 12, 16, 1), 10 * person, np.uint8)
            if action == "boxing":
                write_images(root / action / f"{name}_uncomp", frames)
            else:
                (root / action).mkdir(parents=True, exist_ok=True)
                np.save(root / action / f"{name}.npy", frames[..., 0])


def persons(data) -> list[int]:
    """From the grey of the first frame."""
    return sorted((data[:].values[:, 0].mean((1, 2, 3)) * 25.5).round().int().unique().tolist())


def test_kth_is_split_by_person(tmp_path: Path) -> None:
    write_kth(tmp_path)
    train, validation, test = kth(tmp_path, num_steps=4, num_test_steps=10, num_test=30, validation_share=0.25, size=8)
    assert set(persons(train)) | set(persons(validation)) == {1, 2, 19, 20}
    assert (
        len({train.names[clip] for clip in train.clips[:, 0]} & {train.names[c] for c in validation.clips[:, 0]}) == 0
    )
    assert persons(test) == [21, 25] and len(test) == 30
    assert test[:].values.shape == (30, 10, 1, 8, 8) and len(np.unique(test.clips[:, 1])) == 3
    again = kth(tmp_path, num_steps=4, num_test_steps=10, num_test=30, size=8)
    assert again.test.clips.tolist() == test.clips.tolist()
    assert kth(tmp_path, num_steps=4, num_test_steps=10, validation_share=0).validation is None


def test_kth_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYRO_SEQ_DATA", str(tmp_path))
    with pytest.raises(DataError, match="csc.kth.se"):
        kth()
    write_images(tmp_path / "kth" / "someone", video(50))
    with pytest.raises(DataError, match="someone"):
        kth()


@pytest.mark.parametrize("form", ["images", "array"])
def test_bair_tests_from_the_first_frame(tmp_path: Path, form: str) -> None:
    frames = {
        part: np.stack([video(8, 3, seed) for seed in range(count)]) for part, count in (("train", 5), ("test", 4))
    }
    for part, videos in frames.items():
        if form == "array":
            np.save(tmp_path / f"{part}.npy", videos)
            continue
        for number, one in enumerate(videos):
            write_images(tmp_path / part / str(number), one)
    train, validation, test = bair(tmp_path, num_steps=3, num_test_steps=8, num_test=3, validation_share=0.2, size=8)
    assert len(train) == 4 * 6 and len(validation) == 2 and len(test) == 3
    assert test.clips[:, 1].tolist() == [0, 0, 0] and test.obs_shape == (3, 8, 8)
    plain = VideoFolder(tmp_path / ("test" if form == "images" else "test.npy"), num_steps=8, is_colour=True)
    assert torch.equal(plain[:].values, torch.stack([as_values(one) for one in frames["test"]]))
    assert len(bair(tmp_path, num_steps=3, num_test_steps=8, num_test=None).test) == 4
    with pytest.raises(DataError, match="train"):
        bair(tmp_path / "absent")
