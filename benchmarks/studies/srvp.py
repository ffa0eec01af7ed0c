"""Train SRVP on moving digits, predict what comes next, score it beside what needs no model, draw pictures.

python -m benchmarks.studies.srvp                        digits that bounce off at random; SRVP, and without noise
python -m benchmarks.studies.srvp --deterministic --models residual mlp gru no-noise     the ablation of the paper
python -m benchmarks.studies.srvp --resume               go on with a run that was stopped

The digits come with scikit-learn; nothing is downloaded.
"""

# %% Set-up
from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import torch

import pyro_seq as ps
from pyro_seq import datasets, diagnostics, metrics
from pyro_seq.training import schedules

NAMES = {"residual": "SRVP", "mlp": "MLP transition", "gru": "GRU transition", "no-noise": "SRVP without noise"}
NUM_SEEN, NUM_TRAINED = 5, 15  # frames
# a frame that is met exactly has no finite ratio; 40 dB is an error of 2.5 grey levels in 255, far above any model here
METRICS = {
    "psnr": ps.VideoMetric(partial(metrics.psnr, cap=40.0), is_larger_better=True),
    "ssim": ps.VideoMetric(metrics.ssim, is_larger_better=True),
}
STATE_DIM, NOISE_DIM, CONTENT_DIM, HIDDEN_DIM = 16, 8, 64, 128
ARCHITECTURES = {
    "dcgan": ps.DCGAN(channels=(16, 32, 64), code_dim=64),
    "vgg": ps.VGG(stages=((16, 16), (32, 32), (64, 64)), code_dim=64),
}


# %% Data
def digits(options: argparse.Namespace, num_steps: int, time_step: float = 1.0) -> datasets.SourceSplits:
    """Moving digits, the test and validation videos of them with `num_steps` frames; those of training never end."""
    return datasets.moving_digits(
        source=datasets.BundledDigits(options.digit_size),
        num_digits=options.num_digits,
        is_stochastic=not options.deterministic,
        num_steps=num_steps,
        num_test_steps=num_steps,
        num_validation=options.num_test,
        num_test=options.num_test,
        size=options.size,
        time_step=time_step,
        seed=options.seed,
    )


def horizons(options: argparse.Namespace) -> tuple[int, ...]:
    """Predicted frames over which scores are averaged; the last one is predicted."""
    return (20, 95) if options.deterministic else (20,)


def shown(options: argparse.Namespace) -> ps.Sequences:
    """The videos that are scored; of the validation digits while choices are made."""
    splits = digits(options, NUM_SEEN + horizons(options)[-1])
    return (splits.validation if options.validation else splits.test)[:]


# %% Models
def make(kind: str, options: argparse.Namespace) -> ps.SRVP:
    """SRVP, or one of its ablations: another transition, or none of the noise."""
    sizes = (STATE_DIM, 0 if kind == "no-noise" else NOISE_DIM)
    widths = (HIDDEN_DIM,) * 3
    if kind == "gru":
        transition = ps.GRUTransition(*sizes)
    elif kind == "mlp":
        transition = ps.MLPTransition(*sizes, widths)
    else:
        transition = ps.ResidualTransition(*sizes, widths, gain=1.0)
    return ps.SRVP(
        (1, options.size, options.size),
        STATE_DIM,
        content_dim=CONTENT_DIM,
        num_frames=NUM_SEEN,
        hidden_dim=HIDDEN_DIM,
        emission=ps.PixelEmission(scale=0.5 if options.deterministic else 0.15),
        architecture=ARCHITECTURES[options.architecture],
        transition=transition,
    )


# %% Fit
def train(kind: str, out: Path, options: argparse.Namespace) -> ps.GuidePosterior:
    """One fit with Adam, the learning rate constant and then linear to zero, as in the paper."""
    torch.manual_seed(options.seed)
    model = make(kind, options)
    num_steps = 6 if options.smoke else options.steps
    flat = num_steps // 2
    method = ps.SVI(
        num_steps=num_steps,
        batch_size=16,
        learning_rate=2e-3,
        schedule=schedules.FlatThenLinear(flat, num_steps - flat),
        clip_norm=10_000.0,
        scales={"residual": 1.0} if model.transition.is_residual else {},
    )
    trainer = ps.Trainer(
        directory=out / kind,
        resume=options.resume,
        progress=not options.quiet,
        log_every=20,
        precision=options.precision,
    )
    posterior = ps.fit(model, digits(options, NUM_TRAINED).train, method, seed=options.seed, trainer=trainer)
    if posterior.status == "interrupted":
        raise SystemExit(f"Interrupted. Go on with --resume; what there is was saved in {out}.")
    return posterior


def train_all(out: Path, options: argparse.Namespace) -> tuple[dict[str, ps.GuidePosterior], dict[str, dict]]:
    """Every model that was asked for, and how long it took."""
    posteriors, costs = {}, {}
    for kind in options.models:
        start = time.perf_counter(), time.process_time()
        posteriors[kind] = train(kind, out, options)
        wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        count = sum(parameter.numel() for parameter in posteriors[kind].model.parameters())
        cost = {"seconds": round(wall), "processor_seconds": round(processor), "parameters": count}
        kept = out / f"{kind}_cost.json"
        if kept.exists():  # trained by an earlier call
            cost = json.loads(kept.read_text())
        kept.write_text(json.dumps(cost))
        costs[NAMES[kind]] = cost
        print(
            f"{NAMES[kind]}: {count} parameters, {cost['seconds']} s, of which {cost['processor_seconds']} s computing"
        )
        ps.save(posteriors[kind], out / f"{kind}.pt")
    return posteriors, costs


# %% Check: the best of n predictions, beside predictors that need no model
def scores(posteriors: dict[str, ps.GuidePosterior], options: argparse.Namespace) -> list[ps.VideoScores]:
    """Of each model, and of the trivial predictors."""
    truth, task = shown(options), ps.Forecasting(NUM_SEEN)
    table = []
    for kind, posterior in posteriors.items():
        scored = ps.evaluate_video(posterior, truth, task, metrics=METRICS, num_samples=options.samples)
        table.append(scored._replace(name=NAMES[kind]))
    reference = digits(options, truth.num_steps).train[: options.num_test]
    return table + ps.evaluate_video_baselines(reference, truth, task, metrics=METRICS)


def repeated(truth: ps.Sequences) -> float:
    """Share of the predicted frames that are exactly the last seen one, where a digit stands still or comes back."""
    seen, later = truth.values[:, NUM_SEEN - 1 : NUM_SEEN], truth.values[:, NUM_SEEN:]
    return float((later == seen).flatten(2).all(-1).float().mean())


def summary(scored: ps.VideoScores, options: argparse.Namespace) -> dict:
    """Means with half of their 95 % intervals, for each metric and horizon, and the curves over time."""
    record: dict = {}
    for name, of_samples in scored.metrics.items():
        record[name] = {"by_step": [[round(value, 4) for value in part.tolist()] for part in of_samples.curve("best")]}
        for which in ("best", "mean", "worst"):
            by_step = getattr(of_samples, which)
            record[name][which] = {horizon: interval(by_step[:, :horizon].mean(1)) for horizon in horizons(options)}
    return record


def interval(values: torch.Tensor) -> list[float]:
    """Mean over series and half its 95 % interval."""
    return [float(part) for part in metrics.mean_interval(values)]


def print_table(table: dict[str, dict], options: argparse.Namespace) -> None:
    """Scores of the best sample, and the mean over all of them."""
    for horizon in horizons(options):
        print(f"\n{horizon} frames after {NUM_SEEN}, best of {options.samples} by each metric, with 95 % intervals")
        print(f"{'':26}{'PSNR':>16}{'(mean)':>10}{'SSIM':>18}{'(mean)':>10}")
        for name, record in table.items():
            cells = ""
            for metric, digits_shown, width in (("psnr", 2, 9), ("ssim", 4, 10)):
                best, half = record[metric]["best"][horizon]
                mean = record[metric]["mean"][horizon][0]
                cells += f"{best:{width}.{digits_shown}f} +-{half:.{digits_shown}f}  ({mean:.{digits_shown}f})"
            print(f"{name:26}{cells}")


def frame_rates(posterior: ps.GuidePosterior, options: argparse.Namespace) -> dict[str, list[float]]:
    """PSNR at twice the frame rate of training, of frames on the old grid and of those between, which were never seen.

    A path does not depend on the frame rate, so that the truth between the frames is known.
    """
    num_steps, num_videos = 20, min(options.num_test, 48)
    splits = digits(options, 2 * (NUM_SEEN + num_steps) - 1, time_step=0.5)
    finer = (splits.validation if options.validation else splits.test)[:num_videos]
    given, truth = shown(options)[:num_videos].first(NUM_SEEN), finer.values[:, 2 * NUM_SEEN - 1 :]
    best = {}
    for factor in (1, 2):
        posterior.model.forecast_substeps = factor
        times = NUM_SEEN - 1 + torch.arange(1, factor * num_steps + 1) / factor
        collector = metrics.BestOf(is_larger_better=True)
        frames = ps.forecast(posterior, given, times=times, num_samples=min(options.samples, 20)).emission_means.clamp(
            0, 1
        )
        collector.add(metrics.psnr(frames, truth[:, 1::2] if factor == 1 else truth, keep=(0, 1)))
        best[factor] = collector.result().best
    posterior.model.forecast_substeps = None
    parts = {"trained rate": best[1], "doubled, on the grid": best[2][:, 1::2], "doubled, between": best[2][:, ::2]}
    return {name: interval(values.mean(1)) for name, values in parts.items()}


# %% Plot
def one_draw(posterior: ps.Posterior, given: ps.Sequences, steps: int = 20, rate: int = 1) -> torch.Tensor:
    """The seen frames as the model sees them, then one future at so many frames for one; (series, time, *obs)."""
    posterior.model.forecast_substeps = rate
    times = NUM_SEEN - 1 + torch.arange(1, rate * steps + 1) / rate
    future = ps.forecast(posterior, given, times=times, num_samples=1).emission_means[0]
    posterior.model.forecast_substeps = None
    return torch.cat([ps.reconstruct(posterior, given, num_samples=1).emission_means[0], future], 1).clamp(0, 1)


def draw_samples(posteriors: dict[str, ps.GuidePosterior], truth: ps.Sequences, samples: int, out: Path) -> None:
    """Truth, the best, the worst and random samples of a few videos, and what the model without noise predicts."""
    few = truth[:3]
    given = few.first(NUM_SEEN)
    later = few.take_steps(torch.arange(NUM_SEEN, NUM_SEEN + 20))
    kind = next(iter(posteriors))
    prediction = ps.forecast(posteriors[kind], given, horizon=20, num_samples=samples)
    for series in range(len(few)):
        rows = diagnostics.sample_rows(prediction, later, series=series)
        if "no-noise" in posteriors and kind != "no-noise":
            rows["no noise"] = ps.forecast(posteriors["no-noise"], given, horizon=20, num_samples=1).emission_means[
                0, series
            ]
        seen = {name: given.values[series] for name in rows}
        strip = {name: torch.cat([seen[name], rows[name]]).clamp(0, 1) for name in rows}
        diagnostics.plot_sequences(strip, num_observed=NUM_SEEN).savefig(out / f"samples_{series}.png", dpi=130)
        if series == 0:
            diagnostics.save_gif(out / "samples.gif", strip)


def draw_frame_rates(posterior: ps.GuidePosterior, truth: ps.Sequences, out: Path) -> None:
    """One future at the frame rate of training, and at twice and four times it."""
    given = truth[:1].first(NUM_SEEN)
    strips = {f"{rate} x": one_draw(posterior, given, 16 // rate, rate)[0, NUM_SEEN:] for rate in (1, 2, 4)}
    diagnostics.plot_sequences(strips).savefig(out / "frame_rate.png", dpi=130)


def draw_swap(posterior: ps.GuidePosterior, truth: ps.Sequences, out: Path) -> None:
    """The motion of one video with the content of another."""
    motion, content = truth[:1], truth[1:2]
    given = motion.first(NUM_SEEN)
    swapped = posterior.model.swap_content(given, content.first(NUM_SEEN))
    strips = {
        "motion of": motion.values[0, : NUM_SEEN + 11],
        "its forecast": one_draw(posterior, given, 11)[0],
        "content of": content.values[0, : NUM_SEEN + 11],
        "exchanged": one_draw(posterior, swapped, 11)[0],
    }
    diagnostics.plot_sequences(strips, num_observed=NUM_SEEN).savefig(out / "swap.png", dpi=130)


def draw_interpolation(posterior: ps.GuidePosterior, truth: ps.Sequences, out: Path) -> None:
    """Motions between those of two videos, with the content of the first."""
    given, other = truth[:1].first(NUM_SEEN), truth[1:2].first(NUM_SEEN)
    strips = {}
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
        between = ps.InterpolatedPosterior(posterior, other, weight)
        strips[f"{100 * weight:.0f} %"] = one_draw(between, given, 11)[0]
    diagnostics.plot_sequences(strips, num_observed=NUM_SEEN).savefig(out / "interpolation.png", dpi=130)


def draw_all(
    posteriors: dict[str, ps.GuidePosterior], table: list[ps.VideoScores], out: Path, options: argparse.Namespace
) -> None:
    """All pictures; those of one model show the first."""
    truth, first = shown(options), next(iter(posteriors.values()))
    diagnostics.plot_scores(table, first_step=NUM_SEEN).savefig(out / "scores.png", dpi=130)
    diagnostics.plot_learning_curve(first.history, smoothing=0.9).savefig(out / "learning.png", dpi=130)
    draw_samples(posteriors, truth, options.samples, out)
    draw_swap(first, truth, out)
    draw_interpolation(first, truth, out)
    if first.model.transition.is_residual:
        draw_frame_rates(first, truth, out)


# %% Run
def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    out = Path(options.out or f"results/srvp_{'deterministic' if options.deterministic else 'stochastic'}")
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise SystemExit(f"{out} holds an earlier run. Go on with it by --resume, or choose another folder by --out.")
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    posteriors, costs = train_all(out, options)
    table = scores(posteriors, options)
    record = {name: value for name, value in vars(options).items() if name not in ("out", "resume", "quiet", "smoke")}
    record |= {"horizons": horizons(options), "costs": costs, "repeated": repeated(shown(options))}
    record["scores"] = {scored.name: summary(scored, options) for scored in table}
    print_table(record["scores"], options)
    if "residual" in posteriors:
        record["frame_rates"] = frame_rates(posteriors["residual"], options)
        print("\nPSNR at the frame rate of training and at twice that rate, best of 20 by the whole video")
        for name, (mean, half) in record["frame_rates"].items():
            print(f"{name:26}{mean:9.2f} +-{half:.2f}")
    draw_all(posteriors, table, out, options)
    record["seconds"] = round(time.perf_counter() - start)
    (out / "scores.json").write_text(json.dumps(record, indent=1))
    print(f"\n{record['seconds']} s in all; written to {out}:")
    print(", ".join(sorted(path.name for path in out.iterdir() if path.is_file())))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ["residual", "no-noise"]
    parser.add_argument("--models", nargs="+", choices=NAMES, default=default, help="which to train and compare")
    parser.add_argument("--deterministic", action="store_true", help="digits that bounce like light off a mirror")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="dcgan", help="of encoder and decoder")
    parser.add_argument("--num-digits", type=int, default=1, help="digits in a video")
    parser.add_argument("--digit-size", type=int, default=14, help="height and width of a digit in pixels")
    parser.add_argument("--size", type=int, default=32, help="height and width of a frame in pixels")
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each model")
    parser.add_argument("--samples", type=int, help="predictions of which the best counts; 100, or 1 if deterministic")
    parser.add_argument("--num-test", type=int, default=128, help="test videos")
    parser.add_argument("--validation", action="store_true", help="score videos of the validation digits instead")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of the networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", help="folder for pictures and checkpoints; results/srvp_<data> when absent")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--smoke", action="store_true", help="a few steps and videos, to see that it runs")
    options = parser.parse_args()
    options.samples = options.samples or (1 if options.deterministic else 100)
    if options.smoke:
        options.samples, options.num_test = min(options.samples, 2), min(options.num_test, 4)
    return options


if __name__ == "__main__":
    main()
