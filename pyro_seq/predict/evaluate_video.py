"""``evaluate_video``: scores of the best of many predicted videos, as in the literature on video prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_seq._arguments import seed_number, whole_number
from pyro_seq._process import one_at_a_time
from pyro_seq._random import mixed_seed
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError
from pyro_seq.metrics import BestOf, FrechetScore, SampleScores, frechet_distance, psnr, ssim
from pyro_seq.posterior import Posterior
from pyro_seq.predict.evaluate import Task, baselines

_NO_WEIGHTS = "skipped: no weights"
_TOO_FEW = "skipped: fewer than two videos"


class VideoMetric(NamedTuple):
    """A score of single frames.

    Attributes:
        score: Called as ``score(prediction, truth, mask=..., keep=(0, 1))``, like those in `pyro_seq.metrics`.
        is_larger_better: False for errors and distances.
    """

    score: Callable[..., Tensor]
    is_larger_better: bool


PSNR = VideoMetric(psnr, is_larger_better=True)
SSIM = VideoMetric(ssim, is_larger_better=True)
VIDEO_METRICS: Mapping[str, VideoMetric] = {"psnr": PSNR, "ssim": SSIM}


class VideoScores(NamedTuple):
    """Scores of predicted videos.

    Attributes:
        name: Name of the predictor.
        metrics: For each metric the scores of the best, the worst and all samples of each series.
        frechet: Fréchet distance of one sample per series, or why there is none.
    """

    name: str
    metrics: dict[str, SampleScores]
    frechet: FrechetScore

    def means(self) -> dict[str, tuple[float, float]]:
        """For each metric the mean over series of the best sample, and half its 95 % interval."""
        intervals = {name: scores.interval() for name, scores in self.metrics.items()}
        return {name: (float(mean), float(half_width)) for name, (mean, half_width) in intervals.items()}


@one_at_a_time
def evaluate_video(
    posterior: Posterior,
    data: Sequences | SequenceSource,
    task: Task,
    *,
    metrics: Mapping[str, VideoMetric] = VIDEO_METRICS,
    features: Callable[[Tensor], Tensor] | None = None,
    num_samples: int = 100,
    chunk_size: int = 10,
    batch_size: int = 16,
    seed: int = 0,
) -> VideoScores:
    r"""Score predicted videos: the best, the worst and the mean of n samples, for each metric separately.

    Scored is the mean of the emission given each draw of the latents, clipped to [0, 1]: the picture without
    observation noise. Only predicted frames are scored. Each metric is computed per frame; the sample with the best
    mean over time is the best of its series.

    Memory: `chunk_size` samples of `batch_size` series at a time, independent of `num_samples` and the number of
    series, so `data` may also be a source on disk. Each chunk processes the seen frames again, which is cheap
    compared with decoding the predicted ones.

    Args:
        posterior: The posterior returned by `fit`.
        data: The complete data, images (series, time, channel, height, width) in [0, 1].
        task: Defines the shown and the predicted steps, such as `Forecasting(5)`.
        metrics: Scores by name; PSNR and SSIM by default. For LPIPS bring a network: ``{"lpips": VideoMetric(
            functools.partial(pyro_seq.metrics.lpips, features=network), is_larger_better=False)}``.
        features: Features (video, entry) of videos (video, time, channel, height, width), such as
            `pyro_seq.metrics.I3D`, for the Fréchet distance between the true videos and the first sample of each, with
            the seen frames in front; without features the distance is skipped, with a note in the result.
        num_samples: Number n of samples.
        chunk_size: Samples at a time.
        batch_size: Series at a time.
        seed: Seed of the draws; they depend on `chunk_size` and `batch_size` too.

    Returns:
        Scores of each series at each predicted step.

    Raises:
        DataError: When the task leaves nothing to score, or `data` is endless.
        ShapeError: When `data` are not images.

    Example:
        >>> scores = evaluate_video(posterior, test, Forecasting(5))  # doctest: +SKIP
        >>> scores.means()["psnr"], scores.metrics["psnr"].curve().mean  # doctest: +SKIP
    """
    num_samples, chunk_size = whole_number(num_samples, "num_samples", 1), whole_number(chunk_size, "chunk_size", 1)
    seed = seed_number(seed)
    name = type(posterior.model).__name__

    def predicted(part: Sequences, number: int) -> Iterator[Tensor]:
        given = task.given(part)
        for start in range(0, num_samples, chunk_size):
            size = min(chunk_size, num_samples - start)
            chunk_seed = mixed_seed(seed, number, start) >> 2  # seeds that verbs derive from it must stay below 64 bits
            yield task.predict(posterior, given, num_samples=size, chunk_size=size, seed=chunk_seed).emission_means

    return _evaluated(name, predicted, data, task, metrics, features, batch_size)


def evaluate_video_baselines(
    train: Sequences,
    data: Sequences | SequenceSource,
    task: Task,
    *,
    metrics: Mapping[str, VideoMetric] = VIDEO_METRICS,
    features: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 16,
) -> list[VideoScores]:
    """Score predicted videos that need no model: the training mean, the last seen frame, the nearest training series.

    Args:
        train: Training data in memory; for a source pass a part, such as ``train[:500]``.
        data: The complete data.
        task: As for `evaluate_video`.
        metrics: As for `evaluate_video`.
        features: As for `evaluate_video`.
        batch_size: Series at a time.

    Returns:
        Scores of each baseline, with one sample each; the nearest series is included only if the training series are as
        long as those of `data`.
    """
    first = data[:1]
    scores = []
    for name in baselines(train, first, task):

        def predicted(part: Sequences, number: int, name: str = name) -> Iterator[Tensor]:
            yield baselines(train, part, task)[name][None]

        scores.append(_evaluated(name, predicted, data, task, metrics, features, batch_size))
    return scores


def _evaluated(
    name: str,
    predicted: Callable[[Sequences, int], Iterator[Tensor]],
    data: Sequences | SequenceSource,
    task: Task,
    metrics: Mapping[str, VideoMetric],
    features: Callable[[Tensor], Tensor] | None,
    batch_size: int,
) -> VideoScores:
    batch_size = whole_number(batch_size, "batch_size", 1)
    if isinstance(data, SequenceSource) and data.is_endless:
        raise DataError(f"`data` must end somewhere. Got {data!r}. Pass a part of it, such as `data[:256]`.")
    collected: dict[str, list[SampleScores]] = {metric: [] for metric in metrics}
    described: list[tuple[Tensor, Tensor]] = []
    for number, start in enumerate(range(0, data.num_series, batch_size)):
        part = data[start : start + batch_size]
        mask = task.scored(part)
        if not bool(mask.any()):
            raise DataError(
                f"`task` leaves nothing to score in `data`: {task} in {part!r}. Choose a task that hides or forecasts "
                "something that was observed."
            )
        truth = part.seen().values[:, -mask.shape[1] :]
        best_of = {metric: BestOf(is_larger_better=metrics[metric].is_larger_better) for metric in metrics}
        for chunk, means in enumerate(predicted(part, number)):
            frames = means.clamp(0, 1).to(truth)
            for metric, collector in best_of.items():
                collector.add(metrics[metric].score(frames, truth, mask=mask, keep=(0, 1)))
            if chunk == 0 and features is not None:
                seen = part.seen().values[:, : part.num_steps - mask.shape[1]]
                described.append((features(part.seen().values), features(torch.cat([seen, frames[0]], 1))))
        for metric, collector in best_of.items():
            collected[metric].append(collector.result())
    joined = {metric: _joined(parts) for metric, parts in collected.items()}
    return VideoScores(name, joined, _frechet(described, features, data))


def _joined(parts: list[SampleScores]) -> SampleScores:
    """The scores of all parts, one after the other."""
    best, worst, mean, best_sample, worst_sample, _ = zip(*parts, strict=True)
    scores = torch.cat(best), torch.cat(worst), torch.cat(mean)
    return SampleScores(*scores, torch.cat(best_sample), torch.cat(worst_sample), parts[0].num_samples)


def _frechet(
    described: list[tuple[Tensor, Tensor]],
    features: Callable[[Tensor], Tensor] | None,
    data: Sequences | SequenceSource,
) -> FrechetScore:
    counts = (data.num_series, data.num_steps)
    if features is None or data.num_series < 2:
        return FrechetScore(float("nan"), _NO_WEIGHTS if features is None else _TOO_FEW, *counts)
    real, generated = (torch.cat(each) for each in zip(*described, strict=True))
    note = str(getattr(features, "name", getattr(features, "__name__", type(features).__name__)))
    return FrechetScore(float(frechet_distance(real, generated)), note, *counts)
