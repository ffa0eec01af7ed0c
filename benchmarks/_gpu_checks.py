"""What works on a device: the check suite, every method, every verb, one row each."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

import pyro_seq as ps
from benchmarks._gpu_cases import CASES, SEEN, Case
from benchmarks._gpu_rows import Rows, last_lines
from pyro_seq.testing import ModelCheckError, check_model

NUM_SAMPLES = 2  # a multiple of the number of chains
Verb = Callable[[Any], Any]


def checks(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """`check_model` on the device: which checks fail, and why."""
    for case in [case for case in CASES if not case.is_coupled][share]:
        rows.run(case.name, partial(checked, case, device), seconds=90.0)


def checked(case: Case, device: torch.device) -> dict[str, Any]:
    """Names of the checks that failed or do not apply, by `check_model` with model and data on the device."""
    try:
        report = check_model(case.model(device), case.data(device))
    except ModelCheckError as error:
        report = error.report
    failed = {result.name: result.reason for result in report.results if result.status == "failed"}
    skipped = {result.name: result.reason for result in report.results if result.status == "not applicable"}
    figures = {"passed": len(report.names("passed")), "failed": failed, "not applicable": skipped}
    return figures | ({"status": "failed"} if failed else {})


# ---------------------------------------------------------------------- methods and verbs


def verbs(rows: Rows, device: torch.device, share: slice, is_quick: bool) -> None:
    """Every method on every model, and every verb on what it returns."""
    kinds = methods(device)
    for case in CASES[share]:
        for name in ("SVI", "MCMC, HMC") if is_quick else kinds:
            rows.run(f"{case.name}: {name}", partial(used, case, kinds[name], device), seconds=45.0)


def methods(device: torch.device) -> dict[str, tuple[Any, dict[str, Any]]]:
    """A method of each kind with few steps, and options of the trainer; validation for the first."""
    few = {"num_samples": 3, "warmup_steps": 3}
    svi = ps.SVI(num_steps=4, batch_size=3)
    return {
        "SVI": (svi, {}),
        "SVI, validated, averaged": (
            ps.SVI(num_steps=4, batch_size=3, average=0.9, clip_norm=1.0, num_particles=2),
            {"validate_every": 2, "keep_best": True},
        ),
        "SVI, bf16": (svi, {"precision": "bf16-mixed"}),
        "SVI, resumed": (ps.SVI(num_steps=8, batch_size=3), {"resume": True}),
        "maximum likelihood": (
            ps.MaximumLikelihood(num_steps=4, batch_size=3, chain_steps=2, inference_steps=5, warmup_steps=1),
            {},
        ),
        "maximum likelihood, from the guide": (
            ps.MaximumLikelihood(
                num_steps=4,
                batch_size=3,
                chain_steps=2,
                inference_steps=5,
                kernel=ps.Langevin(start="guide"),
                is_persistent=False,
            ),
            {},
        ),
        "MCMC, NUTS": (ps.MCMC(ps.NUTS(max_tree_depth=2), **few, num_chains=2), {}),
        "MCMC, HMC": (ps.MCMC(ps.HMC(path_length=0.1), **few), {}),
        "MCMC, Langevin": (ps.MCMC(ps.Langevin(), **few, num_chains=2), {}),
    }


def used(case: Case, chosen: tuple[Any, dict[str, Any]], device: torch.device) -> dict[str, Any]:
    """Fit, then every verb; which of them failed, and how."""
    method, options = chosen
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        model, data = case.model(device), case.gappy(device)
        posterior = fitted(model, data, method, folder, device, options)
        failed, values = {}, []
        for verb, run in verb_calls(case, posterior, data, folder, device).items():
            try:
                values.append((verb, run(posterior)))
            except ps.UnsupportedError as error:
                failed[verb] = [f"not supported: {error}"[:300]]
            except Exception as error:
                failed[verb] = last_lines(error)
        strayed = [verb for verb, value in values if (found := device_of(value)) and found != device.type]
    home = next(model.parameters()).device.type
    broken = {verb: lines for verb, lines in failed.items() if not lines[0].startswith("not supported")}
    figures = {"verbs that passed": len(values), "verbs that failed": failed, "on another device": strayed}
    return figures | ({"status": "failed"} if broken or strayed or home != device.type else {}) | {"model on": home}


def fitted(
    model: ps.SequenceModel, data: ps.Sequences, method: Any, folder: Path, device: torch.device, options: dict
) -> Any:
    """A fit; one that is resumed has been stopped half way first."""
    shared = {"progress": False, "accelerator": "gpu" if device.type == "cuda" else "cpu", "log_every": 1}
    if options.get("resume"):
        shared["directory"] = folder / "run"
        ps.fit(model, data, ps.SVI(num_steps=4, batch_size=3), trainer=ps.Trainer(**shared))
    validation = data if "validate_every" in options else None
    return ps.fit(model, data, method, validation=validation, trainer=ps.Trainer(**shared, **options))


def verb_calls(case: Case, posterior: Any, data: ps.Sequences, folder: Path, device: torch.device) -> dict[str, Verb]:
    """Every verb; what shows less than the fitted series is left out where the posterior knows only those."""
    draws = {"num_samples": NUM_SAMPLES}
    path = folder / "posterior.pt"

    def loaded(place: torch.device) -> ps.Prediction:
        again = ps.load(path, case.model(place))
        return ps.forecast(again, data.to(place), horizon=2, **draws)

    calls: dict[str, Verb] = {
        "draws": lambda p: p.draws(data, 2),
        "forecast": lambda p: ps.forecast(p, data, horizon=2, **draws),
        "impute": lambda p: ps.impute(p, data, **draws),
        "reconstruct": lambda p: ps.reconstruct(p, data, chunk_size=2, **draws),
        "sample": lambda p: ps.sample(p, data, **draws),
        "evaluate, reconstruction": lambda p: ps.evaluate(p, data, ps.Reconstruction(), **draws),
        "save": lambda p: ps.save(p, path),
        "load": lambda p: loaded(device),
        "load on the CPU": lambda p: device_of(loaded(torch.device("cpu"))),
        "to_arviz": lambda p: str(type(ps.to_arviz(p, data, num_samples=NUM_SAMPLES))),
    }
    if not isinstance(posterior, ps.StoredPosterior):
        other = case.data(device)
        calls |= {
            "impute from the past": lambda p: ps.impute(p, data, is_causal=True, **draws),
            "evaluate, forecasting": lambda p: ps.evaluate(p, other, ps.Forecasting(SEEN), **draws),
            "evaluate, imputation": lambda p: ps.evaluate(p, other, ps.Imputation(0.3, num_kept=SEEN), **draws),
            "evaluate_baselines": lambda p: ps.evaluate_baselines(other, other, ps.Forecasting(SEEN)),
        }
    return calls


def device_of(value: Any) -> str | None:
    """Kind of device of a prediction's samples or of the first of several draws."""
    if isinstance(value, ps.Prediction):
        return value.samples.device.type
    if isinstance(value, dict) and value:
        return next(iter(value.values())).device.type
    return None
