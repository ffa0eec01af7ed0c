"""Every model under every method and verb on a make-believe GPU, and faults that it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq import models
from pyro_seq.nn import ode_rnn
from pyro_seq.nn.components import Autoregression, Cycle, Level, Matern
from tests import toy
from tests.golden import make
from tests.make_believe_gpu import DEVICE, make_believe_gpu, strategy

METHODS: dict[str, Any] = {
    "SVI": ps.SVI(num_steps=2, batch_size=2, average=0.9),
    "IWAE": ps.IWAE(num_steps=1, num_particles=2, batch_size=2),
    "MaximumLikelihood": ps.MaximumLikelihood(num_steps=2, batch_size=2, chain_steps=1, inference_steps=1),
    "NUTS": ps.MCMC(ps.NUTS(max_tree_depth=1), num_samples=2, warmup_steps=1),
    "ChEES": ps.MCMC(ps.ChEES(), num_samples=1, warmup_steps=1, num_chains=2),
    "Langevin": ps.MCMC(ps.Langevin(), num_samples=2, warmup_steps=1),
    "SGLD": ps.SGLD(num_samples=1, warmup_steps=1, step_size=1e-4, batch_size=2, num_chains=2),
    "Mode": ps.Mode(num_starts=1, num_steps=2),
}
MODELS = {name: make.POSTERIORS[name] for name in ("kalman_vae", "srvp", "latent_ode", "recurrent_vae")} | {
    "structural_series": make.Golden(
        lambda: ps.StructuralSeries(Level() + Cycle() + Autoregression(2) + Matern()), None, (1,)
    ),
    "dynamic_factors": make.Golden(lambda: ps.DynamicFactors((2,), 2), None),
    "ode2vae": make.POSTERIORS["ode2vae"],
    "ode2vae_fixed": make.Golden(lambda: ps.ODE2VAE((2,), 1, vector_field=make.field(2, 1, is_bayesian=False)), None),
    "ode_lebm": make.Golden(
        lambda: ps.ODELEBM((2,), 2, initial_prior=ps.EnergyTilt(ps.EnergyMLP(2, (4,)), num_steps=2)), None
    ),
}
UNSUITABLE = {  # weights that all series share; no guide
    "ode2vae": {"IWAE", "MaximumLikelihood"},
    "ode2vae_fixed": {"SVI", "NUTS"},
    "ode_lebm": {"SVI", "IWAE"},
    "structural_series": {"IWAE", "MaximumLikelihood"},
}
PAIRS = [
    (model, method)
    for model in MODELS
    for method in METHODS
    if method not in UNSUITABLE.get(model, ()) and (method != "Mode" or model == "structural_series")
]


def trainer(**options: Any) -> ps.Trainer:
    return ps.Trainer(progress=False, strategy=strategy(), log_every=1, **options)


def fitted(model: ps.SequenceModel, data: ps.Sequences, method: Any) -> Any:
    """On the device: chains run where the model is, and gradient methods bring it back home."""
    if isinstance(method, ps.MCMC | ps.Mode):
        return ps.fit(model.to(DEVICE), data.to(DEVICE), method, trainer=trainer())
    posterior = ps.fit(model, data, method, trainer=trainer())
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    model.to(DEVICE)
    return posterior


def predictions(posterior: Any, data: ps.Sequences) -> dict[str, ps.Prediction]:
    """Of every verb that serves the posterior."""
    found = {
        "forecast": ps.forecast(posterior, data, horizon=2, num_samples=2),
        "impute": ps.impute(posterior, data, num_samples=2),
        "reconstruct": ps.reconstruct(posterior, data, num_samples=2),
    }
    if not isinstance(posterior, ps.StoredPosterior):  # draws of MCMC say nothing about series with more hidden
        found["filter"] = ps.impute(posterior, data, is_causal=True, num_samples=2)
    if not posterior.model.is_conditional:
        found["sample"] = ps.sample(posterior, data, num_samples=2)
    return found


def test_every_model_of_the_library_is_here() -> None:
    assert {type(golden.model(0)).__name__ for golden in MODELS.values()} == set(models.__all__)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of runs that are far too short
@pytest.mark.parametrize(("model", "method"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_methods_and_verbs_stay_on_the_device(model: str, method: str, tmp_path: Path) -> None:
    golden = MODELS[model]
    with make_believe_gpu():
        data = golden.data().to(DEVICE)
        posterior = fitted(golden.model(0), golden.data(), METHODS[method])
        found = predictions(posterior, data)
        for prediction in found.values():
            tensors = prediction.samples, prediction.emission_means, prediction.times, *prediction.latents.values()
            assert {tensor.device for tensor in tensors} == {DEVICE}
        scores = ps.evaluate(posterior, data, ps.Reconstruction(), num_samples=2)
        assert bool(scores.mse.isfinite().all())
        ps.save(posterior, tmp_path / "file.pt")
        loaded = ps.load(tmp_path / "file.pt")
        with pytest.raises(ps.DataError, match=r"one device\. Got cuda:0 and cpu"):
            ps.forecast(loaded, data, horizon=2, num_samples=2)
        loaded.model.to(DEVICE)
        again = ps.forecast(loaded, data, horizon=2, num_samples=2)
        assert torch.equal(again.samples, found["forecast"].samples)
        loaded.model.cpu()
        at_home = ps.forecast(loaded, golden.data(), horizon=2, num_samples=2)
        assert at_home.samples.device.type == "cpu"
        torch.testing.assert_close(at_home.samples, again.samples.cpu())


def test_validation_and_a_resumed_run(tmp_path: Path) -> None:
    golden = MODELS["recurrent_vae"]
    data, where = golden.data(), {"validate_every": 1, "keep_best": True, "directory": tmp_path}
    with make_believe_gpu():
        ps.fit(golden.model(0), data, ps.SVI(num_steps=2, average=0.9), validation=data, trainer=trainer(**where))
        posterior = ps.fit(
            golden.model(0),
            data,
            ps.SVI(num_steps=3, average=0.9),
            validation=data,
            trainer=trainer(resume=True, **where),
        )
    assert posterior.history["step"] == [1.0, 2.0, 3.0]


def test_the_device_changes_no_number(quiet: ps.Trainer) -> None:
    """It draws what the host draws, so that whole runs agree."""
    golden, method = MODELS["recurrent_vae"], METHODS["SVI"]
    with make_believe_gpu():
        there = ps.fit(golden.model(0), golden.data(), method, trainer=trainer())
    here = ps.fit(golden.model(0), golden.data(), method, trainer=dataclasses.replace(quiet, log_every=1))
    assert there.history["loss"] == pytest.approx(here.history["loss"], rel=1e-5)


def test_filters_backtests_and_baselines_stay_on_the_device() -> None:
    golden = MODELS["dynamic_factors"]
    with make_believe_gpu():
        data = golden.data().to(DEVICE)
        steps, last = data.num_steps, data.num_steps - 1

        def factory() -> ps.SequenceModel:
            return golden.model(0).to(DEVICE)

        found = ps.backtest(factory, data, METHODS["SVI"], horizon=2, cutoffs=1, num_samples=3, trainer=trainer())
        assert {prediction.samples.device for prediction in found.predictions} == {DEVICE}
        assert bool(found.table(())["rmse"].notna().all())
        rows = ps.evaluate_baselines(data, data, ps.Forecasting(steps - 2), period=2)
        assert {row.crps.device for row in rows} == {DEVICE} and len(rows) == 6
        posterior = fitted(golden.model(0), golden.data(), METHODS["SVI"])
        state = ps.start_filter(posterior, data.first(last))
        state = ps.filter_step(state, data.values[:, last], data.times[..., last])
        ahead = ps.filter_forecast(state, horizon=2, num_samples=3)
        assert {state.means.device, state.covs.device, ahead.samples.device, ahead.times.device} == {DEVICE}


def test_where_tensors_are() -> None:
    with make_believe_gpu() as device:
        there = torch.ones(3, device="cuda")
        for tensor in (
            there * 2,
            there[:1],
            there.new_zeros(2),
            torch.zeros_like(there),
            nn.Linear(3, 2).cuda().weight,
        ):
            assert tensor.device == device and tensor.is_cuda
        assert torch.zeros(2).device == there.cpu().device == there.to("cpu").device == torch.device("cpu")
        assert torch.zeros_like(there, device="cpu").device.type == "cpu"
        assert torch.randn(2, device=device, generator=torch.Generator(device)).is_cuda
        assert (there + torch.tensor(1.0)).is_cuda and there[torch.tensor([0])].is_cuda
        assert nn.functional.one_hot(there.long()).is_cuda
        start = torch.ones(3, requires_grad=True)
        (start.to(device) * there).sum().backward()
        assert start.grad is not None and start.grad.device.type == "cpu"
        columns = torch.func.vmap(lambda to: torch.func.jvp(lambda at: at.sin() * there, (there,), (to,))[1])
        assert columns(torch.eye(3, device=device)).is_cuda
    assert there.device.type == "cpu" and torch.Generator is torch._C.Generator


class Faulty(toy.Lines):
    """Straight lines, with one call more in the model."""

    def __init__(self, call: Callable[[Faulty, Tensor], Tensor]) -> None:
        super().__init__()
        self.call = call
        self.memory = nn.LSTM(2, 2, batch_first=True).requires_grad_(False)
        self.constant = torch.ones(1, 2)

    def model(self, data: ps.Sequences) -> None:
        """Emits around what the call makes of the levels."""
        self.bind()
        drift = pyro.sample("drift", dist.Normal(data.values.new_zeros(1), 1.0).to_event(1))
        with self.series(data):
            line = pyro.sample("line", dist.Normal(data.values.new_zeros(2), 1.0).to_event(1))
            level = self.call(self, line) + drift
            path = pyro.deterministic(
                "path", level[..., None, :].expand(*level.shape[:-1], data.num_steps, 2), event_dim=2
            )
            self.observe(lambda states: dist.Normal(self.emit(states.sum(-1, keepdim=True)), 1.0), path, data)


def in_evaluation_mode(model: Faulty, line: Tensor) -> Tensor:
    return model.memory.eval()(line[:, None])[0][:, 0]


FAULTS: dict[str, tuple[Callable[[Faulty, Tensor], Tensor], str]] = {
    "a constant that is no buffer": (lambda model, line: line * model.constant, "same device"),
    "a fill without a device": (
        lambda model, line: torch.cat([line[:, :1], torch.zeros(len(line), 1)], -1),
        "same device",
    ),
    "a generator of the host": (
        lambda model, line: line + torch.randn(2, device=line.device, generator=torch.Generator()),
        "device type for generator",
    ),
    "NumPy": (lambda model, line: line + float(line.detach().numpy().mean()), "numpy"),
    "an index of the host": (lambda model, line: line.index_select(-1, torch.tensor([1, 0])), "same device"),
    "a recurrent network in evaluation mode": (in_evaluation_mode, "only be called in training mode"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, quiet: ps.Trainer) -> None:
    call, words = FAULTS[name]
    method = ps.SVI(num_steps=1)
    ps.fit(Faulty(call), toy.make_data(3), method, trainer=quiet)  # nobody notices
    with make_believe_gpu(), pytest.raises((RuntimeError, TypeError), match=words):
        ps.fit(Faulty(call), toy.make_data(3), method, trainer=trainer())


def test_without_its_cure_the_rule_of_cudnn_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> None:
        model = ps.ODELEBM((2,), 2, encoder=ps.RNNEncoder((2,), 2, hidden_dim=3)).to(DEVICE)
        data = MODELS["latent_ode"].data().to(DEVICE)
        model.adapt(data)
        code = model.eval().encoder(data.values.requires_grad_(), data.entry_mask, data.times.expand(3, -1))
        torch.autograd.grad(code.mean.sum(), data.values)

    with make_believe_gpu():
        run()
        monkeypatch.setattr(ode_rnn, "run_recurrent", lambda network, steps: network(steps))
        with pytest.raises(RuntimeError, match="only be called in training mode"):
            run()
