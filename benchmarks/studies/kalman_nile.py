"""The flow of the Nile: a level that drifts, with and without a slope, by maximum likelihood, SVI and NUTS.

python -m benchmarks.studies.kalman_nile            some minutes on one core; all goes to results/kalman_nile
python -m benchmarks.studies.kalman_nile --smoke    the same with a few draws
"""

# %% Set-up
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq import _style as style
from pyro_seq import diagnostics, metrics
from pyro_seq.datasets.nile import nile
from pyro_seq.distributions.linear_gaussian import LinearGaussian
from pyro_seq.ops.kalman import LinearGaussianParameters, leave_one_out_log_density
from pyro_seq.posterior import Posterior
from pyro_seq.training import schedules

COMPONENTS = ("irregular", "level", "slope")
NAMES = {1: "local level", 2: "local linear trend"}
UNITS = {1: (200.0, 200.0), 2: (200.0, 200.0, 20.0)}  # of the priors, in the unit of the flow
HORIZON = 20


# %% Model: the state is integrated out, and the site `x` carries the exact likelihood
class LocalTrend(ps.SequenceModel):
    r"""A level that drifts, and for order 2 a slope that drifts too; nothing is known of where they start.

    .. math::
        x_t = \mu_t + N(0, \sigma_0^2), \qquad
        \mu_t = \mu_{t-1} + \nu_{t-1} + N(0, \sigma_1^2), \qquad
        \nu_t = \nu_{t-1} + N(0, \sigma_2^2)

    The only latents are the standard deviations, half-normal, in the units given.
    """

    dims = {"scales": ("component",), "states": ("time", "state")}  # noqa: RUF012
    is_conditional = True  # a diffuse start has no prior draws

    def __init__(self, units: Sequence[float]) -> None:
        super().__init__()
        self.obs_shape = (1,)
        self.register_buffer("units", torch.tensor(units))
        self.loc = nn.Parameter(torch.full((len(units),), -1.0))
        self.log_spread = nn.Parameter(torch.full((len(units),), -1.0))
        self.lower = nn.Parameter(torch.zeros(len(units), len(units)))

    def path(self, scales: Tensor, data: ps.Sequences) -> LinearGaussian:
        """Distribution of the observations given the standard deviations (..., component), in their units."""
        eye = torch.eye(scales.shape[-1] - 1, dtype=scales.dtype, device=scales.device)
        variances = (scales * self.units).square()
        parameters = LinearGaussianParameters(
            transition=eye + torch.diag(torch.ones_like(eye[0, 1:]), 1),
            transition_cov=torch.diag_embed(variances[..., 1:])[..., None, :, :],
            observation=eye[:1],
            observation_cov=variances[..., :1, None, None],
            initial_mean=torch.zeros_like(eye[0]),
            initial_cov=variances[..., :1, None] * eye,
            diffuse=torch.ones_like(eye[0], dtype=torch.bool),
        )
        mask = None if bool(data.entry_mask.all()) else data.entry_mask
        return LinearGaussian(parameters, data.num_steps, mask=mask)

    def model(self, data: ps.Sequences) -> None:
        """Scales, then the flow; hidden years and the future follow from the smoother."""
        self.bind()
        scales = pyro.sample("scales", dist.HalfNormal(torch.ones_like(self.units)).to_event(1))
        path = self.path(scales, data)
        with self.series(data):
            pyro.sample("x", path, obs=data.values)
            if data.horizon:
                pyro.sample("x_future", path.future(data.values, data.horizon))

    def guide(self, data: ps.Sequences) -> None:
        """A log-normal distribution with all correlations."""
        self.bind()
        root = torch.tril(self.lower, -1) + torch.diag_embed(self.log_spread.exp())
        normal = dist.MultivariateNormal(self.loc, scale_tril=root)
        pyro.sample("scales", dist.TransformedDistribution(normal, dist.transforms.ExpTransform()))

    def integrated_out(self, data: ps.Sequences, latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draws of the states given each draw of the scales, (sample, series, time, state)."""
        data = data.seen()
        path = self.path(latents["scales"][:, None], data)
        return {"states": path.sample_states(data.values.expand(len(latents["scales"]), -1, -1, -1), 1)[0]}

    def coords(self, data: ps.Sequences) -> dict[str, list]:
        """Names of the components."""
        return {"component": list(COMPONENTS[: len(self.loc)]), "state": list(COMPONENTS[1 : len(self.loc)])}


# %% Data: the hundred years, and the same with thirty of them hidden
def load() -> tuple[ps.Sequences, ps.Sequences]:
    whole = nile()
    years = whole.times
    is_hidden = ((years >= 1890) & (years < 1910)) | ((years >= 1940) & (years < 1950))
    return whole, whole.hide(is_hidden[None])


# %% Fit, three ways
def maximise(data: ps.Sequences, order: int) -> tuple[Tensor, float]:
    """Maximum likelihood by gradients through the filter: variances, and the log-likelihood there."""
    model = LocalTrend(UNITS[order]).to(data.dtype)
    log_scales = torch.tensor([-1.0, -1.5, -3.0][: order + 1], dtype=data.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [log_scales], max_iter=200, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -model.path(log_scales.exp(), data).log_prob(data.values).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return variances_of(model, log_scales.detach().exp()), -float(loss().detach())


def variances_of(model: LocalTrend, scales: Tensor) -> Tensor:
    return (scales * model.units).square()


def maximise_by_statsmodels(data: ps.Sequences, order: int) -> tuple[Tensor, float] | None:
    """The same by statsmodels, where that is installed."""
    try:
        from statsmodels.tsa.statespace.structural import UnobservedComponents
    except ImportError:
        return None
    values = data.values.masked_fill(~data.entry_mask, torch.nan)[0, :, 0].numpy()
    reference = UnobservedComponents(values, NAMES[order], use_exact_diffuse=True)
    near = reference.fit(disp=False).params
    fitted = reference.fit(near, method="nm", disp=False, xtol=1e-9, ftol=1e-13, maxiter=10_000, maxfun=10_000)
    return torch.tensor(fitted.params), float(fitted.llf)


def fit(data: ps.Sequences, order: int, method: ps.SVI | ps.MCMC) -> tuple[Posterior, float]:
    """A posterior over the scales, and the wall seconds it took."""
    torch.manual_seed(0)
    start = time.perf_counter()
    model = LocalTrend(UNITS[order]).to(data.dtype)
    posterior = ps.fit(model, data, method, seed=0, trainer=ps.Trainer(progress=False))
    return posterior, time.perf_counter() - start


# %% Check: convergence, leave-one-out, posterior predictive, hidden years
def leave_one_out(posterior: Posterior, data: ps.Sequences, num_samples: int) -> dict:
    """ArviZ's PSIS-LOO over years.

    The density of a year is that given all other years and the parameters, in closed form from the smoother: what
    the model would say of that year were it missing, not what it says from the years before.
    """
    chains = posterior.sites["scales"].shape[0] if isinstance(posterior, ps.StoredPosterior) else 1
    scales = posterior.draws(data, num_samples)["scales"]
    with torch.no_grad():
        path = posterior.model.path(scales, data)
        arguments = data.values.expand(len(scales), -1, -1, -1), path.parameters
        mask = data.entry_mask.expand(arguments[0].shape)
        density = leave_one_out_log_density(*arguments, path.smooth(arguments[0]), mask)[:, 0, data.mask[0]]
    groups = {"posterior": ("scales", scales[:, 0]), "log_likelihood": ("x", density)}
    labelled = {
        group: xr.Dataset({name: (("chain", "draw", f"{name}_axis"), values.unflatten(0, (chains, -1)).numpy())})
        for group, (name, values) in groups.items()
    }
    result = az.loo(diagnostics.arviz.container(labelled), pointwise=True)
    return {
        "loo": float(result.iloc[0]),
        "loo_se": float(result.iloc[1]),
        "worst_k": float(np.asarray(result.pareto_k).max()),
    }


def row_of(name: str, posterior: Posterior, data: ps.Sequences, num_samples: int, seconds: float) -> dict:
    """Means and central 90 % intervals of the variances, and what tells whether to believe them."""
    variances = variances_of(posterior.model, posterior.draws(data, num_samples)["scales"][:, 0])
    ends = variances.quantile(torch.tensor([0.05, 0.95], dtype=variances.dtype), dim=0)
    row = {"method": name, "variances": variances.mean(0).tolist(), "interval": ends.T.tolist(), "seconds": seconds}
    if isinstance(posterior, ps.StoredPosterior):
        table = diagnostics.summary(diagnostics.to_arviz(posterior, data, groups=["posterior"]), ["scales"])
        row |= {"rhat": float(table["rhat"].max()), "ess": float(table[["ess_bulk", "ess_tail"]].min().min())}
        row["divergences"] = int(posterior.sample_stats["diverging"].sum())
    return row | leave_one_out(posterior, data, num_samples)


def imputation_rows(posteriors: dict, whole: ps.Sequences, gaps: ps.Sequences, num_samples: int) -> list[dict]:
    """Errors over the hidden years, beside predictors that need no model."""
    hidden, seen = ~gaps.mask[0], gaps.mask[0]
    truth, years = whole.values[:, hidden], whole.times
    rows = []
    for name, posterior in posteriors.items():
        filled = ps.impute(posterior, gaps, num_samples=num_samples)
        draws = filled.samples[:, :, hidden]
        error = (filled.mean[:, hidden] - truth).square().mean().sqrt()
        score = {"crps": metrics.crps(draws, truth), "coverage_90": metrics.coverage(draws, truth, 0.9)}
        rows.append({"predictor": name, "rmse": float(error)} | {key: float(value) for key, value in score.items()})
    flows = whole.values[0, :, 0].numpy()
    known = np.flatnonzero(seen)
    last = flows[known[np.searchsorted(known, np.flatnonzero(hidden)) - 1]]
    between = np.interp(years[hidden], years[seen], flows[seen])
    trivial = {"mean of the others": flows[seen].mean(), "last one seen": last, "straight line": between}
    for name, guess in trivial.items():
        error = np.abs(guess - flows[hidden])
        rows.append({"predictor": name, "rmse": float(np.sqrt((error**2).mean())), "crps": float(error.mean())})
    return rows


COLUMNS = {  # heading, width, format
    "log_likelihood": ("log-lik", 9, ".2f"),
    "rhat": ("R-hat", 8, ".4f"),
    "ess": ("ESS", 6, ".0f"),
    "divergences": ("div.", 5, "d"),
    "loo": ("LOO", 8, ".1f"),
    "loo_se": ("+-", 6, ".1f"),
    "worst_k": ("max k", 7, ".2f"),
    "seconds": ("s", 6, ".0f"),
}


def print_tables(rows: dict[str, list[dict]], filled: list[dict]) -> None:
    for title, group in rows.items():
        headings = "".join(f"{heading:>{width}}" for heading, width, _ in COLUMNS.values())
        print(f"\n{title}\n{'method':15}{'variances: mean [90 %]':62}{headings}")
        for row in group:
            values = [f"{value:.1f}" if value > 1 else f"{value:.1e}" for value in row["variances"]]
            if "interval" in row:
                values = [f"{v} [{a:.0f}, {b:.0f}]" for v, (a, b) in zip(values, row["interval"], strict=True)]
            cells = [
                f"{row[key]:>{width}{kind}}" if key in row else f"{'-':>{width}}"
                for key, (_, width, kind) in COLUMNS.items()
            ]
            print(f"{row['method']:15}{', '.join(values):62}{''.join(cells)}")
    print(f"\n{'thirty hidden years':34}{'RMSE':>8}{'CRPS':>8}{'in 90 %':>9}")
    for row in filled:
        covered = f"{row['coverage_90']:9.2f}" if "coverage_90" in row else f"{'-':>9}"
        print(f"{row['predictor']:34}{row['rmse']:8.1f}{row['crps']:8.1f}{covered}")


# %% Plot
def plot_series(whole: Posterior, gapped: Posterior, data: ps.Sequences, gaps: ps.Sequences, num_samples: int):
    """Smoothed level and forecast from all years; below, imputations of the hidden ones."""
    figure = style.new_figure(8.0, 6.2)
    top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
    past = ps.reconstruct(whole, data, num_samples=num_samples)
    future = ps.forecast(whole, data, horizon=HORIZON, num_samples=num_samples)
    level = past.latents["states"][:, 0, :, 0]
    fan(top, data.times, level, "level, 90 %", style.MODEL)
    fan(top, future.times, future.samples[:, 0, :, 0], "forecast of the flow, 90 %", style.ACCENT)
    top.plot(data.times, data.values[0, :, 0], ".", color=style.TRUTH, markersize=4, label="flow")
    style.tidy(top, title="All years seen: level and forecast", y="10$^8$ m$^3$ a year")
    hidden = ~gaps.mask[0]
    filled = ps.impute(gapped, gaps, num_samples=num_samples)
    for start, stop in spans(hidden):
        part = slice(start, stop)
        label = "imputed flow, 90 %" if start == spans(hidden)[0][0] else ""
        fan(bottom, data.times[part], filled.samples[:, 0, part, 0], label, style.ACCENT)
    level = filled.latents["states"][:, 0, :, 0]
    fan(bottom, data.times, level, "level, 90 %", style.MODEL)
    bottom.plot(data.times[~hidden], data.values[0, ~hidden, 0], ".", color=style.TRUTH, markersize=4, label="seen")
    ring = {"color": style.TRUTH, "markersize": 4, "markerfacecolor": "white"}
    bottom.plot(data.times[hidden], data.values[0, hidden, 0], "o", label="hidden", **ring)
    style.tidy(bottom, title="1890-1909 and 1940-1949 hidden", x="year", y="10$^8$ m$^3$ a year")
    for axes in (top, bottom):
        style.add_legend(axes, loc="upper right", ncols=4)
    return figure


def fan(axes, times: Tensor, draws: Tensor, label: str, color: str) -> None:
    low, middle, high = draws.quantile(torch.tensor([0.05, 0.5, 0.95], dtype=draws.dtype), dim=0)
    axes.fill_between(times, low, high, color=color, alpha=0.25, linewidth=0, label=label)
    axes.plot(times, middle, color=color, linewidth=1.4)


def spans(flags: Tensor) -> list[tuple[int, int]]:
    """Where runs of True begin and end."""
    edges = torch.nn.functional.pad(flags.int(), (1, 1)).diff().nonzero().flatten().tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def plot_variances(posteriors: dict[str, Tensor], best: Tensor):
    """Draws of the two variances by SVI and by NUTS, with the maximum of the likelihood."""
    figure = style.new_figure(8.0, 2.8)
    panels = figure.subplots(1, 3)
    for color, (name, draws) in zip((style.ACCENT, style.MODEL), posteriors.items(), strict=True):
        for component, panel in enumerate(panels[:2]):
            end = float(best[component]) * (2, 6)[component]
            options = {"bins": 40, "range": (0.0, end), "density": True, "histtype": "step"}
            panel.hist(draws[:, component], color=color, label=name, **options)
        panels[2].semilogy(*draws[:500].T, ".", color=color, markersize=2.5, alpha=0.6, label=name)
    for component, panel in enumerate(panels[:2]):
        panel.axvline(best[component], color=style.TRUTH, linewidth=1, label="maximum likelihood")
        style.tidy(panel, title=f"variance of the {COMPONENTS[component]}")
        panel.locator_params(axis="x", nbins=4)
        panel.set_yticks([])
    panels[2].semilogy(*best, "+", color=style.TRUTH, markersize=9)
    style.tidy(panels[2], title="jointly", x=COMPONENTS[0], y=COMPONENTS[1])
    style.add_legend(panels[1])
    return figure


def plot_predictive_check(posterior: Posterior, data: ps.Sequences, num_samples: int):
    """Replicates of the whole series beside the data, by density and by three statistics."""
    replicates = ps.reconstruct(posterior, data, num_samples=num_samples).samples[:, 0, :, 0].numpy()
    flows = data.values[0, :, 0].numpy()
    statistics = {
        "standard deviation": lambda paths: paths.std(-1),
        "lowest flow": lambda paths: paths.min(-1),
        "correlation of neighbours": neighbour_correlation,
    }
    figure = style.new_figure(9.0, 2.6)
    first, *others = figure.subplots(1, 4)
    edges = np.linspace(300, 1600, 27)
    for path in replicates[:60]:
        first.stairs(np.histogram(path, edges, density=True)[0], edges, color=style.MODEL, alpha=0.12)
    first.stairs(np.histogram(flows, edges, density=True)[0], edges, color=style.TRUTH, linewidth=1.5)
    style.tidy(first, title="flow, 60 replicates")
    first.set_yticks([])
    for panel, (name, statistic) in zip(others, statistics.items(), strict=True):
        drawn, seen = statistic(replicates), float(statistic(flows))
        panel.hist(drawn, bins=30, color=style.MODEL, alpha=0.5)
        panel.axvline(seen, color=style.TRUTH)
        style.tidy(panel, title=f"{name}\np = {(drawn > seen).mean():.2f}")
        panel.locator_params(axis="x", nbins=4)
        panel.set_yticks([])
    return figure


def neighbour_correlation(paths: np.ndarray) -> np.ndarray:
    centred = paths - paths.mean(-1, keepdims=True)
    return (centred[..., 1:] * centred[..., :-1]).sum(-1) / (centred**2).sum(-1)


# %% Run
def main() -> None:
    options = arguments()
    torch.set_num_threads(1)  # the tensors are small
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    whole, gaps = load()
    draws, warmup, chains = (10, 10, 2) if options.smoke else (options.draws, options.warmup, 4)
    steps = 20 if options.smoke else 800
    svi = ps.SVI(num_steps=steps, learning_rate=0.03, num_particles=8, schedule=schedules.Cosine(steps))
    nuts = ps.MCMC(ps.NUTS(target_accept=0.9), num_samples=draws, warmup_steps=warmup, num_chains=chains)

    rows: dict[str, list[dict]] = {}
    posteriors = {}
    for title, data, order in (("all years", whole, 1), ("all years", whole, 2), ("thirty years hidden", gaps, 1)):
        group = rows.setdefault(f"{NAMES[order]}, {title}", [])
        for name, maximum in (("ML", maximise(data, order)), ("ML statsmodels", maximise_by_statsmodels(data, order))):
            if maximum is not None:
                group.append({"method": name, "variances": maximum[0].tolist(), "log_likelihood": maximum[1]})
        for name, method in (("SVI", svi), ("NUTS", nuts)):
            if name == "NUTS" and order == 2 and not options.all:
                continue
            posterior, seconds = fit(data, order, method)
            posteriors[name, order, title] = posterior
            group.append(row_of(name, posterior, data, draws * chains, seconds))
    gapped = {f"local level, {name}": posteriors[name, 1, "thirty years hidden"] for name in ("SVI", "NUTS")}
    filled = imputation_rows(gapped, whole, gaps, draws * chains)
    print_tables(rows, filled)
    (out / "scores.json").write_text(json.dumps({"fits": rows, "hidden years": filled}, indent=1))

    exact = posteriors["NUTS", 1, "all years"]
    plot_series(exact, gapped["local level, NUTS"], whole, gaps, draws * chains).savefig(out / "level.png", dpi=150)
    both = {name: posteriors[name, 1, "all years"].draws(whole, draws * chains)["scales"] for name in ("SVI", "NUTS")}
    variances = {name: variances_of(exact.model, scales[:, 0]) for name, scales in both.items()}
    best = torch.tensor(rows["local level, all years"][0]["variances"])
    plot_variances(variances, best).savefig(out / "variances.png", dpi=150)
    plot_predictive_check(exact, whole, draws * chains).savefig(out / "predictive_check.png", dpi=150)
    idata = diagnostics.to_arviz(exact, whole.extend(horizon=HORIZON), seed=0)
    diagnostics.save_netcdf(idata, out / "posterior.nc")
    diagnostics.plot_trace(idata, ["scales"]).savefig(out / "trace.png", dpi=150)
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=600, help="kept from each of four chains")
    parser.add_argument("--warmup", type=int, default=300, help="steps of adaptation of each chain")
    parser.add_argument("--all", action="store_true", help="NUTS for the model with a slope too, some minutes more")
    parser.add_argument("--out", default="results/kalman_nile", help="folder for pictures, table and NetCDF")
    parser.add_argument("--smoke", action="store_true", help="a few draws, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
