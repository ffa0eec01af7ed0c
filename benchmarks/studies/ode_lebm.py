"""Train ODE-LEBM, score its predictions beside trivial ones, put its latents to other uses, draw pictures.

python -m benchmarks.studies.ode_lebm                                    irregular sinusoids, a few minutes on one core
python -m benchmarks.studies.ode_lebm --prior gaussian --inference svi   the Latent ODE on the same data
python -m benchmarks.studies.ode_lebm --learn all --share 0.1            training sees all points, a test one in ten
python -m benchmarks.studies.ode_lebm --start cold                       chains from noise at every step, as published
python -m benchmarks.studies.ode_lebm --data spiral                      also digits, balls, mujoco, physionet

Two flags span {Gaussian, energy} x {SVI, Langevin}. Walkers need pip install 'pyro_seq[mujoco]', intensive care needs
files: see `pyro_seq.datasets.physionet_2012`.
"""

# %% Set-up
from __future__ import annotations

import argparse
import copy
import functools
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import pyro_seq as ps
from benchmarks.studies._ode_lebm_pictures import draw
from benchmarks.studies._ode_lebm_scores import errors, inferred, trivial
from benchmarks.studies._ode_lebm_tasks import SETUPS, SHARES, Recipe, Task, build, energy_of, is_thinned
from benchmarks.studies._ode_lebm_uses import MOST_CHAINS, MOST_TRAINED, description, detection, generation
from pyro_seq import diagnostics
from pyro_seq.ops.langevin import MALA
from pyro_seq.training import schedules
from pyro_seq.training.views import GrowingLength


# %% Fit
@dataclass(frozen=True)
class TwoRates:
    """Adam for `SVI` with a rate of its own for the energy, as `MaximumLikelihood` has."""

    energy: nn.Module
    energy_rate: float

    def __call__(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """The optimiser."""
        slow = {id(parameter) for parameter in self.energy.parameters()}
        groups = [
            {"params": [parameter for parameter in parameters if id(parameter) not in slow], "lr": lr},
            {"params": [parameter for parameter in parameters if id(parameter) in slow], "lr": self.energy_rate},
        ]
        return torch.optim.Adam(groups, lr=lr)


class Training:
    """Trains in parts, each with a folder of its own to go on from."""

    def __init__(self, task: Task, recipe: Recipe, out: Path, options: argparse.Namespace) -> None:
        self.task, self.recipe, self.out, self.options = task, recipe, out, options
        self.is_variational, self.is_cold = options.inference == "svi", options.start == "cold"
        torch.manual_seed(options.seed)
        self.model = build(SETUPS[options.data], task, options)

    def run(self) -> ps.ChainPosterior | ps.GuidePosterior:
        """The bound first, then the bound or chains that start from the encoder; or cold chains alone."""
        num_steps = self.recipe.num_steps
        if self.is_cold and not self.is_variational:
            self.model.emission.log_scale.requires_grad_(False)  # learned from the start it runs up, as under the bound
            return self.part("cold", self.by_chains(num_steps, is_first=True))
        first = max(1, round(self.recipe.beginning * num_steps))
        rest = max(1, num_steps - first)
        self.hold(True)
        self.part("beginning", self.by_bound(first, is_first=True))
        self.hold(False)
        posterior = self.part("middle", self.by_bound(rest) if self.is_variational else self.by_chains(rest))
        if is_thinned(self.options):
            self.model.encoder.shares = SHARES
            self.distil(max(1, round(self.recipe.distilling * num_steps)))
        return posterior

    def hold(self, is_held: bool) -> None:
        """Let noise and energy wait until there is a path that they could fit."""
        self.model.emission.log_scale.requires_grad_(not is_held)
        if energy_of(self.model) is not None:
            energy_of(self.model).requires_grad_(not is_held)

    def part(self, name: str, method: ps.SVI | ps.MaximumLikelihood) -> ps.ChainPosterior | ps.GuidePosterior:
        """One fit."""
        trainer = ps.Trainer(
            directory=self.out / name, resume=self.options.resume, progress=not self.options.quiet, log_every=20
        )
        posterior = ps.fit(self.model, self.task.train, method, seed=self.options.seed, trainer=trainer)
        if posterior.status == "interrupted":
            raise SystemExit(f"Interrupted. Go on with --resume; what there is was saved in {self.out}.")
        picture = diagnostics.plot_learning_curve(posterior.history, smoothing=0.9)
        picture.savefig(self.out / f"learning_{name}.png", dpi=150)
        return posterior

    def distil(self, num_steps: int) -> None:
        """Teach the encoder to tell from a few points what it told from all of them; the rest of the model stays."""
        path, data = self.out / "encoder.pt", self.task.train
        if self.options.resume and path.exists():
            self.model.encoder.load_state_dict(torch.load(path))
            return
        teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
        torch.manual_seed(self.options.seed)
        optimizer = torch.optim.Adam(self.model.encoder.parameters(), self.recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules.Cosine(num_steps, final=0.02))
        self.model.encoder.train()
        for _ in range(num_steps):
            batch = data[torch.randperm(len(data))[: self.recipe.later_batch]]
            surprise = -self.model.encode(batch).log_prob(teacher.encode(batch).sample()).mean()
            optimizer.zero_grad()
            surprise.backward()
            nn.utils.clip_grad_norm_(self.model.encoder.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        self.model.encoder.eval()
        torch.save(self.model.encoder.state_dict(), path)

    def by_bound(self, num_steps: int, is_first: bool = False) -> ps.SVI:
        """Model and encoder by the evidence lower bound."""
        energy = energy_of(self.model)
        optimizer = torch.optim.Adam if energy is None else TwoRates(energy, self.recipe.energy_rate)
        return ps.SVI(
            **self.shared(num_steps, is_first),
            clip_norm=1.0,
            optimizer=optimizer,
            scales={"restart": self.recipe.restart} if self.model.has_restart_term else {},
            views=self.views(num_steps, is_first),
        )

    def by_chains(self, num_steps: int, is_first: bool = False) -> ps.MaximumLikelihood:
        """Chains that start cold each time, from the encoder each time, or from there once and then persist."""
        return ps.MaximumLikelihood(
            **self.shared(num_steps, is_first),
            clip_norm=50.0,  # of one joint gradient, which must not starve the encoder
            kernel=ps.Langevin(MALA(0.01), start="normal" if self.is_cold else "guide"),
            is_persistent=self.options.start == "persistent",
            chain_steps=self.recipe.chain_steps,
            guide_loss="draws",
            energy_learning_rate=self.recipe.energy_rate,
        )

    def shared(self, num_steps: int, is_first: bool) -> dict:
        """Options of both methods."""
        recipe = self.recipe
        return {
            "num_steps": num_steps,
            "batch_size": recipe.batch_size if is_first else recipe.later_batch,
            "learning_rate": recipe.learning_rate if is_first else recipe.later_rate,
            "schedule": schedules.Cosine(num_steps, warmup=min(100, num_steps - 1), final=0.03),
        }

    def views(self, num_steps: int, is_first: bool) -> tuple:
        """Series that grow to their whole length, in the beginning."""
        length = self.recipe.first_length if is_first else None
        return () if length is None else (GrowingLength(length, max(1, round(0.75 * num_steps))),)


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the data set, with what the command line changes."""
    known = SETUPS[options.data].recipe
    changes = {"num_steps": 8 if options.smoke else round(known.num_steps * options.effort)}
    if options.start == "cold":
        changes |= {"chain_steps": 20, "learning_rate": 2e-3, "energy_rate": 1e-4}
    for name in ("energy_rate", "chain_steps"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    return Recipe(**(asdict(known) | changes))


# %% Check: predictions after Langevin steps from two starts, beside trivial ones
def predicted(model: ps.ODELEBM, task: Task, options: argparse.Namespace) -> tuple[dict, dict[str, float]]:
    """Errors, and processor seconds that inference took, by where chains start and how long they are."""
    table: dict[str, dict] = {}
    seconds: dict[str, float] = {}
    for start in starts(model, options):
        for num_steps in options.test_steps:
            if num_steps == 0 and start == "cold":
                continue
            name = f"{start}, {num_steps} steps"
            begin = time.process_time()
            latents = inferred(
                model,
                task.given,
                start=start,
                num_steps=num_steps,
                num_chains=options.test_chains,
                num_candidates=options.test_candidates,
                seed=options.seed,
            )
            seconds[name] = round(time.process_time() - begin, 2)
            table[name] = errors(model, task, latents)
    return table, seconds


def starts(model: ps.ODELEBM, options: argparse.Namespace) -> list[str]:
    """Where chains can start: a model without an encoder starts cold."""
    return [start for start in options.test_starts if start == "cold" or model.has_guide] or ["cold"]


def print_table(table: dict[str, dict], baselines: dict[str, dict]) -> None:
    """Errors of the mean of chains, of single ones, and of the trivial predictors."""
    scores = list(next(iter(baselines.values())))
    print("\nMean squared error" + " " * 26 + "".join(f"{score:>18}" for score in scores))
    for name, row in table.items():
        for estimator in next(iter(row.values())):
            print(f"{name + ', ' + estimator:44}" + "".join(f"{row[score][estimator]:18.5f}" for score in scores))
    for name, row in baselines.items():
        print(f"{name:44}" + "".join(f"{row[score]:18.5f}" for score in scores))


def other_uses(model: ps.ODELEBM, task: Task, options: argparse.Namespace) -> tuple[dict[str, float], Tensor]:
    """Detection, description and generation with the longest chains from the first start; and their latents."""
    infer = functools.partial(
        inferred,
        model,
        start=starts(model, options)[0],
        num_steps=max(options.test_steps),
        num_chains=min(MOST_CHAINS, options.test_chains),
        num_candidates=options.test_candidates,
        seed=options.seed,
    )
    latents, trained = infer(task.given), infer(task.train[:MOST_TRAINED], num_chains=1)
    scores = detection(model, task, infer, latents) | description(model, task, latents, trained)
    return scores | generation(model, task, latents, trained), latents


# %% Run
def main() -> None:
    options = arguments()
    if options.smoke:
        options.test_steps, options.test_chains, options.test_candidates = (0, 4), 2, 2
    options.test_chains = options.test_chains or SETUPS[options.data].num_chains
    torch.set_num_threads(options.threads)
    out = Path(options.out or f"results/ode_lebm_{options.data}_{options.prior}_{options.inference}")
    if out.exists() and any(out.iterdir()) and not options.resume:
        raise SystemExit(f"{out} holds an earlier run. Go on with it by --resume, or choose another folder by --out.")
    out.mkdir(parents=True, exist_ok=True)
    task, recipe = SETUPS[options.data].load(options), recipe_of(options)
    print(f"train {task.train}\ngiven {task.given}")
    wall, processor = time.perf_counter(), time.process_time()
    posterior = Training(task, recipe, out, options).run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    ps.save(posterior, out / "posterior.pt")
    table, inference_seconds = predicted(posterior.model, task, options)
    baselines = trivial(task)
    print_table(table, baselines)
    earlier = json.loads((out / "scores.json").read_text()) if (out / "scores.json").exists() else {}
    wall, processor = wall + earlier.get("seconds", 0), processor + earlier.get("processor_seconds", 0)
    record = {"recipe": asdict(recipe), "seconds": round(wall, 1), "processor_seconds": round(processor, 1)}
    record |= {"inference_seconds": inference_seconds, "errors": table, "trivial": baselines}
    uses, latents = other_uses(posterior.model, task, options)
    print("\n" + "\n".join(f"{name:60}{value:12.4f}" for name, value in uses.items()))
    print(f"\ntraining: {processor:.0f} s of processor time, {wall:.0f} s of wall time, {options.threads} thread(s)")
    names = ("data", "prior", "inference", "start", "encoder", "learn", "share", "source", "walker")
    record = {
        name: getattr(options, name) for name in (*names, "effort", "seed", "threads", "test_chains", "test_candidates")
    } | record
    (out / "scores.json").write_text(json.dumps(record | {"uses": uses}, indent=1))
    draw(posterior.model, task, latents, table, out, num_draws=8 if options.smoke else 100)
    print(f"written to {out}: {', '.join(sorted(path.name for path in out.iterdir() if path.is_file()))}")


def at_least(least: int) -> Callable[[str], int]:
    """Reads a whole number of the command line, before work starts."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be {least} or more, got {text}")
        return int(text)

    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SETUPS, default="sinusoids")
    parser.add_argument("--prior", choices=("energy", "gaussian"), default="energy")
    parser.add_argument("--inference", choices=("langevin", "svi"), default="langevin", help="in training")
    parser.add_argument("--start", choices=("persistent", "guide", "cold"), default="persistent", help="of chains")
    parser.add_argument("--encoder", choices=("rnn", "ode_rnn"), default="rnn", help="the second is slower")
    parser.add_argument("--share", type=float, default=0.2, help="of the points of a test sinusoid that are given")
    parser.add_argument(
        "--learn", choices=("observed", "all"), default="observed", help="from as many points, or from all"
    )
    parser.add_argument("--source", choices=("bundled", "mnist"), default="bundled", help="of the digits")
    parser.add_argument("--walker", choices=("hopper", "swimmer", "cheetah"), default="hopper")
    parser.add_argument("--chain-steps", type=at_least(1), help="Langevin steps of a visit in training")
    parser.add_argument("--energy-rate", type=float, help="learning rate of the energy")
    parser.add_argument(
        "--test-steps", type=at_least(0), nargs="+", default=(0, 60), help="Langevin steps at test time"
    )
    parser.add_argument("--test-starts", nargs="+", choices=("guide", "cold"), default=("guide", "cold"))
    parser.add_argument("--test-chains", type=at_least(1), help="of each series")
    parser.add_argument(
        "--test-candidates", type=at_least(1), default=64, help="draws of the encoder that a start is chosen from"
    )
    parser.add_argument("--effort", type=float, default=1.0, help="training steps, as a share of the usual ones")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one is slower here: the tensors are small")
    parser.add_argument("--out", help="folder for pictures and checkpoints; results/ode_lebm_<data>_... when absent")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a little data, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
