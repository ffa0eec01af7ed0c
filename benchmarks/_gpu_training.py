"""Whole trainings on a device: the main example to its end, and SRVP at the paper's size as far as time goes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import lightning.pytorch as lightning
import torch

import pyro_seq as ps
from benchmarks._gpu_cases import ode2vae_digits, rotating_digits, srvp_paper
from benchmarks._gpu_rows import Rows, synchronise
from pyro_seq import datasets, metrics

NUM_SEEN, NUM_PREDICTED = 5, 20
METRICS = {
    "psnr": ps.VideoMetric(partial(metrics.psnr, cap=40.0), is_larger_better=True),
    "ssim": ps.VideoMetric(metrics.ssim, is_larger_better=True),
}
ENDING = 10.0  # seconds that the last score may take
ENDLESS = 10**8  # steps, as many as a fit may have


def digits(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """The main example, seed 0: training seconds, and errors beside those that one CPU core reached."""
    num_steps = 20 if is_quick else 4000
    fitted: list[ps.GuidePosterior] = []

    def train() -> dict[str, Any]:
        torch.manual_seed(0)
        model, data, method = ode2vae_digits(num_steps, num_train=64 if is_quick else 1400)
        trainer = _trainer(device, max_seconds=max(1.0, rows.seconds_left - 15))
        begin = time.perf_counter()
        posterior = ps.fit(model.to(device), data.to(device), method, trainer=trainer)
        synchronise(device)
        fitted.append(posterior)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "steps": posterior.history["step"][-1], "ended": posterior.status}

    rows.run(f"{num_steps} steps", train, seconds=rows.seconds_left)
    test = rotating_digits(num_train=2).test
    test = ps.Sequences(torch.cat([test.values, test.values], 1)).to(device)  # a second turn, never trained on
    test = test[:8] if is_quick else test
    for length, reached in ((16, 0.0073), (32, 0.0092)):
        name = f"forecast of {length - NUM_SEEN} after {NUM_SEEN}"
        rows.run(name, lambda n=length, cpu=reached: {"mse on a CPU": cpu, **_forecast_error(fitted[0], test.first(n))})


def _forecast_error(posterior: ps.GuidePosterior, test: ps.Sequences) -> dict[str, float]:
    begin = time.perf_counter()
    means = ps.evaluate(posterior, test, ps.Forecasting(NUM_SEEN), num_samples=100, chunk_size=10).means()
    return {"seconds": time.perf_counter() - begin, **means}


def _trainer(device: torch.device, **options: Any) -> ps.Trainer:
    accelerator = "gpu" if device.type == "cuda" else "cpu"
    return ps.Trainer(progress=False, accelerator=accelerator, checkpoint_every=None, log_every=20, **options)


# ---------------------------------------------------------------------- SRVP


def video(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """SRVP on two moving digits of 64 x 64 pixels in bfloat16 until the time is up, scored at times that double."""
    batch_size, num_test, num_samples = (2, 2, 2) if is_quick else (128, 48, 10)
    splits: list[datasets.SourceSplits] = []

    def load() -> dict[str, Any]:
        splits.append(moving_digits())
        begin = time.perf_counter()
        splits[0].train[:128]
        name = "MNIST" if _has_mnist() else "scikit-learn's digits"
        return {"digits": name, "seconds for 128 clips in one thread": time.perf_counter() - begin}

    rows.run("data", load)
    test = splits[0].test[:num_test]
    test = test.first(NUM_SEEN + NUM_PREDICTED).to(device)
    rows.run("trivial predictors", lambda: _baselines(splits[0].train[:256].to(device), test))
    fitted: list[ps.GuidePosterior] = []
    scorer = Scorer(rows, test, device, num_samples)
    for size in (batch_size, batch_size // 2, batch_size // 4):  # what fits
        until = rows.until - ENDING
        train = partial(_trained, fitted, scorer, splits[0].train, size, device, until)
        row = rows.run(f"training, minibatches of {size}", train, seconds=rows.seconds_left)
        if "OutOfMemory" not in str(row.get("error")):
            break
        torch.cuda.empty_cache()
    rows.run("after training", lambda: scorer.scores(fitted[0]))


def moving_digits() -> datasets.SourceSplits:
    """Two digits, of MNIST where its files are, else those that scikit-learn brings."""
    if _has_mnist():
        return datasets.moving_digits(source=datasets.MNIST(), test_source=datasets.MNIST(is_train=False))
    return datasets.moving_digits(source=datasets.BundledDigits(28))


def _has_mnist() -> bool:
    return os.path.isdir(os.path.join(os.environ.get("PYRO_SEQ_DATA", "missing"), "mnist"))


def _trained(
    fitted: list[ps.GuidePosterior],
    scorer: Scorer,
    source: ps.SequenceSource,
    batch_size: int,
    device: torch.device,
    until: float,
) -> dict[str, Any]:
    """Train until then; the posterior is left in the list."""
    torch.manual_seed(0)
    model, _, method = srvp_paper(ENDLESS, batch_size=batch_size)
    seconds = max(1.0, until - time.time())
    trainer = _trainer(device, precision="bf16-mixed", callbacks=[scorer], max_seconds=seconds, num_workers=8)
    fitted.append(ps.fit(model.to(device), source, method, trainer=trainer))
    seconds = time.perf_counter() - scorer.begin - scorer.seconds
    figures = {"training seconds": seconds, "steps": scorer.num_steps, "loss": fitted[0].history["loss"][-1]}
    if device.type == "cuda":
        figures["peak MiB"] = torch.cuda.max_memory_allocated(device) / 2**20
    return figures | {"steps a second": scorer.num_steps / seconds}


class Scorer(lightning.Callback):
    """Scores a model while it trains, whenever the time of training has doubled; the clock stands still meanwhile.

    Args:
        rows: Where scores go.
        test: Whole videos.
        device: Of the model.
        num_samples: Predictions of which the best counts.
    """

    def __init__(self, rows: Rows, test: ps.Sequences, device: torch.device, num_samples: int) -> None:
        self.rows, self.test, self.device, self.num_samples = rows, test, device, num_samples
        self.next, self.seconds = 10.0, 0.0
        self.begin, self.num_steps = 0.0, 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Score if it is time."""
        self.num_steps = batch_idx + 1
        trained = time.perf_counter() - self.begin - self.seconds
        if trained < self.next:
            return
        self.next *= 2
        begin = time.perf_counter()
        posterior = ps.GuidePosterior(module.model)
        name = f"after {trained:.0f} s, {batch_idx + 1} steps"
        self.rows.run(name, lambda: {"training seconds": trained, "steps": batch_idx + 1, **self.scores(posterior)})
        self.seconds += time.perf_counter() - begin

    def scores(self, posterior: ps.GuidePosterior) -> dict[str, float]:
        """Best of the samples, and their mean."""
        scored = ps.evaluate_video(
            posterior, self.test, ps.Forecasting(NUM_SEEN), metrics=METRICS, num_samples=self.num_samples
        )
        return _means(scored.metrics, self.num_samples)


def _baselines(train: ps.Sequences, test: ps.Sequences) -> dict[str, Any]:
    scores = ps.evaluate_video_baselines(train, test, ps.Forecasting(NUM_SEEN), metrics=METRICS)
    return {scored.name: _means(scored.metrics, 1) for scored in scores}


def _means(scored: Mapping[str, Any], num_samples: int) -> dict[str, float]:
    figures = {}
    for name, of_samples in scored.items():
        figures[f"{name}, best of {num_samples}"] = float(of_samples.best.mean())
        if num_samples > 1:
            figures[f"{name}, mean"] = float(of_samples.mean.mean())
    return figures
