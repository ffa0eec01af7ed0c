"""Do 90 % intervals hold 90 % of what was hidden, for every model, on data that the model itself has made?

``python -m benchmarks.hidden`` trains each model shortly, takes it for the truth, draws series from it, trains nothing
but its guide on them, with `RandomGaps`, and counts what of new series lies inside the intervals of `reconstruct`: with
the first half hidden, a random half, and everything. Beside each coverage is its standard error, by series.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.training.schedules import Cosine
from pyro_seq.training.views import RandomGaps

NUM_STEPS, TEST, DRAWS = 12, 400, 200
QUIET = ps.Trainer(progress=False, accelerator="cpu")


class Case(NamedTuple):
    """A model, the names of the parts that only its guide uses, and how long the two trainings are."""

    make: Callable[[], ps.SequenceModel]
    guide: tuple[str, ...]
    num_series: int = 2000
    guide_steps: int = 2000


class Covered(NamedTuple):
    """What intervals of one pattern hold: a share, its standard error, and the error of the mean in deviations."""

    share: float
    standard_error: float
    error: float


def field() -> ps.BayesianMLP:
    """A small acceleration without weights to draw, which have a posterior of their own."""
    return ps.BayesianMLP(4, 2, (20,), is_bayesian=False)


def video_model() -> ps.SRVP:
    """Whole videos of 8 x 8 pixels, by states alone."""
    coding = ps.DCGAN(channels=(4, 8), code_dim=8, norm=lambda channels: nn.GroupNorm(1, channels))
    sizes = {"noise_dim": 2, "content_dim": 0, "num_frames": 3, "hidden_dim": 32}
    return ps.SRVP((1, 8, 8), 4, architecture=coding, emission=ps.PixelEmission(scale=0.3), **sizes)


CASES = {
    "ODE2VAE": Case(lambda: ps.ODE2VAE((2,), 2, time_step=0.3, vector_field=field()), ("encoder",)),
    "ODE2VAE, RNNEncoder": Case(
        lambda: ps.ODE2VAE((2,), 2, time_step=0.3, vector_field=field(), encoder=ps.RNNEncoder((2,), 4)), ("encoder",)
    ),
    "ODELEBM": Case(lambda: ps.ODELEBM((2,), 3, time_step=0.3, encoder=ps.RNNEncoder((2,), 3)), ("encoder",)),
    "KalmanVAE": Case(lambda: ps.KalmanVAE((2,), 2, 3), ("encoder",), 600, 300),
    "RecurrentVAE": Case(lambda: ps.RecurrentVAE((2,), 2), ("encoder",), 600, 600),
    "SRVP": Case(video_model, ("encoder", "frame_encoder"), 800, 800),
}


def waves(num_series: int) -> Tensor:
    """Sine and cosine of any phase, with noise."""
    generator = torch.Generator().manual_seed(0)
    angle = 0.3 * torch.arange(NUM_STEPS) + 6.28 * torch.rand(num_series, 1, generator=generator)
    clean = torch.stack([angle.sin(), angle.cos()], -1)
    return clean + 0.1 * torch.randn(clean.shape, generator=generator)


def squares(num_series: int) -> Tensor:
    """Squares of 3 x 3 pixels that drift around a torus of 6 x 6 places."""
    generator = torch.Generator().manual_seed(0)
    place, drift = (torch.randint(*ends, (num_series, 1, 2), generator=generator) for ends in ((0, 6), (-1, 2)))
    corner = (place + drift * torch.arange(NUM_STEPS)[:, None]) % 6
    pixel = torch.arange(8)
    row, column = (((pixel - corner[..., [axis]]) >= 0) & ((pixel - corner[..., [axis]]) < 3) for axis in (0, 1))
    return (row[..., :, None] & column[..., None, :]).float()[:, :, None]


def patterns(num_series: int) -> dict[str, Tensor]:
    """What is hidden, (series, time)."""
    steps, generator = torch.arange(NUM_STEPS).expand(num_series, -1), torch.Generator().manual_seed(3)
    order = torch.rand(steps.shape, generator=generator).argsort(1)
    return {"first half": steps < NUM_STEPS // 2, "random half": order < NUM_STEPS // 2, "all": steps >= 0}


def coverage_of(name: str, seed: int = 0) -> dict[str, Covered]:
    """What the 90 % intervals of one model hold, by pattern."""
    case = CASES[name]
    torch.manual_seed(seed)
    model = case.make()
    values = squares(48) if len(model.obs_shape) == 3 else waves(64)
    first = ps.SVI(num_steps=400, learning_rate=1e-2, clip_norm=5.0)
    truth = ps.fit(model, ps.Sequences(values), first, seed=seed, trainer=QUIET)
    drawn = ps.sample(truth, ps.Sequences(values[:1]), num_samples=case.num_series + TEST, seed=5).samples[:, 0]
    train, test = ps.Sequences(drawn[: case.num_series]), ps.Sequences(drawn[case.num_series :])
    model.requires_grad_(False)
    for part in case.guide:
        getattr(model, part).requires_grad_(True)
    method = ps.SVI(
        num_steps=case.guide_steps,
        batch_size=64,
        learning_rate=3e-3,
        schedule=Cosine(case.guide_steps),
        clip_norm=5.0,
        views=[RandomGaps(0.75)],
        scales={"dreams": 1.0} if model.has_dreams else {},
    )
    posterior = ps.fit(model, train, method, seed=seed, trainer=QUIET)
    return {pattern: covered(posterior, test, hidden) for pattern, hidden in patterns(TEST).items()}


def covered(posterior: ps.GuidePosterior, test: ps.Sequences, hidden: Tensor) -> Covered:
    """What the 90 % intervals of one pattern hold."""
    draws = ps.reconstruct(posterior, test.hide(hidden), num_samples=DRAWS)
    shares = ps.metrics.coverage(draws.samples, test.values, 0.9, mask=hidden, keep=0)
    error = (draws.mean - test.values)[hidden].square().mean().sqrt() / test.values.std()
    return Covered(float(shares.mean()), float(shares.std() / len(shares) ** 0.5), float(error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES), help="which models")
    options = parser.parse_args()
    print("| model | hidden | 90 % interval covers | standard error | error of the mean, in deviations |")
    print("|---|---|---|---|---|")
    for name in options.models:
        for pattern, found in coverage_of(name).items():
            print(
                f"| {name} | {pattern} | {found.share:.3f} | {found.standard_error:.3f} | {found.error:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
