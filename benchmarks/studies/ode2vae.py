"""Train ODE2VAE by variational inference, forecast with uncertainty, score against trivial baselines, draw pictures.

python -m benchmarks.studies.ode2vae                     rotating digits, nothing to download, a few minutes
python -m benchmarks.studies.ode2vae --data mnist        rotating MNIST threes; the first three frames give all sixteen
python -m benchmarks.studies.ode2vae --data mocap        walking (CMU subject 35); three frames give the next 297
python -m benchmarks.studies.ode2vae --data mocap-units  the same, each joint angle in a unit of its own
python -m benchmarks.studies.ode2vae --data mocap-bayes  as mocap-units, with a Bayesian field
python -m benchmarks.studies.ode2vae --data mocap-tempo  as mocap with a latent tempo, learned on train and validation
python -m benchmarks.studies.ode2vae --data mocap-bayes-tempo    a Bayesian field and a latent tempo, on train alone
python -m benchmarks.studies.ode2vae --data balls        bouncing balls; three frames give the next ten
"""

# %% Set-up
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import pyro_seq as ps
from benchmarks.studies._ensembles import ensemble_row
from pyro_seq import datasets, diagnostics
from pyro_seq.predict.evaluate import Task
from pyro_seq.training import schedules, views


@dataclass(frozen=True)
class Recipe:
    """Data, a model for them, how to train it, and what to ask of it."""

    train: ps.Sequences
    test: ps.Sequences
    model: Callable[[], ps.ODE2VAE]
    method: ps.SVI
    num_observed: int
    tasks: dict[str, tuple[Task, int]] = field(default_factory=dict)  # with the number of test frames they use
    num_seeds: int = 1
    unit: str = "frames"

    @property
    def is_image(self) -> bool:
        """Whether observations are images."""
        return len(self.test.obs_shape) == 3


# %% Data and models: one recipe a data set
def digits(order: int) -> Recipe:
    """All ten digits of scikit-learn's bundled images, enlarged to 16 x 16; five frames seen, eleven never."""
    train, _, test = datasets.rotating_digits(
        source=datasets.BundledDigits(size=16), digits=range(10), num_train=1400, num_test=200
    )
    test = ps.Sequences(torch.cat([test.values, test.values], 1))  # a second turn, longer than any training sequence
    tasks = {
        "reconstruction": (ps.Reconstruction(), 16),
        "forecast of 11 after 5": (ps.Forecasting(5), 16),
        "forecast of 27 after 5": (ps.Forecasting(5), 32),
        "imputation of 30 %": (ps.Imputation(0.3, num_kept=1), 16),
    }
    return Recipe(
        train, test, lambda: image_model(train.obs_shape, 16, order), image_method(4000, num_frames=8), 5, tasks
    )


def mnist(order: int) -> Recipe:
    """MNIST threes, 500 to train and 100 to test."""
    train, _, test = datasets.rotating_digits(source=datasets.MNIST(), num_train=500, num_test=100)
    tasks = {"all 16 from the first 3": (ps.Reconstruction(), 16), "forecast of 13 after 3": (ps.Forecasting(3), 16)}
    return Recipe(
        train, test, lambda: image_model(train.obs_shape, 24, order), image_method(6000, num_frames=4), 3, tasks
    )


def flow_of(state_dim: int, order: int, **options: object) -> ps.Flow:
    """A flow of the wanted order whose whole state is as large as that of the second order."""
    return ps.Flow(2 * state_dim // order, order=order, **options)


def image_model(obs_shape: tuple[int, ...], state_dim: int, order: int) -> ps.ODE2VAE:
    """Convolutional parts; a frame is 0.4 in model time, so that a turn of 16 frames has the angular speed one."""
    flow = flow_of(state_dim, order, solver=ps.RK4(step_size=0.8))
    vector_field = ps.BayesianMLP(flow.state_dim, flow.dim, (64, 64))
    emission = ps.GaussianEmission(ps.ConvDecoder(flow.dim, obs_shape))
    return ps.ODE2VAE(
        obs_shape, flow=flow, vector_field=vector_field, emission=emission, time_step=0.4, has_path_kl=True
    )


def image_method(num_steps: int, num_frames: int) -> ps.SVI:
    """A full turn ends where it began, so any frame may come first; a step decodes the first three and some others.

    The divergence along the path keeps it where the prior is, and with it forecasts beyond the training length. Its
    weight was chosen among 0, 0.05, 0.3 and 1 by the forecast error on 150 further digits.
    """
    return ps.SVI(
        num_steps=num_steps,
        batch_size=32,
        learning_rate=2e-3,
        schedule=schedules.Cosine(num_steps, warmup=200),
        clip_norm=5.0,
        average=0.995,
        scales={"initial": schedules.WarmUp(500), "x": 16 / (3 + num_frames), "path_kl": 0.3},
        views=[views.CyclicShift(), views.RandomSteps(num_frames, keep=3)],
    )


def mocap(order: int) -> Recipe:
    """Walking, 16 sequences of 300 frames; nothing is selected on validation or test."""
    train, _, test = datasets.cmu_walking()
    return mocap_recipe(train, test, order, num_steps=600)


def mocap_units(order: int) -> Recipe:
    """Walking, each joint angle in its own unit."""
    train, _, test = datasets.cmu_walking()
    return mocap_recipe(train, test, order, num_steps=600, units_shape=train.obs_shape)


def mocap_bayes(order: int) -> Recipe:
    """Walking with a Bayesian field; the recipe was chosen on held-out training and validation sequences."""
    train, _, test = datasets.cmu_walking()
    return mocap_recipe(train, test, order, num_steps=600, units_shape=train.obs_shape, is_bayesian=True)


def mocap_tempo(order: int) -> Recipe:
    """Walking with a latent tempo; its population is learned on the training and the validation sequences together."""
    train, validation, test = datasets.cmu_walking()
    both = ps.Sequences(torch.cat([train.values, validation.values]))
    return mocap_recipe(both, test, order, num_steps=1000, has_tempo=True)


def mocap_bayes_tempo(order: int) -> Recipe:
    """Walking with both, chosen by the error on the three validation sequences, which train nothing."""
    train, _, test = datasets.cmu_walking()
    options = {"units_shape": train.obs_shape, "is_bayesian": True, "has_tempo": True}
    return mocap_recipe(train, test, order, num_steps=600, **options)


def mocap_recipe(
    train: ps.Sequences,
    test: ps.Sequences,
    order: int,
    *,
    num_steps: int,
    has_tempo: bool = False,
    units_shape: tuple[int, ...] = (),
    is_bayesian: bool = False,
) -> Recipe:
    """Walking: one unit and noise scale for all joint angles, `units_shape` ``()``, or those of each.

    Frames of training are eight apart, and so are the steps of its solver; predictions take a step a frame.
    """

    def model() -> ps.ODE2VAE:
        shape, flow = train.obs_shape, flow_of(6, order, solver=ps.RK4(step_size=8 * 0.05))
        lengths = (1, 3) if order == 2 else (3,)
        windows = [ps.FrameWindow(ps.MLPTrunk(frames, shape, noise=0.6), frames, flow.dim) for frames in lengths]
        return ps.ODE2VAE(
            shape,
            flow=flow,
            vector_field=ps.BayesianMLP(
                flow.state_dim, flow.dim, is_bayesian=is_bayesian, initial_scale=0.03 if is_bayesian else None
            ),
            encoder=ps.InitialStateEncoder(*windows, units=ps.Standardise(shape)),
            emission=ps.GaussianEmission(
                ps.MLPDecoder(flow.dim, shape),
                initial_scale=0.37,
                minimum_scale=0.02,
                units=ps.Standardise(units_shape),
            ),
            tempo=ps.SeriesTempo(train.num_series, initial_spread=0.05) if has_tempo else None,
            time_step=0.05,
        )

    method = ps.SVI(
        num_steps=num_steps,
        batch_size=16,
        learning_rate=3e-3,
        schedule=schedules.Cosine(num_steps, warmup=100, final=0.02),
        clip_norm=1.0,
        average=0.99,
        scales={"weights": 1 / 8} if is_bayesian else {},  # a step sees one frame in eight of its windows
        views=[
            views.RandomWindows(schedules.WarmUp(num_steps // 2, value=300, start=60), at_start=0.3, shortest=64),
            views.Thin(8, keep=3),
        ],
    )
    return Recipe(
        train, test, model, method, 3, {"forecast of 297 after 3": (ps.Forecasting(3), 300)}, 10, "frames of 1/120 s"
    )


def balls(order: int) -> Recipe:
    """Three balls in a box; three frames seen, ten predicted."""
    train, _, test = datasets.bouncing_balls(num_balls=3, num_train=3000, num_test=200, num_steps=20)
    flow = flow_of(25, order)

    def model() -> ps.ODE2VAE:
        vector_field = ps.BayesianMLP(flow.state_dim, flow.dim, (100, 100))
        return ps.ODE2VAE(train.obs_shape, flow=flow, vector_field=vector_field, time_step=0.2)

    method = replace(
        image_method(5000, num_frames=10),
        scales={"initial": schedules.WarmUp(500)},
        views=[views.RandomWindows(13, at_start=0.0, shortest=13), views.GrowingLength(5, full_at=2500)],
    )
    return Recipe(train, test, model, method, 3, {"forecast of 10 after 3": (ps.Forecasting(3), 13)})


RECIPES = {
    "digits": digits,
    "mnist": mnist,
    "mocap": mocap,
    "mocap-units": mocap_units,
    "mocap-bayes": mocap_bayes,
    "mocap-tempo": mocap_tempo,
    "mocap-bayes-tempo": mocap_bayes_tempo,
    "balls": balls,
}


def smoke(recipe: Recipe) -> Recipe:
    """The same at a size that only shows that everything runs."""
    is_all = recipe.model().tempo is not None  # a tempo is kept for each training series
    return replace(
        recipe,
        train=recipe.train if is_all else recipe.train[:64],
        test=recipe.test[:8],
        method=replace(recipe.method, num_steps=20),
        num_seeds=1,
    )


# %% Fit
def fit(recipe: Recipe, seed: int, out: Path, options: argparse.Namespace) -> tuple[ps.GuidePosterior, float]:
    """Train one model; also the wall seconds it took."""
    torch.manual_seed(seed)
    accelerator = {"auto": "auto", "cpu": "cpu"}.get(options.device, "gpu")
    trainer = ps.Trainer(
        directory=out / f"seed_{seed}",
        resume=options.resume,
        accelerator=accelerator,
        progress=not options.quiet,
        log_every=20,
    )
    start = time.perf_counter()
    posterior = ps.fit(recipe.model(), recipe.train, recipe.method, seed=seed, trainer=trainer)
    seconds = time.perf_counter() - start
    posterior.model.to(device_of(options))
    return posterior, seconds


def device_of(options: argparse.Namespace) -> torch.device:
    if options.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(options.device)


# %% Check: every task beside the trivial baselines
def rows_of(recipe: Recipe, posteriors: list[ps.GuidePosterior], num_samples: int) -> list[dict]:
    """One row for each task and predictor: means over series, and over seeds their mean and standard deviation."""
    rows = []
    for name, (task, num_steps) in recipe.tasks.items():
        test = recipe.test.first(num_steps)
        scores = [
            ps.evaluate(posterior, test, task, num_samples=num_samples, chunk_size=10) for posterior in posteriors
        ]
        values = {key: torch.tensor([score.means()[key] for score in scores]) for key in scores[0].means()}
        predictor = {1: "neural ODE", 2: "ODE2VAE"}[posteriors[0].model.flow.order]
        row = {"task": name, "predictor": predictor} | {key: float(value.mean()) for key, value in values.items()}
        if len(scores) > 1:
            row["mse_sd"] = float(values["mse"].std())
            row["mse_by_seed"] = [round(float(value), 4) for value in values["mse"]]
        row["mse_by_series"] = [round(float(mse), 4) for mse in torch.stack([score.mse for score in scores]).mean(0)]
        rows.append(row)
        if (pooled := ensemble_row(posteriors, test, task, num_samples=num_samples)) is not None:
            rows.append({"task": name} | pooled)
        for baseline in ps.evaluate_baselines(recipe.train, test, task):
            if baseline.name == "last frame" and isinstance(task, ps.Reconstruction):
                continue  # a seen frame is its own last frame
            rows.append({"task": name, "predictor": baseline.name} | baseline.means())
    return rows


def print_table(rows: list[dict]) -> None:
    print(f"\n{'task':26}{'predictor':26}{'MSE':>18}{'CRPS':>9}{'50 %':>8}{'90 %':>8}")
    for row in rows:
        error = f"{row['mse']:.4f}" + (f" +- {row['mse_sd']:.4f}" if "mse_sd" in row else "")
        shares = "".join("       -" if row[key] != row[key] else f"{row[key]:8.3f}" for key in COVERAGES)
        print(f"{row['task']:26}{row['predictor']:26}{error:>18}{row['crps']:9.4f}{shares}")
    for row in rows:
        if len(row.get("mse_by_series", [])) in range(2, 11):
            print(f"{row['task']}, MSE by test sequence: {row['mse_by_series']}")
        if "mse_by_seed" in row:
            print(f"{row['task']}, MSE by seed: {row['mse_by_seed']}")


COVERAGES = ("coverage_50", "coverage_90")


# %% Plot
def draw(recipe: Recipe, posterior: ps.GuidePosterior, out: Path) -> None:
    """Pictures of the first test series, and of what the model learned."""
    longest = max(num_steps for _, num_steps in recipe.tasks.values())
    test, seen = recipe.test[:12].first(longest), recipe.num_observed
    whole = predict_all(posterior, test, seen)
    diagnostics.plot_learning_curve(posterior.history, smoothing=0.9).savefig(out / "learning.png", dpi=150)
    if recipe.is_image:
        rows = diagnostics.frame_rows(whole, test, series=0)
        diagnostics.plot_sequences(rows, num_observed=seen).savefig(out / "forecast.png", dpi=150)
        diagnostics.save_gif(out / "forecast.gif", rows, num_observed=seen)
    else:
        entries = whole.mean[0].std(0).topk(3).indices.tolist()
        fan = diagnostics.plot_forecast_fan(
            whole, test, entries=entries, num_observed=seen, unit=recipe.unit, value_label="degrees"
        )
        fan.savefig(out / "forecast.png", dpi=150)
    diagnostics.plot_phase_portrait(posterior.model, whole).savefig(out / "phase.png", dpi=150)
    future = ps.forecast(posterior, ps.Forecasting(seen).given(test))
    curve = diagnostics.calibration_curve(future.samples, test.values[:, seen:], mask=test.mask[:, seen:])
    diagnostics.plot_calibration(curve).savefig(out / "calibration.png", dpi=150)


def predict_all(posterior: ps.GuidePosterior, test: ps.Sequences, num_observed: int) -> ps.Prediction:
    """Seen steps as the model explains them, and the others as it forecasts them, from the same draws."""
    given = ps.Forecasting(num_observed).given(test)
    past, future = ps.reconstruct(posterior, given, num_samples=50), ps.forecast(posterior, given, num_samples=50)
    names = ("samples", "emission_means")
    samples, means = (torch.cat([getattr(part, name) for part in (past, future)], 2) for name in names)
    return ps.Prediction(samples, means, future.latents, test.times)


def export(recipe: Recipe, posterior: ps.GuidePosterior, out: Path) -> None:
    """Posterior of a few series, with the field's outputs at probe states, for ArviZ."""
    given = ps.Forecasting(recipe.num_observed).given(recipe.test[:4].first(recipe.train.num_steps))
    initial = posterior.draws(given, 1)["initial"][0]
    idata = diagnostics.to_arviz(posterior, given, num_samples=200, sites=["initial", "path"], probes=initial[:2])
    diagnostics.save_netcdf(idata, out / "posterior.nc")
    for name in ("initial", "field"):
        diagnostics.plot_trace(idata, [name], max_entries=4).savefig(out / f"trace_{name}.png", dpi=150)
    print("\nPosterior of the first initial state:")
    print(diagnostics.summary(idata, ["initial"]).head(4).to_string())


# %% Run
def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    out = Path(options.out or f"results/ode2vae_{options.data}")
    if (out / "seed_0").exists() and not options.resume:
        raise SystemExit(f"{out} holds an earlier run. Go on with it by --resume, or choose another folder by --out.")
    recipe = RECIPES[options.data](options.order)
    recipe = smoke(recipe) if options.smoke else recipe
    device = device_of(options)
    recipe = replace(recipe, train=recipe.train.to(device), test=recipe.test.to(device))
    print(f"train {recipe.train}\ntest  {recipe.test}")

    seeds = range(options.seeds or recipe.num_seeds)
    runs = [fit(recipe, seed, out, options) for seed in seeds]
    posteriors = [posterior for posterior, _ in runs]
    if any(posterior.status == "interrupted" for posterior in posteriors):
        print(f"Interrupted. Go on with --resume; what there is was saved in {out}.")

    rows = rows_of(recipe, posteriors, num_samples=8 if options.smoke else 100)
    print_table(rows)
    seconds = [round(second, 1) for _, second in runs]
    print(f"\ntraining: {seconds} s of wall time, {torch.get_num_threads()} threads, {device}")
    ps.save(posteriors[0], out / "model.pt")
    record = {"data": options.data, "seconds": seconds, "threads": torch.get_num_threads(), "device": str(device)}
    (out / "scores.json").write_text(json.dumps(record | {"rows": rows}, indent=1))
    draw(recipe, posteriors[0], out)
    export(recipe, posteriors[0], out)
    print(f"\nwritten to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=RECIPES, default="digits", help="data set")
    parser.add_argument("--order", type=int, choices=(1, 2), default=2, help="of the equation; 1 is a neural ODE")
    parser.add_argument("--seeds", type=int, help="number of seeds; ten for mocap, else one, when absent")
    parser.add_argument("--threads", type=int, default=1, help="more than one is slower here: the tensors are small")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", help="folder for pictures, checkpoints, NetCDF; results/ode2vae_<data> when absent")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a little data, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
