"""Train the Kalman VAE on a ball in a box, fill in hidden frames, score against recurrent baselines, draw pictures.

python -m benchmarks.studies.kalman_vae                   ball in a box, 5000 sequences, half an hour on one core
python -m benchmarks.studies.kalman_vae --world gravity   the same with gravity; also hexagon, pong
python -m benchmarks.studies.kalman_vae --missing 0.2     trained with a fifth of the frames missing
python -m benchmarks.studies.kalman_vae --models "Kalman VAE"   without the recurrent baselines

The data come from a physics engine: pip install 'pyro_seq[physics]'.
"""

# %% Set-up
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import pyro_seq as ps
from benchmarks.studies import _gaps as gaps
from pyro_seq import datasets, diagnostics
from pyro_seq.predict.causal import CausalCopies
from pyro_seq.training import schedules

WORLDS = {
    "box": datasets.BallWorld.box,
    "gravity": datasets.BallWorld.box_with_gravity,
    "hexagon": datasets.BallWorld.hexagon,
    "pong": datasets.BallWorld.pong,
}
MODELS = "Kalman VAE", "AE-RNN", "VAE-RNN"
CODE_DIM, STATE_DIM, CHANNELS = 2, 4, 16

# Fraction of wrong pixels in figure 3 of Fraccaro and others (2017), read off the published plots
PUBLISHED_RANDOM = {
    "Kalman VAE, smoothing": (0.0057, 0.0060, 0.0063, 0.0067, 0.0075, 0.0082, 0.0095, 0.0128, 0.0189, 0.0265),
    "Kalman VAE, filtering": (0.0079, 0.0078, 0.0083, 0.0089, 0.0102, 0.0115, 0.0124, 0.0158, 0.0214, 0.0266),
    "AE-RNN": (0.0066, 0.0069, 0.0076, 0.0079, 0.0096, 0.0112, 0.0133, 0.0172, 0.0218, 0.0272),
    "VAE-RNN": (0.0079, 0.0087, 0.0085, 0.0100, 0.0116, 0.0128, 0.0141, 0.0173, 0.0225, 0.0279),
}
PUBLISHED_CONSECUTIVE = {
    "Kalman VAE, smoothing": (0.0061, 0.0078, 0.0098, 0.0121, 0.0148, 0.0173, 0.0200, 0.0227),
    "Kalman VAE, filtering": (0.0086, 0.0115, 0.0147, 0.0175, 0.0199, 0.0221, 0.0238, 0.0257),
    "AE-RNN": (0.0086, 0.0114, 0.0145, 0.0175, 0.0200, 0.0224, 0.0243, 0.0260),
    "VAE-RNN": (0.0088, 0.0120, 0.0151, 0.0181, 0.0207, 0.0230, 0.0252, 0.0269),
}


# %% Data
def load(options: argparse.Namespace) -> tuple[ps.Sequences, ps.Sequences]:
    """Training sequences, some of their frames missing if so wished, and test sequences."""
    size = (64, 16) if options.smoke else (5000, options.num_test)
    train, _, test = datasets.ball_in_world(WORLDS[options.world](), num_train=size[0], num_test=size[1], cache=True)
    if options.missing:
        train = train.hide(gaps.random_gaps(train, options.missing, num_kept=3, seed=options.seed))
    return train, test


# %% Models
def parts(obs_shape: tuple[int, ...], maximum_variance: float) -> dict:
    """Encoder and emission, the same for all three models."""
    trunk = ps.ConvTrunk(1, obs_shape, (CHANNELS, CHANNELS, CHANNELS))
    return {
        "encoder": ps.FrameEncoder(trunk, CODE_DIM, maximum_variance=maximum_variance),
        "emission": ps.BernoulliEmission(ps.SubPixelDecoder(CODE_DIM, obs_shape, CHANNELS, hidden_dim=64)),
    }


def kalman_vae(obs_shape: tuple[int, ...]) -> ps.KalmanVAE:
    """Three modes mixed by an LSTM, as in the paper, with learned noise."""
    return ps.KalmanVAE(obs_shape, dynamics=ps.MixedDynamics(CODE_DIM, STATE_DIM, 3), **parts(obs_shape, 0.03))


# %% Fit
class Training:
    """Trains in phases, each with a folder of its own to go on from."""

    def __init__(self, train: ps.Sequences, out: Path, options: argparse.Namespace) -> None:
        self.train, self.out, self.options = train, out, options

    def phase(self, name: str, model: ps.SequenceModel, data: ps.Sequences, num_steps: int, **method: object):
        """One fit with Adam and a cosine schedule."""
        num_steps = 8 if self.options.smoke else round(num_steps * self.options.effort)
        trainer = ps.Trainer(
            directory=self.out / name,
            resume=self.options.resume,
            progress=not self.options.quiet,
            log_every=20,
            precision=self.options.precision,
        )
        schedule = schedules.Cosine(num_steps, warmup=min(200, num_steps // 2), final=0.01)
        # the public code clips at 150 too, but of a loss a frame; the loss here is one a sequence, so this is tighter
        fitted = ps.SVI(num_steps=num_steps, schedule=schedule, clip_norm=150.0, **method)
        posterior = ps.fit(model, data, fitted, seed=self.options.seed, trainer=trainer)
        if posterior.status == "interrupted":
            raise SystemExit(f"Interrupted. Go on with --resume; what there is was saved in {self.out}.")
        return posterior

    def kalman(self) -> ps.GuidePosterior:
        """The mixture starts later than the rest, as in the paper: linear dynamics first."""
        model = kalman_vae(self.train.obs_shape)
        method = {"batch_size": 32, "learning_rate": 5e-3, "scales": {"x": 0.3}}
        model.dynamics.mixture.requires_grad_(False)
        self.phase("kalman_linear", model, self.train, 500, **method)
        model.dynamics.mixture.requires_grad_(True)
        return self.phase("kalman", model, self.train, 3000, **method)

    def recurrent(self, name: str, maximum_variance: float, scales: dict[str, float]) -> ps.GuidePosterior:
        """Frames first, each by itself; then the recurrent network on their codes."""
        model = ps.RecurrentVAE(self.train.obs_shape, CODE_DIM, **parts(self.train.obs_shape, maximum_variance))
        model.transition.requires_grad_(False)
        frames = self.train.windows(1)
        self.phase(f"{name}_frames", model, frames, 3000, batch_size=256, learning_rate=3e-3, scales=scales)
        model.requires_grad_(False).transition.requires_grad_(True)
        return self.phase(name, model, self.train, 2000, batch_size=32, learning_rate=3e-3)

    def all(self) -> dict[str, ps.GuidePosterior]:
        """Every model that was asked for."""
        makers: dict[str, Callable[[], ps.GuidePosterior]] = {
            "Kalman VAE": self.kalman,
            "AE-RNN": lambda: self.recurrent("ae_rnn", 1e-6, {"codes": 0.0}),
            "VAE-RNN": lambda: self.recurrent("vae_rnn", 1.0, {}),
        }
        posteriors = {}
        for name in self.options.models:
            torch.manual_seed(self.options.seed)
            start = time.perf_counter()
            posteriors[name] = makers[name]()
            print(f"{name}: trained in {time.perf_counter() - start:.0f} s")
        return posteriors


# %% Check: wrong pixels in hidden frames, beside the trivial predictors
def patterns(test: ps.Sequences, options: argparse.Namespace) -> dict[str, dict[float, Tensor]]:
    """Which frames are hidden: each by itself with probability p, or v in a row; the first four never."""
    random = {p: gaps.random_gaps(test, p, seed=options.seed) for p in gaps.PROBABILITIES}
    consecutive = {v: gaps.consecutive_gaps(test, v) for v in gaps.LENGTHS}
    return {"random": random, "consecutive": consecutive}


def imputed(posterior: ps.GuidePosterior, given: ps.Sequences, is_causal: bool = False) -> Tensor:
    """Every frame as the mean of its code decodes, as in the paper; causal: the mean given what came before a gap.

    `ps.impute` draws frames instead. Their average is blurred where the code is uncertain, and costs a decoding each.
    """
    model = posterior.model.eval()
    parts = []
    for index in torch.arange(len(given)).split(100):
        part = given[index]
        copies = CausalCopies.of(part)
        with torch.no_grad():
            codes = model.encode(copies.data if is_causal else part).path_of_means()
            codes = codes[copies.copy, torch.arange(part.num_steps)] if is_causal else codes
            parts.append(model.emission(codes).mean)
    return torch.cat(parts)


def errors(
    posteriors: dict[str, ps.GuidePosterior], train: ps.Sequences, test: ps.Sequences, options: argparse.Namespace
) -> dict[str, dict[str, list[float]]]:
    """Fraction of wrong pixels by kind of gap and predictor, one number for each p or v."""
    distances = gaps.step_distances(train, test)
    table: dict[str, dict[str, list[float]]] = {}
    for kind, hidden_by in patterns(test, options).items():
        rows = table.setdefault(kind, {})
        for hidden in hidden_by.values():
            given = test.hide(hidden)
            predictions = {}
            for name, posterior in posteriors.items():
                if name == "Kalman VAE":
                    predictions[f"{name}, smoothing"] = imputed(posterior, given)
                    predictions[f"{name}, filtering"] = imputed(posterior, given, is_causal=True)
                else:
                    predictions[name] = imputed(posterior, given)
            predictions |= gaps.trivial_predictions(train, test, hidden, distances)
            for name, means in predictions.items():
                rows.setdefault(name, []).append(gaps.wrong_pixels(means, test.values, hidden))
    return table


def print_table(table: dict[str, dict[str, list[float]]], has_published: bool) -> None:
    """Errors of all predictors, and the published ones below."""
    for kind, levels, published in (
        ("random", gaps.PROBABILITIES, PUBLISHED_RANDOM),
        ("consecutive", gaps.LENGTHS, PUBLISHED_CONSECUTIVE),
    ):
        print(f"\nFraction of wrong pixels in hidden frames, {kind} gaps")
        print(" " * 36 + "".join(f"{level:>8}" for level in levels))
        rows = table[kind] | ({f"{name} (published)": row for name, row in published.items()} if has_published else {})
        for name, row in rows.items():
            print(f"{name:36}" + "".join(f"{value:8.4f}" for value in row))


# %% Plot
COLOURS = {
    "Kalman VAE, smoothing": "C0",
    "Kalman VAE, filtering": "C1",
    "AE-RNN": "C2",
    "VAE-RNN": "C3",
    "mean image": "0.6",
    "last seen frame": "0.75",
}


def draw_errors(table: dict[str, dict[str, list[float]]], has_published: bool, out: Path) -> None:
    """Errors against the amount of missing frames, the published ones dashed."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    kinds = (
        ("random", gaps.PROBABILITIES, PUBLISHED_RANDOM, "probability that a frame is hidden"),
        ("consecutive", gaps.LENGTHS, PUBLISHED_CONSECUTIVE, "hidden frames in a row"),
    )
    for axis, (kind, levels, published, label) in zip(axes, kinds, strict=True):
        for name, colour in COLOURS.items():
            if name in table[kind]:
                axis.plot(levels, table[kind][name], "o-", color=colour, markersize=3, label=name)
            if has_published and name in published:
                axis.plot(levels, published[name], "--", color=colour, linewidth=1, label=f"{name}, published")
        axis.set(xlabel=label)
    axes[0].set(ylabel="fraction of wrong pixels", ylim=(0, 0.05))
    axes[1].legend(fontsize=7, ncols=2)
    figure.savefig(out / "errors.png", dpi=150)


def draw_frames(posteriors: dict[str, ps.GuidePosterior], test: ps.Sequences, out: Path) -> None:
    """Nine frames in a row hidden in a few sequences: what was true, what was seen, what each model fills in."""
    few = test[:3]
    hidden = gaps.consecutive_gaps(few, 9)
    given = few.hide(hidden)
    rows = {"true": few.values, "seen": given.values + 0.5 * hidden[..., None, None, None]}
    for name, posterior in posteriors.items():
        if name == "Kalman VAE":
            rows["smoothing"] = imputed(posterior, given)
            rows["filtering"] = imputed(posterior, given, is_causal=True)
        else:
            rows[name] = imputed(posterior, given)
    for series in range(len(few)):
        frames = {name: values[series] for name, values in rows.items()}
        diagnostics.plot_sequences(frames, num_observed=gaps.NUM_KEPT).savefig(out / f"frames_{series}.png", dpi=150)
    diagnostics.save_gif(out / "imputation.gif", {name: values[0] for name, values in rows.items()})


def draw_weights(posterior: ps.GuidePosterior, test: ps.Sequences, out: Path) -> None:
    """Where in the box each mode is in use: mixing weights at the true position of the ball (figure 4 of the paper)."""
    model, few = posterior.model, test[:300]
    codes = posterior.draws(few, 1)["codes"][0]
    with torch.no_grad():
        weights = model.mixing_weights(codes)[:, 1:].flatten(0, 1)
    places = few.context["state"][:, :-1, :2].flatten(0, 1)
    figure, axes = plt.subplots(1, weights.shape[-1], figsize=(3.4 * weights.shape[-1], 3), layout="constrained")
    for mode, axis in enumerate(axes):
        points = axis.scatter(*places.T, c=weights[:, mode], s=3, vmin=0, vmax=1, cmap="viridis")
        axis.set(title=f"mode {mode + 1}", xlabel="x", ylabel="y", aspect="equal", xlim=(0, 32), ylim=(0, 32))
    figure.colorbar(points, ax=axes, label="weight of the next move")
    figure.savefig(out / "mixing_weights.png", dpi=150)


def draw_paths(posterior: ps.GuidePosterior, test: ps.Sequences, out: Path) -> None:
    """Codes of one sequence with nine frames hidden: encoded, smoothed and filtered draws (figure 3c of the paper)."""
    one = test[:1]
    hidden = gaps.consecutive_gaps(one, 9)
    true = posterior.draws(one, 1)["codes"][0, 0]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained")
    for axis, is_causal, title in zip(axes, (False, True), ("smoothing", "filtering"), strict=True):
        drawn = ps.impute(posterior, one.hide(hidden), is_causal=is_causal, num_samples=30).latents["codes"][:, 0]
        axis.plot(*drawn[:, 3:14].permute(2, 1, 0), color="C0", linewidth=0.6, alpha=0.4)
        axis.plot(*true.T, "k.-", label="codes of the true frames")
        axis.plot(*true[hidden[0]].T, "o", color="C3", markerfacecolor="none", label="hidden")
        axis.set(title=f"{title}: 30 draws of the codes", xlabel="code 1", ylabel="code 2")
    axes[0].legend(fontsize=8)
    figure.savefig(out / "paths.png", dpi=150)


# %% Run
def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    out = Path(options.out or f"results/kalman_vae_{options.world}")
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise SystemExit(f"{out} holds an earlier run. Go on with it by --resume, or choose another folder by --out.")
    out.mkdir(parents=True, exist_ok=True)
    train, test = load(options)
    print(f"train {train}\ntest  {test}")
    start = time.perf_counter()
    posteriors = Training(train, out, options).all()
    seconds = time.perf_counter() - start
    for name, posterior in posteriors.items():
        ps.save(posterior, out / f"{name.lower().replace('-', '_').replace(' ', '_')}.pt")

    # the sequences that trivial predictors compare with are seen in full
    table = errors(posteriors, load(argparse.Namespace(**(vars(options) | {"missing": 0.0})))[0], test, options)
    has_published = options.world == "box" and not options.missing
    print_table(table, has_published)
    print(f"\ntraining: {seconds:.0f} s of wall time, {torch.get_num_threads()} thread(s)")
    record = {
        name: getattr(options, name)
        for name in ("world", "missing", "effort", "precision", "num_test", "seed", "threads")
    }
    record |= {"seconds": round(seconds), "probabilities": gaps.PROBABILITIES, "lengths": gaps.LENGTHS}
    (out / "scores.json").write_text(json.dumps(record | {"errors": table}, indent=1))

    draw_errors(table, has_published, out)
    draw_frames(posteriors, test, out)
    if "Kalman VAE" in posteriors:
        kalman = posteriors["Kalman VAE"]
        diagnostics.plot_learning_curve(kalman.history, smoothing=0.9).savefig(out / "learning.png", dpi=150)
        draw_weights(kalman, test, out)
        draw_paths(kalman, test, out)
    print(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=WORLDS, default="box", help="what the ball moves in")
    parser.add_argument("--missing", type=float, default=0.0, help="share of training frames that are missing")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="which models to train and compare")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of the networks")
    parser.add_argument("--effort", type=float, default=1.0, help="training steps, as a share of the usual ones")
    parser.add_argument("--num-test", type=int, default=1000, help="test sequences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one is slower here: the tensors are small")
    parser.add_argument("--out", help="folder for pictures and checkpoints; results/kalman_vae_<world> when absent")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a little data, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
