"""Movies such as MP4 files, through the extra `video`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyro_seq.errors import DataError, ShapeError, UnsupportedError

MOVIES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True)
class Movie:
    """A movie file; its frames are counted once by their time stamps, and found by them."""

    path: Path
    name: str
    stamps: tuple[int, ...]
    frame_size: tuple[int, int]

    @classmethod
    def open(cls, path: Path, name: str) -> Movie:
        """Read the time stamps of all frames, without decoding them."""
        with _opened(path) as (container, stream):
            stamps = sorted(stamp for packet in container.demux(stream) if (stamp := _stamp(packet)) is not None)
            size = (stream.codec_context.height, stream.codec_context.width)
        if not stamps:
            raise DataError(f"{path} holds no frames. Replace the file, or remove it.")
        return cls(path, name, tuple(stamps), size)

    @property
    def num_frames(self) -> int:
        """Number of time stamps."""
        return len(self.stamps)

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Decode from the last key frame before the first of `steps`."""
        wanted = {self.stamps[step] for step in steps}
        frames: list[np.ndarray] = []
        with _opened(self.path) as (container, stream):
            container.seek(self.stamps[steps[0]], stream=stream, backward=True)
            for frame in container.decode(stream):
                if _stamp(frame) in wanted:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == len(wanted):
                    break
        if len(frames) < len(wanted):
            raise DataError(f"{self.path} ends before frame {max(steps)}. Replace the file, or remove it.")
        if any(frame.shape[:2] != self.frame_size for frame in frames):
            raise ShapeError(f"All frames of a video must have one size. {self.path} changes it. Convert the file.")
        return frames


def _stamp(timed: Any) -> int | None:
    """When a packet or a frame is shown; some containers only say when it is decoded."""
    return timed.dts if timed.pts is None else timed.pts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    try:
        import av
    except ImportError as error:
        raise UnsupportedError(f"{path} needs a package that reads movies: pip install 'pyro-seq[video]'") from error
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} must hold a video. It has none. Remove the file.")
            yield container, container.streams.video[0]
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}. Replace the file, or remove it.") from error
