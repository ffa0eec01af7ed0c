"""What files say about pictures beside their pixels: how long they stand, which way is up, what is transparent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pyro_seq.datasets import VideoFolder
from pyro_seq.datasets._video_clock import even_frames
from pyro_seq.errors import DataError, ShapeError

SIZE = 32


def moving_dot(positions: list[int]) -> list[Image.Image]:
    frames = np.zeros((len(positions), SIZE, SIZE), np.uint8)
    frames[np.arange(len(positions)), 8, positions] = 255
    return [Image.fromarray(frame) for frame in frames]


def positions(data: VideoFolder) -> list[int]:
    return data[0].values[0, :, 0].flatten(1).argmax(1).remainder(SIZE).tolist()


def rgba(alpha: np.ndarray) -> np.ndarray:
    """White wherever it is not transparent, and underneath as well."""
    return np.concatenate([np.full((*alpha.shape, 3), 255, np.uint8), alpha[..., None]], -1)


# ---------------------------------------------------------------------- time


def test_an_object_that_rests_in_a_gif_file_rests(tmp_path: Path) -> None:
    """Pillow writes seven equal frames as one that stands for 700 ms."""
    written = [2 + max(0, t - 6) for t in range(12)]
    first, *others = moving_dot(written)
    first.save(tmp_path / "dot.gif", save_all=True, append_images=others, duration=100)
    with Image.open(tmp_path / "dot.gif") as image:
        assert image.n_frames == 6
    assert positions(VideoFolder(tmp_path, num_steps=12)) == written
    parts = VideoFolder(tmp_path, num_steps=3, stride=1)
    assert [positions(parts.draw(1, seed=seed)) in [written[i : i + 3] for i in range(10)] for seed in range(5)] == (
        [True] * 5
    )


@pytest.mark.parametrize("rests", [[5], [0, 4], [2, 3]])
def test_rests_anywhere_and_of_stated_length(tmp_path: Path, rests: list[int]) -> None:
    first, *others = moving_dot(list(range(6)))
    durations = [300 if i in rests else 100 for i in range(6)]
    first.save(tmp_path / "dot.gif", save_all=True, append_images=others, duration=durations)
    expected = [i for i in range(6) for _ in range(3 if i in rests else 1)]
    assert positions(VideoFolder(tmp_path, num_steps=len(expected))) == expected


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([40] * 4, [0, 1, 2, 3]),
        ([33, 33, 34, 33, 33, 34], [0, 1, 2, 3, 4, 5]),  # a clock that rounds
        ([30, 30, 40], [0, 1, 2]),
        ([100, 200, 100], [0, 1, 1, 2]),
        ([0, 0, 0], [0, 1, 2]),  # unknown
        ([0, 100, 200], [0, 1, 2, 2]),
        ([100] * 12 + [1] + [100] * 12, list(range(25))),  # a stray short one
        ([250], [0]),
        ([], []),
    ],
)
def test_frames_last_as_long_as_the_shortest_pictures(durations: list[float], expected: list[int]) -> None:
    assert list(even_frames(durations)) == expected


def test_movies_whose_frames_stand_for_different_times(tmp_path: Path) -> None:
    import av

    greys, stamps = np.arange(20, 240, 40), [0, 1, 2, 6, 7, 8]
    with av.open(str(tmp_path / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        for grey, stamp in zip(greys, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((SIZE, SIZE, 3), grey, np.uint8), format="rgb24")
            frame.pts = stamp
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = VideoFolder(tmp_path, num_steps=9)
    expected = greys[[0, 1, 2, 2, 2, 2, 3, 4, 5]]
    np.testing.assert_allclose(255 * data[0].values[0].mean((1, 2, 3)), expected, atol=3)


def test_a_moving_picture_among_images_is_refused(tmp_path: Path) -> None:
    first, *others = moving_dot([1, 2, 3])
    first.save(tmp_path / "dot.webp", save_all=True, append_images=others, duration=100)
    with pytest.raises(DataError, match=r"dot.webp must be one frame.*Got 3"):
        VideoFolder(tmp_path, num_steps=1)


# ---------------------------------------------------------------------- which way is up


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(tmp_path: Path, orientation: int) -> None:
    """Numbers of the EXIF standard: where row 0 and column 0 of the stored picture are in the upright one."""
    upright = np.zeros((16, 24), np.uint8)
    upright[:8, :8] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("1.png", "2.jpg"):
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif, quality=100)
    data = VideoFolder(tmp_path, num_steps=2)
    assert data.obs_shape == (1, 16, 24)
    torch.testing.assert_close(
        data[0].values[0, :, 0], torch.from_numpy(upright / 255.0).float().expand(2, -1, -1), rtol=0, atol=0.02
    )


@pytest.mark.parametrize(("degrees", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_movies_stand_upright(tmp_path: Path, degrees: int, turns: int) -> None:
    import av

    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :16] = 255
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.set_display_rotation(degrees)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    data, upright = VideoFolder(tmp_path, num_steps=3), np.rot90(stored[..., 0] / 255.0, turns)
    assert data.obs_shape == (1, *upright.shape)
    assert np.abs(data[0].values[0, -1, 0].numpy() - upright).mean() < 0.02


# ---------------------------------------------------------------------- what is transparent


def transparent_pictures() -> dict[str, Image.Image]:
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:, 4:] = 0
    colour = Image.fromarray(rgba(alpha), "RGBA")
    grey = Image.merge("LA", [Image.new("L", (8, 8), 255), Image.fromarray(alpha)])
    palette = Image.fromarray((alpha == 0).astype(np.uint8), "P")
    palette.putpalette([255] * 6)
    palette.info["transparency"] = 1
    return {"RGBA": colour, "LA": grey, "P": palette}


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_black(tmp_path: Path, mode: str) -> None:
    transparent_pictures()[mode].save(tmp_path / "1.png")
    for is_colour in (False, True):
        values = VideoFolder(tmp_path, num_steps=1, is_colour=is_colour)[0].values
        assert bool((values[..., :4] == 1).all()) and bool((values[..., 4:] == 0).all())


def test_what_is_half_transparent_is_half_as_bright(tmp_path: Path) -> None:
    Image.fromarray(rgba(np.full((8, 8), 128, np.uint8))).save(tmp_path / "1.png")
    values = VideoFolder(tmp_path, num_steps=1)[0].values
    torch.testing.assert_close(values, torch.full_like(values, 128 / 255), rtol=0, atol=1 / 255)


# ---------------------------------------------------------------------- the order of axes


@pytest.mark.parametrize("shape", [(20, 30, 16, 16), (20, 3, 16, 16), (5, 20, 3, 16, 16)])
def test_axes_in_another_order_are_refused_with_the_way_out(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).random(shape)
    np.save(tmp_path / "clip.npy", array)
    with pytest.raises(ShapeError, match=r"swapaxes\(0, 1\)\[\.\.\., None\].*moveaxis\(array, -3, -1\)"):
        VideoFolder(tmp_path, num_steps=2)
    np.save(tmp_path / "clip.npy", array.swapaxes(0, 1)[..., None] if shape[1] == 30 else np.moveaxis(array, -3, -1))
    data = VideoFolder(tmp_path, num_steps=20)
    assert len(data) == {30: 30, 3: 1, 20: 5}[shape[1]] and data.obs_shape == (1, 16, 16)
