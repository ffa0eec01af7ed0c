"""The pictures of docs/diagnostics.md: each shows what is right beside what is wrong, on a case that is known exactly.

python -m benchmarks.gallery               all pictures, some seconds
python -m benchmarks.gallery --out FOLDER  elsewhere than in docs/_static
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import arviz as az
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import _gallery_left_out
from benchmarks.tables._page import ROOT
from pyro_seq import _style as style
from pyro_seq.diagnostics import calibration

NUM_CHAINS, NUM_DRAWS = 4, 500
DIVERGED = 10.0  # error of the energy along a trajectory


# ---------------------------------------------------------------------- chains


def autoregressive(correlation: float, seed: int) -> np.ndarray:
    """Chains (chain, draw) of a standard normal, each draw correlated with the one before."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(NUM_CHAINS, NUM_DRAWS))
    chains = noise.copy()
    for draw in range(1, NUM_DRAWS):
        chains[:, draw] = correlation * chains[:, draw - 1] + np.sqrt(1 - correlation**2) * noise[:, draw]
    return chains


def chain_cases() -> dict[str, np.ndarray]:
    """Chains that mix, that crawl, and of which one sits elsewhere."""
    apart = autoregressive(0.3, 3)
    apart[3] += 1.5
    return {"mixed": autoregressive(0.3, 1), "slow": autoregressive(0.99, 2), "one apart": apart}


def convergence(chains: np.ndarray) -> dict[str, float]:
    """R-hat and effective sample sizes, by ArviZ."""
    data = xr.Dataset({"x": (("chain", "draw"), chains)})
    return {
        "R-hat": float(az.rhat(data)["x"]),
        "bulk ESS": float(az.ess(data, method="bulk")["x"]),
        "tail ESS": float(az.ess(data, method="tail")["x"]),
    }


def plot_chains() -> Figure:
    """Traces, and the ranks of each chain's draws among those of all."""
    cases = chain_cases()
    figure = style.new_figure(7.6, 4.6)
    grid = figure.subplots(len(cases), 2, squeeze=False, width_ratios=(3, 2))
    for (trace, ranks), (name, chains) in zip(grid, cases.items(), strict=True):
        found = ", ".join(
            f"{key} {value:{'.2f' if key == 'R-hat' else '.0f'}}" for key, value in convergence(chains).items()
        )
        style.tidy(trace, title=f"{name}: {found}", has_grid=False)
        style.tidy(ranks, title="ranks, by chain", has_grid=False)
        order = chains.ravel().argsort().argsort().reshape(chains.shape)
        edges = np.linspace(0, chains.size, 21)
        for chain, colour in zip(range(NUM_CHAINS), style.SERIES, strict=False):
            trace.plot(chains[chain], color=colour, linewidth=0.6, alpha=0.8)
            ranks.stairs(np.histogram(order[chain], edges)[0], edges, color=colour)
        ranks.axhline(NUM_DRAWS / 20, color=style.TRUTH, linewidth=0.8, linestyle=(0, (4, 3)))
        ranks.set_ylim(0)
        ranks.set_xticks([])
    return figure


# ---------------------------------------------------------------------- funnel


def leapfrog(position: Tensor, momentum: Tensor, gradient: Callable[[Tensor], Tensor], step: float, num_steps: int):
    """A Hamiltonian trajectory with unit masses."""
    momentum = momentum + 0.5 * step * gradient(position)
    for number in range(num_steps):
        position = position + step * momentum
        momentum = momentum + (step if number < num_steps - 1 else 0.5 * step) * gradient(position)
    return position, momentum


def funnel_log_prob(position: Tensor) -> Tensor:
    r"""Neal's funnel, (chain,): log scale v ~ N(0, 3), and x ~ N(0, exp(v / 2))."""
    v, x = position.unbind(-1)
    return -v.square() / 18 - 0.5 * x.square() * (-v).exp() - 0.5 * v


def flat_log_prob(position: Tensor) -> Tensor:
    """The same with x in units of its scale: independent normals."""
    v, x = position.unbind(-1)
    return -v.square() / 18 - 0.5 * x.square()


def hamiltonian(log_prob: Callable[[Tensor], Tensor], step: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draws (chain, draw, 2), energies before each step, and which trajectories diverged."""
    generator = torch.Generator().manual_seed(seed)

    def gradient(position: Tensor) -> Tensor:
        position = position.detach().requires_grad_()
        return torch.autograd.grad(log_prob(position).sum(), position)[0]

    position = torch.randn(NUM_CHAINS, 2, generator=generator, dtype=torch.float64)
    draws, energies, diverged = [], [], []
    for _ in range(NUM_DRAWS):
        momentum = torch.randn(position.shape, generator=generator, dtype=torch.float64)
        energy = 0.5 * momentum.square().sum(-1) - log_prob(position)
        num_steps = int(torch.randint(4, 13, (), generator=generator))
        new, moved = leapfrog(position, momentum, gradient, step, num_steps)
        error = 0.5 * moved.square().sum(-1) - log_prob(new) - energy
        error = error.nan_to_num(nan=torch.inf)
        accept = torch.rand(NUM_CHAINS, generator=generator, dtype=torch.float64).log() < -error
        position = torch.where(accept[:, None], new, position)
        draws.append(position)
        energies.append(energy)
        diverged.append(error > DIVERGED)
    return torch.stack(draws, 1), torch.stack(energies, 1), torch.stack(diverged, 1)


def plot_funnel() -> Figure:
    """Pairs with divergences, and the energy beside its steps, of a funnel and of the same in good units."""
    figure = style.new_figure(7.6, 4.6)
    grid = figure.subplots(2, 2, squeeze=False)
    for row, (name, log_prob, is_flat) in enumerate(
        (("scale and value", funnel_log_prob, False), ("scale and value in its units", flat_log_prob, True))
    ):
        draws, energies, diverged = hamiltonian(log_prob, 0.35, seed=4)
        v, x = draws.flatten(0, 1).unbind(-1)
        x = x * (0.5 * v).exp() if is_flat else x
        pairs, energy = grid[row]
        flags = diverged.flatten()
        pairs.plot(x, v, ".", color=style.MODEL, markersize=2, alpha=0.4)
        pairs.plot(x[flags], v[flags], ".", color=style.ACCENT, markersize=5, label="diverged from here")
        pairs.set(xlim=(-12, 12), ylim=(-10, 9))
        style.tidy(pairs, title=f"{name}: {int(flags.sum())} divergences", x="x", y="log scale v")
        if flags.any():
            style.add_legend(pairs, loc="lower right")
        centred, steps = energies - energies.mean(), energies.diff(dim=1)
        low = float(steps.square().mean() / centred.square().mean())
        edges = np.linspace(-8, 12, 50)
        energy.stairs(np.histogram(centred.numpy(), edges, density=True)[0], edges, color=style.MODEL, label="energy")
        energy.stairs(np.histogram(steps.numpy(), edges, density=True)[0], edges, color=style.ACCENT, label="its steps")
        style.tidy(energy, title=f"energy: E-BFMI {low:.2f}", x="energy, centred")
        energy.set_yticks([])
        style.add_legend(energy)
    return figure


# ---------------------------------------------------------------------- calibration


def simulated_ranks(factor: float, shift: float, seed: int, num_draws: int = 99, num_simulations: int = 2000) -> Tensor:
    """Ranks where the posterior of a mean is known; draws have `factor` times its deviation, and are off by `shift`."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(num_simulations, generator=generator)
    mean_seen = truth + torch.randn(num_simulations, generator=generator) / 5**0.5
    loc, deviation = mean_seen * 5 / 6, (1 / 6) ** 0.5
    draws = loc + deviation * (shift + factor * torch.randn(num_draws, num_simulations, generator=generator))
    return calibration.rank_statistics(draws, truth)


def plot_simulated_ranks() -> Figure:
    """Simulation-based calibration of an exact posterior, and of one that is too narrow, too wide, shifted."""
    figure = style.new_figure(7.6, 2.2)
    cases = {
        "exact": (1.0, 0.0),
        "too narrow, 0.7": (0.7, 0.0),
        "too wide, 1.4": (1.4, 0.0),
        "too high, by 0.3": (1.0, 0.3),
    }
    for panel, (name, (factor, shift)) in zip(figure.subplots(1, len(cases), sharey=True), cases.items(), strict=True):
        ranks = simulated_ranks(factor, shift, seed=5)
        panel.hist(ranks.numpy(), np.linspace(-0.5, 99.5, 21), color=style.MODEL, edgecolor="white", linewidth=0.5)
        panel.axhline(len(ranks) / 20, color=style.TRUTH, linewidth=0.9, linestyle=(0, (4, 3)))
        style.tidy(panel, title=name, x="rank of the truth", has_grid=False)
    return figure


def plot_coverage() -> Figure:
    """Coverage curves of forecasts that are right, too narrow and too wide."""
    generator = torch.Generator().manual_seed(6)
    truth = torch.randn(60, 20, 1, generator=generator)
    figure = style.new_figure(3.6, 3.4)
    axes = style.tidy(figure.subplots(), x="stated probability of the interval", y="share of the truth inside")
    axes.plot([0, 1], [0, 1], color=style.MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
    for (name, factor), colour in zip(
        {"right": 1.0, "too narrow": 0.5, "too wide": 2.0}.items(), style.SERIES, strict=False
    ):
        draws = factor * torch.randn(200, 60, 20, 1, generator=generator)
        levels, shares, _ = (style.as_numpy(part) for part in calibration.calibration_curve(draws, truth))
        axes.plot(levels, shares, color=colour, linewidth=1.5, marker="o", markersize=3, label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    style.add_legend(axes, loc="lower right")
    return figure


def plot_predictive_check() -> Figure:
    """Replicates of a series by a model that has its memory, and by one that has not, in two statistics."""
    series = autoregressive(0.8, 7)[0, :100]
    generator = np.random.default_rng(8)
    independent = series.mean() + series.std() * generator.normal(size=(2000, 100))
    replicates = {"with memory": np.concatenate([autoregressive(0.8, seed)[:, :100] for seed in range(100, 600)])}
    replicates["without"] = independent
    statistics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "standard deviation": lambda paths: paths.std(-1),
        "correlation of neighbours": lambda paths: np.array(
            [np.corrcoef(path[1:], path[:-1])[0, 1] for path in np.atleast_2d(paths)]
        ),
    }
    figure = style.new_figure(7.6, 2.4)
    for panel, (name, statistic) in zip(figure.subplots(1, 2), statistics.items(), strict=True):
        for (model, paths), colour in zip(replicates.items(), style.SERIES, strict=False):
            panel.hist(statistic(paths), bins=40, density=True, color=colour, alpha=0.5, label=f"replicates {model}")
        panel.axvline(float(np.ravel(statistic(series[None]))[0]), color=style.TRUTH, linewidth=1.5, label="the series")
        style.tidy(panel, title=name, has_grid=False)
        panel.set_yticks([])
    style.add_legend(panel, loc="upper center")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "gallery_chains": plot_chains,
    "gallery_funnel": plot_funnel,
    "gallery_simulated_ranks": plot_simulated_ranks,
    "gallery_coverage": plot_coverage,
    "gallery_predictive_check": plot_predictive_check,
    "gallery_left_out": _gallery_left_out.plot_left_out,
    "gallery_future_left_out": _gallery_left_out.plot_future_left_out,
}


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "_static", help="folder of the pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, plot in PICTURES.items():
        plot().savefig(options.out / f"{name}.png", dpi=130)
        print(f"written to {options.out / name}.png")


if __name__ == "__main__":
    main()
