"""Pictures of the study of ODE-LEBM."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from torch import Tensor

import pyro_seq as ps
from benchmarks.studies._ode_lebm_scores import decoded
from benchmarks.studies._ode_lebm_tasks import Task, energy_of
from benchmarks.studies._ode_lebm_uses import prior_draws
from pyro_seq import diagnostics

FEW = 4  # series in a picture


def draw(
    model: ps.ODELEBM,
    task: Task,
    latents: Tensor,
    table: dict,
    out: Path,
    *,
    num_draws: int,
) -> None:
    """All pictures that fit the data set; `num_draws` of each long chain."""
    draw_fits(model, task, latents[:, :FEW], out)
    draw_steps(table, out)
    draw_chains(model, task, out, num_draws)
    grid = task.test
    # in training the pool of prior chains goes on; chains from noise take longer to come as far
    num_steps = None if energy_of(model) is None else 10 * energy_of(model).num_steps
    draws = {"posterior draws": latents, "prior chains": prior_draws(model, grid, num_steps)}
    figure = diagnostics.plot_energy(lambda vectors: -tilted(model, grid, vectors), draws)
    figure.savefig(out / "energy.png", dpi=150)


def tilted(model: ps.ODELEBM, grid: ps.Sequences, vectors: Tensor) -> Tensor:
    """Log density of the prior, without the normaliser."""
    prior = model.prior(grid)
    return prior.log_prob(vectors) if energy_of(model) is None else prior.tilted(vectors)


# ---------------------------------------------------------------------- predictions


def draw_fits(model: ps.ODELEBM, task: Task, latents: Tensor, out: Path) -> None:
    """Predictions of a few test series, as the data set wants to be seen."""
    few, truth = task.given[:FEW], task.truth[:FEW]
    prediction = decoded(model, few, latents)
    shape = task.train.obs_shape
    if len(shape) == 3:
        rows = {"true": truth[0], "mean": prediction.mean[0], "one chain": prediction.emission_means[0, 0]}
        diagnostics.plot_sequences(rows, num_observed=few.num_steps).savefig(out / "fits.png", dpi=150)
        diagnostics.save_gif(out / "fits.gif", rows, num_observed=few.num_steps)
    elif shape == (2,):
        draw_planes(few, truth, prediction, out)
    else:
        # chains are few: an interval needs noise drawn often around each
        many = decoded(model, few, latents.repeat(50, 1, 1))
        draw_intervals(few, task.test[:FEW], truth, many, out)


def draw_planes(few: ps.Sequences, truth: Tensor, prediction: ps.Prediction, out: Path) -> None:
    """Paths in the plane: true, seen, and predicted by each chain."""
    figure, axes = plt.subplots(1, FEW, figsize=(3.2 * FEW, 3.2), layout="constrained")
    for series, axis in enumerate(axes):
        axis.plot(*truth[series].T, color="0.6", linewidth=1, label="true")
        for path in prediction.emission_means[:, series]:
            axis.plot(*path.T, color="C0", linewidth=0.7)
        axis.plot(*few.values[series].T, ".", color="C3", markersize=2, label="seen")
        axis.set(aspect="equal")
    axes[0].legend(fontsize=7)
    figure.savefig(out / "fits.png", dpi=150)
    plt.close(figure)


def draw_intervals(
    few: ps.Sequences, test: ps.Sequences, truth: Tensor, prediction: ps.Prediction, out: Path, num_entries: int = 3
) -> None:
    """The first entries of each series over time, with 90 % intervals."""
    entries = min(num_entries, truth.shape[-1])
    figure, axes = plt.subplots(
        entries, FEW, figsize=(3.2 * FEW, 0.6 + 1.8 * entries), squeeze=False, layout="constrained", sharex="col"
    )
    low, high = prediction.quantile([0.05, 0.95])
    for series in range(FEW):
        clock = few.times.expand(len(few), -1)[series]
        for entry, axis in enumerate(axes[:, series]):
            known, seen = test.entry_mask[series, :, entry], few.entry_mask[series, :, entry]
            axis.fill_between(clock, low[series, :, entry], high[series, :, entry], alpha=0.25, label="90 %")
            axis.plot(clock, prediction.mean[series, :, entry], label="mean")
            axis.plot(clock[known], truth[series, known, entry], ".", color="0.6", markersize=2, label="true")
            axis.plot(
                clock[: len(seen)][seen], few.values[series, seen, entry], "o", color="C3", markersize=3, label="seen"
            )
    axes[0, 0].legend(fontsize=7)
    figure.savefig(out / "fits.png", dpi=150)
    plt.close(figure)


# ---------------------------------------------------------------------- chains


def draw_steps(table: dict, out: Path) -> None:
    """Errors against the number of Langevin steps, where there are several."""
    curves: dict[str, list[tuple[int, dict]]] = {}
    for name, row in table.items():
        start, steps = name.removesuffix(" steps").split(", ")
        curves.setdefault(start, []).append((int(steps), row))
    if max(map(len, curves.values())) < 2:
        return
    scores = list(next(iter(table.values())))
    figure, axes = plt.subplots(1, len(scores), figsize=(3.6 * len(scores), 3), squeeze=False, layout="constrained")
    for score, axis in zip(scores, axes[0], strict=True):
        for start, points in curves.items():
            steps, rows = zip(*sorted(points, key=lambda point: point[0]), strict=True)
            for estimator, style in (("single chain", "o--"), ("mean of chains", "o-")):
                values = [row[score][estimator] for row in rows]
                axis.plot(steps, values, style, color=f"C{list(curves).index(start)}", markersize=3)
        axis.set(title=score, xlabel="Langevin steps", yscale="log")
        ticks = sorted({steps for points in curves.values() for steps, _ in points})
        axis.set_xscale("symlog", linthresh=10)
        axis.set_xlim(0.9 * ticks[0], 1.1 * ticks[-1])
        axis.set_xticks(ticks)
        axis.tick_params(axis="x", labelsize=7)
        axis.xaxis.set_major_formatter("{x:.0f}")
        axis.minorticks_off()
    handles = [plt.Line2D([], [], color=f"C{place}", label=start) for place, start in enumerate(curves)]
    axes[0, 0].legend(handles=handles, fontsize=7)
    axes[0, 0].set_ylabel("MSE; dashed: single chain")
    figure.savefig(out / "steps.png", dpi=150)
    plt.close(figure)


def draw_chains(model: ps.ODELEBM, task: Task, out: Path, num_samples: int) -> None:
    """Traces of long chains of a few test series, and R-hat and effective sample sizes of every entry by ArviZ."""
    method = ps.MCMC(
        ps.Langevin(start="guide" if model.has_guide else "normal", thinning=5),
        num_samples=num_samples,
        warmup_steps=2 * num_samples,
        num_chains=4,
    )
    few = task.given[:FEW].seen()
    chains = ps.fit(model, few, method, trainer=ps.Trainer(progress=False))
    idata = ps.to_arviz(chains, few, sites=["initial"], groups=["posterior", "sample_stats"])
    diagnostics.summary(idata, ["initial"]).to_csv(out / "chains.csv")
    diagnostics.plot_trace(idata, ["initial"], max_entries=4).savefig(out / "chains.png", dpi=150)
