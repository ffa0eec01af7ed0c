"""``VideoFolder``: clips of videos on disk, read on request."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.datasets._video_files import find_videos
from pyro_seq.errors import DataError, ShapeError

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue, as in ITU-R BT.601
_WHITE = np.float32(255)


class VideoFolder(SequenceSource):
    r"""Clips of your own videos: a source that is streamed from disk and never held in memory as a whole.

    All of these at or below `path` are read:

    * a folder of images is a video with one frame per image, in natural order of names (frame 2 before frame 10);
    * ``.gif`` files; a picture that is shown longer than others gives several equal frames;
    * ``.npy`` and uncompressed ``.npz`` files, which are memory-mapped: one video (time, height, width) or (time,
      height, width, channel), or many (video, time, height, width, channel), of 8-bit numbers or floats from 0 to 1;
    * ``.mp4``, ``.mov``, ``.avi``, ``.mkv`` and ``.webm`` files, with the extra `video`.

    A series is a clip of `num_steps` frames, with its video's number and first frame in the context. Clips begin every
    `stride` frames; with ``stride=1`` a shuffle draws uniformly from all clips there are.

    Pictures are rotated upright according to their metadata, and transparent parts are black. Movies with uneven frame
    durations are read like GIF files.

    The headers of all files are read once, about 0.1 ms per image. Frames are decoded when a clip is read; `check`
    decodes all of them.

    Args:
        path: A folder, or a single file.
        num_steps: Frames of a clip.
        stride: Frames from the start of a clip to that of the next one in the same video; clips do not overlap by
            default.
        frame_step: Take every n-th frame of the video.
        size: Height and width, or one number for both, to which frames are resized by area-weighted linear
            interpolation, without keeping the aspect ratio. By default frames are not resized.
        is_colour: True for three channels, with grey frames repeated; False for one, with colours converted to grey by
            luminance.
        skip_short: Skip videos that are shorter than a clip instead of raising an error.

    Attributes:
        names: Names of the videos: their paths relative to `path`.
        clips: Number of the video and first frame of each series, (series, 2).

    Raises:
        DataError: When there are no videos, a file cannot be read, or a video is shorter than a clip.
        ShapeError: When frames differ in size inside a video, or, without `size`, between videos.

    Example:
        >>> clips = VideoFolder("holidays", num_steps=15, stride=5, size=64)  # doctest: +SKIP
        >>> posterior = fit(model, clips, SVI(num_steps=100_000, batch_size=16))  # doctest: +SKIP
    """

    def __init__(
        self,
        path: Path | str,
        *,
        num_steps: int,
        stride: int | None = None,
        frame_step: int = 1,
        size: int | tuple[int, int] | None = None,
        is_colour: bool = False,
        skip_short: bool = False,
    ) -> None:
        self._frame_step, self._skip_short = whole_number(frame_step, "frame_step", 1), skip_short
        self._videos = find_videos(Path(path).expanduser())
        self._size = self._frame_size(size)
        self.is_colour = bool(is_colour)
        self._cut(num_steps, stride)

    def _cut(self, num_steps: int, stride: int | None) -> None:
        self._steps = self._frame_step * np.arange(whole_number(num_steps, "num_steps", 1))
        span = int(self._steps[-1]) + 1
        stride = self._frame_step * num_steps if stride is None else whole_number(stride, "stride", 1)
        short = [video for video in self._videos if video.num_frames < span]
        if short and (not self._skip_short or len(short) == len(self._videos)):
            raise DataError(
                f"A clip of `num_steps` = {num_steps} takes {span} frames. {len(short)} of {len(self._videos)} videos "
                f"are shorter, the first {short[0].name!r} with {short[0].num_frames}. Lower `num_steps`, or pass "
                "`skip_short=True`."
            )
        starts = (range(0, video.num_frames - span + 1, stride) for video in self._videos)
        self._choose((video, start) for video, first in enumerate(starts) for start in first)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self._videos)

    @property
    def num_steps(self) -> int:
        """Frames of a clip."""
        return len(self._steps)

    @property
    def obs_shape(self) -> tuple[int, ...]:
        """Shape of a frame."""
        return (3 if self.is_colour else 1, *self._size)

    def load(self, index: Tensor) -> Sequences:
        """Read the clips numbered `index`."""
        clips = self.clips[index.numpy()]
        values = np.empty((len(clips), self.num_steps, *self.obs_shape), dtype=np.float32)
        for clip, (video, start) in enumerate(clips.tolist()):
            frames = self._videos[video].read((start + self._steps).tolist())
            for step, frame in enumerate(frames):
                values[clip, step] = self._prepared(frame)
        numbers = torch.from_numpy(clips)
        return Sequences(torch.from_numpy(values), context={"video": numbers[:, 0], "start": numbers[:, 1]})

    # ------------------------------------------------------------------ other choices of clips

    def subset(self, wanted: Callable[[str], bool]) -> VideoFolder:
        """The clips of videos for whose name `wanted` is true."""
        chosen = np.array([bool(wanted(name)) for name in self.names])
        return self._with(self.clips[chosen[self.clips[:, 0]]])

    def recut(self, *, num_steps: int, stride: int | None = None) -> VideoFolder:
        """Clips of another length from the same videos; their files are not scanned again."""
        other = self._copy()
        other._cut(num_steps, stride)
        return other

    def beginnings(self, num_clips: int | None = None) -> VideoFolder:
        """One clip per video, from its first frame on; only of the first `num_clips` videos, if given."""
        return self._with(self.clips[self.clips[:, 1] == 0][:num_clips])

    def draw(self, num_clips: int, *, seed: int) -> VideoFolder:
        """Random clips: draw a video uniformly, then one of its clips uniformly, with replacement."""
        rng = np.random.default_rng(seed_number(seed))
        videos, first, counts = np.unique(self.clips[:, 0], return_index=True, return_counts=True)
        chosen = rng.integers(len(videos), size=whole_number(num_clips, "num_clips", 1))
        return self._with(self.clips[first[chosen] + rng.integers(counts[chosen])])

    def check(self) -> None:
        """Read every clip once, as slow as one training epoch, and raise an error for any bad file."""
        for number in range(self.num_series):
            self.load(torch.tensor([number]))

    def _with(self, clips: np.ndarray) -> VideoFolder:
        other = self._copy()
        other._choose(clips)
        return other

    def _copy(self) -> VideoFolder:
        other = copy.copy(self)
        other.__dict__.pop("_first", None)
        return other

    def _choose(self, clips: Iterable) -> None:
        self.clips = np.array(list(clips), dtype=np.int64).reshape(-1, 2)
        self.num_series = len(self.clips)
        if not self.num_series:
            raise DataError(f"There must be at least one clip. None of {len(self._videos)} videos was chosen.")

    # ------------------------------------------------------------------ frames

    def _frame_size(self, size: int | tuple[int, int] | None) -> tuple[int, int]:
        if size is not None:
            height, width = (size, size) if isinstance(size, int) else size
            return whole_number(height, "size", 1), whole_number(width, "size", 1)
        first = self._videos[0]
        for video in self._videos:
            if video.frame_size != first.frame_size:
                raise ShapeError(
                    f"All videos must have frames of one size, or be brought to one by `size`. {video.name!r} has "
                    f"{video.frame_size}, {first.name!r} has {first.frame_size}."
                )
        return first.frame_size

    def _prepared(self, frame: np.ndarray) -> np.ndarray:
        """A frame (height, width, channel) as (channel, height, width) in [0, 1], in the wanted size and colours."""
        scaled = frame.astype(np.float32) / _WHITE if frame.dtype == np.uint8 else frame.astype(np.float32)
        if not self.is_colour and scaled.shape[-1] == 3:
            scaled = (scaled @ _LUMA)[..., None]
        channels = [scaled[..., channel] for channel in range(scaled.shape[-1])]
        if scaled.shape[:2] != self._size:
            wanted = (self._size[1], self._size[0])
            resized = (Image.fromarray(channel).resize(wanted, Image.Resampling.BILINEAR) for channel in channels)
            channels = [np.asarray(image) for image in resized]
        return np.stack(channels * (3 if self.is_colour and len(channels) == 1 else 1))
