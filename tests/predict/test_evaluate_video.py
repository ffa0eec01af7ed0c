"""Best-of-n scores of predicted videos: against all samples at once, in bounded memory, beside the baselines."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.errors import DataError
from pyro_seq.metrics import frechet_distance, lpips, mse, psnr, ssim
from pyro_seq.models import RecurrentVAE
from pyro_seq.posterior import GuidePosterior, Prediction
from pyro_seq.predict.evaluate import Forecasting, evaluate_baselines
from pyro_seq.predict.evaluate_video import PSNR, VIDEO_METRICS, VideoMetric, evaluate_video, evaluate_video_baselines

SEEN, STEPS, SIZE = 2, 5, 12


def videos(num_series: int = 7, seed: int = 0) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    return Sequences(torch.rand(num_series, STEPS, 1, SIZE, SIZE, generator=generator))


class Stored(SequenceSource):
    def __init__(self, data: Sequences) -> None:
        self.data, self.num_series, self.largest = data, data.num_series, 0

    def load(self, index: torch.Tensor) -> Sequences:
        self.largest = max(self.largest, len(index))
        return self.data[index]


@dataclass(frozen=True)
class Guess(Forecasting):
    """Forecasts at random, some of it out of range, and remembers what it said."""

    num_observed: int = SEEN
    said: list[torch.Tensor] = field(default_factory=list)

    def predict(self, posterior, given, *, num_samples, chunk_size, seed) -> Prediction:
        assert given.num_steps == SEEN and given.horizon == STEPS - SEEN
        generator = torch.Generator().manual_seed(seed)
        shape = (num_samples, given.num_series, given.horizon, *given.obs_shape)
        means = 1.4 * torch.rand(shape, generator=generator) - 0.2
        self.said.append(means)
        return Prediction(means + 5.0, means, {}, given.times[SEEN:])


NOBODY = SimpleNamespace(model=None)


def test_best_worst_and_mean_of_all_samples() -> None:
    data, task = videos(4), Guess()
    metrics = {**VIDEO_METRICS, "mse": VideoMetric(mse, is_larger_better=False)}
    found = evaluate_video(NOBODY, data, task, metrics=metrics, num_samples=8, chunk_size=3, batch_size=4)
    assert [len(chunk) for chunk in task.said] == [3, 3, 2]
    frames, truth = torch.cat(task.said).clamp(0, 1), data.values[:, SEEN:]
    for name, metric, sign in (("psnr", psnr, 1), ("ssim", ssim, 1), ("mse", mse, -1)):
        scores = metric(frames, truth, keep=(0, 1))
        best, worst = (sign * scores.mean(2)).argmax(0), (sign * scores.mean(2)).argmin(0)
        result = found.metrics[name]
        assert torch.equal(result.best_sample, best) and torch.equal(result.worst_sample, worst)
        torch.testing.assert_close(result.best, scores[best, torch.arange(4)])
        torch.testing.assert_close(result.mean, scores.mean(0))
        mean, half_width = found.means()[name]
        per_video = scores[best, torch.arange(4)].mean(1)
        assert mean == pytest.approx(float(per_video.mean()), rel=1e-6)
        assert half_width == pytest.approx(1.96 * float(per_video.std()) / 2, rel=1e-5)
        assert result.curve().mean.shape == (STEPS - SEEN,)
    assert not torch.equal(found.metrics["psnr"].best_sample, found.metrics["ssim"].best_sample)
    assert found.frechet.note == "skipped: no weights" and math.isnan(found.frechet.value)


def test_a_source_is_read_in_batches_and_draws_differ_between_them() -> None:
    data = videos()
    source, tasks = Stored(data), [Guess(), Guess(), Guess()]
    results = [
        evaluate_video(NOBODY, given, task, num_samples=4, chunk_size=2, batch_size=3, seed=seed)
        for given, task, seed in ((source, tasks[0], 0), (data, tasks[1], 0), (data, tasks[2], 1))
    ]
    assert source.largest == 3 and max(chunk.shape[0] * chunk.shape[1] for chunk in tasks[0].said) == 6
    assert torch.equal(results[0].metrics["psnr"].best, results[1].metrics["psnr"].best)
    assert results[0].metrics["psnr"].best.shape == (7, STEPS - SEEN)
    assert not torch.equal(results[0].metrics["psnr"].best, results[2].metrics["psnr"].best)
    said = [chunk[:, 0] for chunk in tasks[0].said]
    assert all(not torch.equal(one[0], other[0]) for i, one in enumerate(said) for other in said[:i])


def test_hidden_frames_do_not_count() -> None:
    data, task = videos(3), Guess()
    hidden = torch.zeros(3, STEPS, dtype=torch.bool)
    hidden[0, 3], hidden[1, SEEN:] = True, True
    found = evaluate_video(NOBODY, data.hide(hidden), task, num_samples=3, chunk_size=3)
    assert found.metrics["psnr"].best.isnan().tolist() == [[False, True, False], [True] * 3, [False] * 3]
    assert math.isfinite(found.means()["psnr"][0])
    with pytest.raises(DataError, match="nothing to score"):
        evaluate_video(NOBODY, data.hide(hidden)[[1]], task)


def test_perceptual_and_frechet_distances_with_a_network_of_ones_own() -> None:
    data, task = videos(6), Guess()

    def means(frames: torch.Tensor) -> torch.Tensor:
        return frames.mean((2, 3, 4))

    metrics = {"lpips": VideoMetric(partial(lpips, features=lambda images: [images]), is_larger_better=False)}
    found = evaluate_video(
        NOBODY, data, task, metrics=metrics, features=means, num_samples=4, chunk_size=2, batch_size=4
    )
    firsts = torch.cat([task.said[0][0], task.said[2][0]]).clamp(0, 1)
    generated = torch.cat([data.values[:, :SEEN], firsts], 1)
    expected = float(frechet_distance(means(data.values), means(generated)))
    assert found.frechet == (pytest.approx(expected), "means", 6, STEPS)
    assert found.metrics["lpips"].best.mean() < found.metrics["lpips"].worst.mean()
    alone = evaluate_video(NOBODY, data[:1], task, features=means, num_samples=1)
    assert alone.frechet.note == "skipped: fewer than two videos"


def test_a_model_is_scored_on_its_means() -> None:
    data = videos(3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = RecurrentVAE(obs_shape=(1, SIZE, SIZE))
    posterior = GuidePosterior(model)
    found = evaluate_video(posterior, data, Forecasting(SEEN), num_samples=4, chunk_size=2, batch_size=2)
    assert found.name == "RecurrentVAE"
    again = evaluate_video(posterior, data, Forecasting(SEEN), num_samples=4, chunk_size=2, batch_size=2)
    assert torch.equal(found.metrics["psnr"].best, again.metrics["psnr"].best)
    best, mean = (float(found.metrics["psnr"].interval(which).mean) for which in ("best", "mean"))
    assert best >= mean > 0


def test_baselines_have_the_errors_of_the_other_verb() -> None:
    train, data, task = videos(5, seed=1), videos(), Forecasting(SEEN)
    metrics = {"mse": VideoMetric(mse, is_larger_better=False), "psnr": PSNR}
    found = evaluate_video_baselines(train, data, task, metrics=metrics, batch_size=3)
    expected = evaluate_baselines(train, data, task)
    assert [scores.name for scores in found] == [scores.name for scores in expected] and len(found) == 3
    for scores, other in zip(found, expected, strict=True):
        torch.testing.assert_close(scores.metrics["mse"].best.mean(1), other.mse)
        assert scores.metrics["mse"].num_samples == 1


def test_endless_data_are_refused() -> None:
    source = Stored(videos())
    source.is_endless = True
    with pytest.raises(DataError, match="must end somewhere"):
        evaluate_video(NOBODY, source, Guess())
    with pytest.raises(DataError, match="chunk_size"):
        evaluate_video(NOBODY, videos(), Guess(), chunk_size=0)
