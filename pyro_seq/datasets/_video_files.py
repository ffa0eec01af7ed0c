"""Videos on disk: folders of images, GIF files and arrays, each read frame by frame from the file."""

from __future__ import annotations

import os
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import ExifTags, Image, ImageOps, ImageSequence

from pyro_seq.datasets._movies import MOVIES, Movie
from pyro_seq.datasets._video_clock import even_frames
from pyro_seq.errors import DataError, PyroSeqError, ShapeError

_IMAGES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow gives others to programs, by content
_ARRAYS = {".npy", ".npz"}
_CHANNELS = (1, 3)
# Exceptions of Pillow, NumPy and zipfile on damaged files
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, LookupError, TypeError, OverflowError, struct.error)
_UNREADABLE = (*_DAMAGE, zipfile.BadZipFile, Image.DecompressionBombError)
_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip file: ends with the lengths of the name and of the extra field


class Video(Protocol):
    """Frames on disk."""

    @property
    def name(self) -> str:
        """Path relative to the folder."""

    @property
    def num_frames(self) -> int:
        """Number of frames."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of every frame."""

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Frames at increasing `steps`, (height, width, channel) each, whole numbers up to 255 or floats up to 1."""
        ...


def find_videos(path: Path) -> list[Video]:
    """All videos at or below `path`, in the natural order of their names.

    Raises:
        DataError: When there are none, or a video cannot be opened, or its frames differ in size.
    """
    if not path.exists():
        raise DataError(f"Videos were looked for at {path}, and there is nothing. Check the path.")
    videos = list(_below(path))
    if not videos:
        raise DataError(
            f"{path} holds no videos. Expected folders of images ({', '.join(sorted(_IMAGES))}), or files "
            f"({', '.join(sorted(_ARRAYS | MOVIES | {'.gif'}))})."
        )
    return sorted(videos, key=lambda video: natural(video.name))


def natural(name: str) -> list[tuple[int, str]]:
    """Sorting key that puts frame 2 before frame 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn errors of a file reader into a `DataError` that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        if isinstance(error, PyroSeqError):
            raise
        raise DataError(f"{path} cannot be read: {error}. Replace the file, or remove it.") from error


def _below(root: Path) -> Iterator[Video]:
    if root.is_file():
        yield from _in_file(root, root.name)
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        here = Path(folder)
        images = sorted((name for name in names if _suffix(name) in _IMAGES and not name.startswith(".")), key=natural)
        relative = here.relative_to(root)
        if images:
            yield ImageFolder.open(here, images, relative.as_posix())
        for name in names:
            if not name.startswith("."):
                yield from _in_file(here / name, (relative / name).as_posix())


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _in_file(path: Path, name: str) -> Iterator[Video]:
    suffix = _suffix(path.name)
    with naming(path):
        if suffix == ".gif":
            yield Animation.open(path, name)
        elif suffix in MOVIES:
            yield Movie.open(path, name)
        elif suffix in _ARRAYS:
            yield from _in_arrays(path, name)


def _opened(path: Path) -> Image.Image:
    """An image file of a known format, checked by content: PostScript named ``.png`` would run in Ghostscript."""
    return Image.open(path, formats=_FORMATS)


def _pixels(image: Image.Image, path: Path) -> np.ndarray:
    """Grey (height, width, 1) or colour (height, width, 3), upright, over black where the image is transparent."""
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path} must have 8 bits a channel. Got mode {image.mode!r}. Convert it.")
    image, is_grey = ImageOps.exif_transpose(image), image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    pixels = np.asarray(image.convert("L" if is_grey else "RGB"))
    return pixels if pixels.ndim == 3 else pixels[..., None]


# ---------------------------------------------------------------------- formats


@dataclass(frozen=True)
class ImageFolder:
    """A folder with one image per frame."""

    folder: Path
    files: tuple[str, ...]
    name: str
    frame_size: tuple[int, int]

    @classmethod
    def open(cls, folder: Path, files: list[str], name: str) -> ImageFolder:
        """Read the header of every image."""
        sizes = [cls._size(folder / file) for file in files]
        for file, size in zip(files, sizes, strict=True):
            if size != sizes[0]:
                raise ShapeError(
                    f"All frames of a video must have one size. {folder / file} has {_text(size)} pixels, "
                    f"{files[0]} has {_text(sizes[0])}. Resize or remove it."
                )
        return cls(folder, tuple(files), name, sizes[0])

    @staticmethod
    def _size(path: Path) -> tuple[int, int]:
        with naming(path), _opened(path) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise DataError(
                    f"{path} must be one frame, as an image of a folder is. Got {count}. Make it a GIF file or images."
                )
            is_lying = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.width, image.height) if is_lying else (image.height, image.width)

    @property
    def num_frames(self) -> int:
        """Number of images."""
        return len(self.files)

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Decode the images at `steps`."""
        frames = []
        for step in steps:
            path = self.folder / self.files[step]
            with naming(path), _opened(path) as image:
                frames.append(_pixels(image, path))
        return frames


@dataclass(frozen=True)
class Animation:
    """A GIF file; `shown` is the number of the picture at each frame, because writers merge equal pictures."""

    path: Path
    name: str
    shown: tuple[int, ...]
    frame_size: tuple[int, int]

    @classmethod
    def open(cls, path: Path, name: str) -> Animation:
        """Read the duration of each picture."""
        with _opened(path) as image:
            durations = [frame.info.get("duration", 0) for frame in ImageSequence.Iterator(image)]
            return cls(path, name, even_frames(durations), (image.height, image.width))

    @property
    def num_frames(self) -> int:
        """Number of frames at even times."""
        return len(self.shown)

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Decode from the beginning, because a GIF frame is stored as a change of the previous one."""
        wanted = [self.shown[step] for step in steps]
        with naming(self.path), _opened(self.path) as image:
            frames: dict[int, np.ndarray] = {}
            for number, picture in enumerate(ImageSequence.Iterator(image)):
                if number in wanted:
                    frames[number] = _pixels(picture, self.path)
                if number == wanted[-1]:
                    return [frames[number] for number in wanted]
        raise DataError(f"{self.path} ends before frame {max(steps)}. Replace the file, or remove it.")


@dataclass(frozen=True)
class ArrayVideo:
    """One video in an array file, or one row of an array of videos."""

    path: Path
    member: str | None
    row: int | None
    name: str
    num_frames: int
    frame_size: tuple[int, int]

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Copy the frames out of the memory map."""
        with naming(self.path):
            array = _map(self.path, self.member)
            frames = np.array((array if self.row is None else array[self.row])[list(steps)])
        if frames.dtype.kind == "f" and not (frames.min() >= 0 and frames.max() <= 1):  # NaN fails both
            raise DataError(
                f"{self.path} must hold floats from 0 to 1, or 8-bit numbers. Got {frames.min():g} to "
                f"{frames.max():g} in `{self.name}`. Rescale them."
            )
        frames = frames if frames.dtype.kind == "f" else frames.astype(np.uint8) * (255 if frames.dtype == bool else 1)
        return list(frames if frames.ndim == 4 else frames[..., None])


def _in_arrays(path: Path, name: str) -> Iterator[Video]:
    members: list[str | None] = [None]
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as archive:
            members = [member.filename for member in archive.infolist()]
    for member in members:
        array = _map(path, member)
        shape, label = array.shape, name if len(members) == 1 else f"{name}/{str(member).removesuffix('.npy')}"
        if array.dtype not in (np.uint8, np.bool_) and array.dtype.kind != "f":
            raise DataError(f"{path} must hold 8-bit numbers, or floats from 0 to 1. Got {array.dtype} in `{label}`.")
        if len(shape) not in (3, 4, 5) or (len(shape) > 3 and shape[-1] not in _CHANNELS) or 0 in shape:
            raise ShapeError(
                f"{path} must hold one video (time, height, width) or (time, height, width, channel), or many (video, "
                f"time, height, width, channel), with 1 or 3 channels. Got {shape} in `{label}`. Save it with "
                "its axes in order: grey videos (time, video, height, width) by `array.swapaxes(0, 1)[..., None]`, "
                "channels in front of the height by `numpy.moveaxis(array, -3, -1)`."
            )
        if len(shape) < 5:
            yield ArrayVideo(path, member, None, label, shape[0], (shape[1], shape[2]))
        else:
            for row in range(shape[0]):
                yield ArrayVideo(path, member, row, f"{label}/{row}", shape[1], (shape[2], shape[3]))


def _map(path: Path, member: str | None) -> np.ndarray:
    """A memory map of an array file, or of an uncompressed array inside an archive."""
    if member is None:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(member)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise DataError(f"{path} is compressed and cannot be read in parts. Save it by `np.savez` or as .npy files.")
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        file.seek(sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))), os.SEEK_CUR)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(file)
        if dtype.hasobject:
            raise DataError(f"{path} must hold numbers. Got objects in `{member}`, and reading those could run code.")
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if is_fortran else "C")


def _text(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
