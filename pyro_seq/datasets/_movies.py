"""Movies such as MP4 files, through the extra `video`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyro_seq.datasets._video_clock import even_frames
from pyro_seq.errors import DataError, ShapeError, UnsupportedError

MOVIES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


@dataclass(frozen=True)
class Movie:
    """A movie file; its frames are found by the time stamps of pictures."""

    path: Path
    name: str
    stamps: tuple[int, ...]
    frame_size: tuple[int, int]

    @classmethod
    def open(cls, path: Path, name: str) -> Movie:
        """Read the time stamps of all pictures, and decode the first one, which has the camera orientation."""
        with _opened(path) as (container, stream):
            stamps = sorted(stamp for packet in container.demux(stream) if (stamp := _stamp(packet)) is not None)
            size = (stream.codec_context.height, stream.codec_context.width)
            container.seek(0)
            first = next(container.decode(stream), None)
        if first is not None and _quarter_turns(first) % 2:
            size = size[::-1]
        if not stamps:
            raise DataError(f"{path} holds no frames. Replace the file, or remove it.")
        shown = even_frames([*np.diff(stamps), 0])
        return cls(path, name, tuple(stamps[number] for number in shown), size)

    @property
    def num_frames(self) -> int:
        """Number of frames at even times."""
        return len(self.stamps)

    def read(self, steps: Sequence[int]) -> list[np.ndarray]:
        """Decode from the last key frame before the first of `steps`."""
        wanted = {self.stamps[step] for step in steps}
        frames: dict[int, np.ndarray] = {}
        with _opened(self.path) as (container, stream):
            container.seek(self.stamps[steps[0]], stream=stream, backward=True)
            for frame in container.decode(stream):
                if (stamp := _stamp(frame)) in wanted:
                    assert stamp is not None
                    frames[stamp] = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                if len(frames) == len(wanted):
                    break
        if len(frames) < len(wanted):
            raise DataError(f"{self.path} ends before frame {max(steps)}. Replace the file, or remove it.")
        if any(frame.shape[:2] != self.frame_size for frame in frames.values()):
            raise ShapeError(f"All frames of a video must have one size. {self.path} changes it. Convert the file.")
        return [frames[self.stamps[step]] for step in steps]


def _stamp(timed: Any) -> int | None:
    """Display time of a packet or frame; some containers give only the decoding time."""
    return timed.dts if timed.pts is None else timed.pts


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns that bring a picture upright."""
    return round(getattr(frame, "rotation", 0) / 90)


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
