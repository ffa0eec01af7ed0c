r"""What each posterior of a random field knows about what it does not know: a pendulum from few noisy swings.

.. math::
    \ddot s = f(s, \dot s), \qquad f^\star = -\sin s - 0.15\, \dot s, \qquad x_t = (s_t, \dot s_t) + 0.15\, \epsilon_t

The field f is a network of 33 weights, all that is random: the start of each series is given, and so is the noise. Six
swings of up to 1.2 radians and 12 frames teach it. Forecasts start from one frame, of further swings like those and of
wide ones, of 1.6 to 1.95 radians, where nothing was seen, and are twice as long.

python -m benchmarks.studies.weight_posteriors            some twenty minutes on one core
python -m benchmarks.studies.weight_posteriors --smoke    a few steps, to see that it runs
"""

# %% Set-up
from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import arviz
import pyro.distributions as dist
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq import _style as style
from pyro_seq import diagnostics, metrics
from pyro_seq.nn.weight_posterior import FullCovariance, LowRank, MeanField
from pyro_seq.posterior import Posterior, StoredPosterior
from pyro_seq.training import schedules

NOISE, STEP, NUM_STEPS = 0.15, 0.5, 24
NUM_SEEN = 12  # frames of training
INSIDE, OUTSIDE = (0.3, 1.2), (1.6, 1.95)  # radians, of the first amplitude
ENSEMBLE = 5
EXACT = "chains, ChEES"  # takes minutes a seed
NUM_DRAWS = 400  # of each forecast and field
# where the field is looked at, at rest
PROBES = {"inside": torch.linspace(-1.2, 1.2, 13), "outside": torch.tensor([-1.9, -1.75, -1.6, 1.6, 1.75, 1.9])}
QUIET = ps.Trainer(progress=False)


# %% Data
class Pendulum(nn.Module):
    """The true acceleration."""

    def forward(self, state: Tensor) -> Tensor:
        """Of position and velocity (..., 2)."""
        return -state[..., :1].sin() - 0.15 * state[..., 1:]


def swings(num_series: int, amplitudes: tuple[float, float], seed: int) -> ps.Sequences:
    """Noisy positions and velocities of released pendulums; the first frame, where they start, without noise."""
    generator = torch.Generator().manual_seed(seed)
    size, angle = torch.rand(2, num_series, generator=generator)
    size = amplitudes[0] + (amplitudes[1] - amplitudes[0]) * size
    start = size[:, None] * torch.stack([(2 * math.pi * angle).cos(), (2 * math.pi * angle).sin()], -1)
    path = ps.Flow(1, solver=ps.RK4(step_size=0.05))(Pendulum(), start, STEP * torch.arange(NUM_STEPS)).path
    noise = NOISE * torch.randn(path.shape, generator=generator)
    noise[:, 0] = 0.0
    return ps.Sequences(path + noise)


# %% Model: only the field is random
class Swing(ps.SequenceModel):
    """Paths from the first frame along a random field of second order, with known noise."""

    dims = {"weights": ("weight",), "path": ("time", "state")}  # noqa: RUF012
    is_conditional = True  # the first frame is where a path starts

    def __init__(self, vector_field: nn.Module) -> None:
        super().__init__()
        self.obs_shape = (2,)
        self.vector_field = vector_field
        self.flow = ps.Flow(1, solver=ps.RK4(step_size=STEP))

    def model(self, data: ps.Sequences) -> None:
        """Draw a field, follow it from the first frame, and add noise."""
        self.bind()
        function = self.vector_field.prior()
        with self.series(data):
            start = data.values[:, 0]
            start = start.expand(*function(start).shape[:-1], 2)  # one for each draw of the field
            path = self.flow(function, start, STEP * self.exact_times(data)).path
            self.observe(lambda states: dist.Normal(states, NOISE), path, data)

    def guide(self, data: ps.Sequences) -> None:
        """The posterior of the weights."""
        self.bind()
        self.vector_field.posterior()


def network(**options: object) -> ps.BayesianMLP:
    """Eight hidden units; weights of half the usual width make functions of the size of the true one."""
    return ps.BayesianMLP(2, 1, (8,), prior_scale=0.5, **options)


# %% Methods: each gives posteriors whose draws are pooled
def by_guide(guide: object, method: ps.SVI, train: ps.Sequences, seed: int) -> list[Posterior]:
    """Variational inference with one family."""
    torch.manual_seed(seed)
    return [ps.fit(Swing(network(guide=guide)), train, method, seed=seed, trainer=QUIET)]


def by_likelihood(method: ps.SVI, train: ps.Sequences, seed: int) -> Posterior:
    """One field without random weights."""
    torch.manual_seed(seed)
    return ps.fit(Swing(network(is_bayesian=False)), train, method, seed=seed, trainer=QUIET)


def by_chains(method: ps.SVI, length: float, train: ps.Sequences, seed: int) -> list[Posterior]:
    """Hamiltonian chains that start at draws of a mean field, whose time counts."""
    start = by_guide(MeanField(0.05), method, train, seed)[0]
    lengths = {"num_samples": math.ceil(250 * length), "warmup_steps": math.ceil(200 * length)}
    run = ps.MCMC(ps.ChEES(target_accept=0.65), num_chains=12, **lengths, start=start)
    return [ps.fit(start.model, train, run, seed=seed, trainer=QUIET)]


def by_minibatches(method: ps.SVI, length: float, train: ps.Sequences, seed: int) -> list[Posterior]:
    """Langevin chains without correction that start there too, on half of the swings a step."""
    start = by_guide(MeanField(0.05), method, train, seed)[0]
    lengths = {"num_samples": math.ceil(250 * length), "warmup_steps": math.ceil(1_000 * length), "thinning": 10}
    run = ps.SGLD(step_size=0.1, batch_size=3, num_chains=12, **lengths, start=start)
    return [ps.fit(start.model, train, run, seed=seed, trainer=QUIET)]


def methods(num_steps: int, length: float = 1.0) -> dict[str, Callable[[ps.Sequences, int], list[Posterior]]]:
    """Rows of the table, chains of so many times the usual length; another way is one more entry."""

    def svi(num_particles: int) -> ps.SVI:
        schedule = schedules.Cosine(num_steps, warmup=num_steps // 20)
        return ps.SVI(
            num_steps=num_steps, learning_rate=1e-2, num_particles=num_particles, schedule=schedule, clip_norm=100.0
        )

    guides = {
        "mean field": MeanField(0.05),
        "low rank, 8 directions": LowRank(8, 0.05),
        "full covariance": FullCovariance(0.05),
    }
    found = {name: partial(by_guide, guide, svi(8)) for name, guide in guides.items()}
    members: dict[int, Posterior] = {}  # one field is the first of its ensemble

    def ensemble(size: int, train: ps.Sequences, seed: int) -> list[Posterior]:
        wanted = range(100 * seed, 100 * seed + size)
        members.update({one: by_likelihood(svi(1), train, one) for one in wanted if one not in members})
        return [members[one] for one in wanted]

    found["one deterministic field"] = partial(ensemble, 1)
    found[f"ensemble of {ENSEMBLE}"] = partial(ensemble, ENSEMBLE)
    found["chains, SGLD"] = partial(by_minibatches, svi(8), length)
    found[EXACT] = partial(by_chains, svi(8), length)
    return found


# %% Scores
def draws_of(posteriors: Sequence[Posterior], test: ps.Sequences, num_samples: int) -> Tensor:
    """Forecasts of all but the first frame, (sample, series, time, obs), the same number of each posterior."""
    each = num_samples // len(posteriors)
    horizon = test.num_steps - 1
    return torch.cat(
        [ps.forecast(part, test.first(1), horizon=horizon, num_samples=each, seed=1).samples for part in posteriors]
    )


def scores_of(samples: Tensor, test: ps.Sequences) -> dict[str, float]:
    """Error of the mean, CRPS, share that central intervals hold, and the mean width of the 90 % one."""
    truth = test.values[:, 1:]
    low, high = samples.quantile(torch.tensor([0.05, 0.95]), dim=0)
    scores = {
        "mse": metrics.mse(samples.mean(0), truth),
        "crps": metrics.crps(samples, truth),
        "coverage_50": metrics.coverage(samples, truth, 0.5),
        "coverage_90": metrics.coverage(samples, truth, 0.9),
        "width_90": (high - low).mean(),
    }
    return {name: float(value) for name, value in scores.items()}


def field_scores(posteriors: Sequence[Posterior], place: str) -> dict[str, float]:
    """Error of the mean field at the probes, and mean width of its 90 % interval."""
    probes = torch.stack([PROBES[place], torch.zeros_like(PROBES[place])], 1)
    each, like = NUM_DRAWS // len(posteriors), swings(1, INSIDE, seed=0)
    draws = torch.cat(
        [
            diagnostics.field_at(part.model, part.draws(like, each, seed=1), probes)[..., 0].expand(each, -1)
            for part in posteriors
        ]
    )
    low, high = draws.quantile(torch.tensor([0.05, 0.95]), dim=0)
    error = (draws.mean(0) - Pendulum()(probes)[..., 0]).square().mean().sqrt()
    return {"field_error": float(error), "field_width": float((high - low).mean())}


def mixing_of(posteriors: Sequence[Posterior], seconds: float) -> dict[str, float]:
    """The worst R-hat and effective size of the field at the probes inside, of chains."""
    if not isinstance(posteriors[0], StoredPosterior):
        return {}
    weights = posteriors[0].sites["weights"]
    probes = torch.stack([PROBES["inside"], torch.zeros_like(PROBES["inside"])], 1)
    flat = {"weights": weights.flatten(0, 1)[:, None]}
    draws = diagnostics.field_at(posteriors[0].model, flat, probes)[..., 0].unflatten(0, weights.shape[:2]).numpy()
    sizes = [float(arviz.ess(draws[..., entry])) for entry in range(draws.shape[-1])]
    worst = max(float(arviz.rhat(draws[..., entry])) for entry in range(draws.shape[-1]))
    stats = posteriors[0].sample_stats
    diverging = float(stats["diverging"].sum()) if "diverging" in stats else 0.0
    return {"rhat": worst, "ess": min(sizes), "ess_per_second": min(sizes) / seconds, "diverging": diverging}


def baseline_rows(train: ps.Sequences, tests: dict[str, ps.Sequences]) -> list[dict]:
    """The true field, which no method can beat, and predictors without a model."""
    true = ps.GuidePosterior(Swing(ps.DeterministicField(Pendulum())))
    rows = [{"method": "the true field"}]
    for place, test in tests.items():
        rows[0][place] = scores_of(draws_of([true], test, NUM_DRAWS), test)
        for baseline in ps.evaluate_baselines(train, test, ps.Forecasting(1)):
            row = next((row for row in rows if row["method"] == baseline.name), None)
            if row is None:
                rows.append(row := {"method": baseline.name})
            row[place] = {key: value for key, value in baseline.means().items() if key in ("mse", "crps")}
    return [row for row in rows if all(math.isfinite(row[place]["mse"]) for place in tests)]  # drift needs two frames


def averaged(records: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means over seeds, and of the error and the CRPS the standard deviation."""
    found: dict[str, dict[str, float]] = {}
    for place in records[0]:
        values = {key: torch.tensor([record[place][key] for record in records]) for key in records[0][place]}
        found[place] = {key: float(value.mean()) for key, value in values.items()}
        if len(records) > 1:
            found[place] |= {f"{key}_sd": float(values[key].std()) for key in ("mse", "crps")}
    return found


def print_table(rows: list[dict]) -> None:
    for place in ("inside", "outside"):
        print(f"\n{place:26}{'MSE':>10}{'CRPS':>10}{'50 %':>8}{'90 %':>8}{'width':>8}")
        for row in rows:
            cells = "".join(
                f"{row[place][key]:{width}}" if key in row[place] else f"{'-':>{width.split('.')[0]}}"
                for key, width in (
                    ("mse", "10.5f"),
                    ("crps", "10.4f"),
                    ("coverage_50", "8.2f"),
                    ("coverage_90", "8.2f"),
                    ("width_90", "8.3f"),
                )
            )
            print(f"{row['method']:26}{cells}")


# %% Plot
def draw(forecasts: dict[tuple[str, str], Tensor], tests: dict[str, ps.Sequences], out: Path) -> None:
    """Ninety percent of the position of one swing inside and one outside, by each method."""
    figure = style.new_figure(14.0, 4.6)
    panels = figure.subplots(2, len(forecasts) // 2, sharex=True, sharey="row", squeeze=False)
    times = STEP * torch.arange(1, NUM_STEPS)
    for column, name in enumerate(dict.fromkeys(name for name, _ in forecasts)):
        for panel, (place, test) in zip(panels[:, column], tests.items(), strict=True):
            low, middle, high = forecasts[name, place][:, 0, :, 0].quantile(torch.tensor([0.05, 0.5, 0.95]), dim=0)
            panel.fill_between(times, low, high, color=style.MODEL, alpha=0.3, linewidth=0)
            panel.plot(times, middle, color=style.MODEL, linewidth=1.2)
            panel.plot(times, test.values[0, 1:, 0], ".", color=style.TRUTH, markersize=3)
            is_top = place == "inside"
            style.tidy(panel, title=name if is_top else "", y=f"{place}, radians" if not column else "")
            panel.set_xlabel("" if is_top else "time", fontsize=9)
    figure.savefig(out / "weight_posteriors.png", dpi=150)


# %% Run
def record_of(
    fit: Callable[[ps.Sequences, int], list[Posterior]], train: ps.Sequences, tests: dict[str, ps.Sequences], seed: int
) -> dict:
    """What is kept of one fit."""
    start = time.process_time()
    posteriors = fit(train, seed)
    seconds = time.process_time() - start
    draws = {place: draws_of(posteriors, test, NUM_DRAWS) for place, test in tests.items()}
    scores = {place: scores_of(draws[place], test) | field_scores(posteriors, place) for place, test in tests.items()}
    first = {place: samples[:, :1].clone() for place, samples in draws.items()}  # for the picture
    return {"scores": scores, "first": first, "seconds": seconds, "mixing": mixing_of(posteriors, seconds)}


def row_of(name: str, records: Sequence[dict]) -> dict:
    """Means over seeds; of the mixing of chains the worst."""
    seconds = sum(record["seconds"] for record in records) / len(records)
    row = {"method": name, "seconds": seconds, "seeds": len(records)} | averaged([one["scores"] for one in records])
    for key in records[0]["mixing"]:
        values = [record["mixing"][key] for record in records]
        row[key] = min(values) if key.startswith("ess") else max(values)
    return row


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)  # the tensors are small
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    num_steps = 10 if options.smoke else options.steps
    seeds = range(1 if options.smoke else options.seeds)
    train = swings(6, INSIDE, seed=0).first(NUM_SEEN)
    tests = {"inside": swings(60, INSIDE, seed=1), "outside": swings(60, OUTSIDE, seed=2)}

    records: dict[str, list[dict]] = {}
    for name, fit in methods(num_steps, 0.02 if options.smoke else 1.0).items():
        for seed in seeds[: options.chain_seeds] if name == EXACT else seeds:
            kept = out / f"{name.replace(' ', '_').replace(',', '')}_{num_steps}_{seed}.pt"
            if not kept.exists():
                torch.save(record_of(fit, train, tests, seed), kept)
            records.setdefault(name, []).append(torch.load(kept, weights_only=True))
            print(f"{name}, seed {seed}: {records[name][-1]['seconds']:.0f} s of processor time", flush=True)
    rows = [row_of(name, found) for name, found in records.items()]
    forecasts = {(name, place): found[0]["first"][place] for name, found in records.items() for place in tests}
    rows += baseline_rows(train, tests)
    print_table(rows)
    draw(forecasts, tests, out)
    record = {"steps": num_steps, "rows": rows, "num_train": len(train), "num_test": len(tests["inside"])}
    (out / "scores.json").write_text(json.dumps(record, indent=1))
    print(f"\nwritten to {out}: scores.json, weight_posteriors.png")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400, help="of each fit")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; what was done is kept in the folder")
    parser.add_argument("--chain-seeds", type=int, help="fewer for ChEES, which takes longest")
    parser.add_argument("--out", default="results/weight_posteriors", help="folder for the scores and the picture")
    parser.add_argument("--smoke", action="store_true", help="a few steps, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
