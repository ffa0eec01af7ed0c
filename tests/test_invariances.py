"""What may not change a prediction: other times, padding, order, precision, units, threads, processes, other fits."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pyro_seq as ps
from pyro_seq.nn.components import Cycle, Level

ROOT = Path(__file__).parents[1]
QUIET = ps.Trainer(progress=False, accelerator="cpu")
SMALL = ps.DCGAN(channels=(4, 6), code_dim=6, norm=nn.Identity)  # what norms know of the data is no part of the weights
MODELS: dict[str, Callable[[], ps.SequenceModel]] = {
    "ODE2VAE": lambda: ps.ODE2VAE((2,), 2),
    "ODE2VAE, recurrent": lambda: ps.ODE2VAE((2,), 2, encoder=ps.RNNEncoder((2,), 4)),
    "ODELEBM": lambda: ps.ODELEBM((2,), 3, encoder=ps.RNNEncoder((2,), 3)),
    "KalmanVAE": lambda: ps.KalmanVAE((2,)),
    "KalmanVAE, continuous": lambda: ps.KalmanVAE((2,), dynamics=ps.ContinuousDynamics(2, 4)),
    "DynamicFactors": lambda: ps.DynamicFactors((2,), 2),
    "StructuralSeries": lambda: ps.StructuralSeries(Level() + Cycle()),
    "RecurrentVAE": lambda: ps.RecurrentVAE((2,)),
    "SRVP": lambda: ps.SRVP((1, 8, 8), 3, noise_dim=2, content_dim=4, num_frames=2, hidden_dim=8, architecture=SMALL),
}
EVERY = pytest.mark.parametrize("name", MODELS)
FLOWS = ("ODE2VAE", "ODE2VAE, recurrent", "ODELEBM")
AT_ANY_TIMES = (*FLOWS, "KalmanVAE, continuous")
EVEN = 0.25 * torch.arange(8, dtype=torch.float64)
UNEVEN = EVEN + torch.tensor([0, 3, 0, -2, 1, 0, 2, 0]) / 32  # on a grid of 1/32, so that no shift below rounds
LENGTHS = (8, 5, 3)
READ = """
import sys
import torch
import pyro_seq as ps
data, found = torch.load(sys.argv[1] + "/data.pt", weights_only=False), {}
for name, series in data.items():
    ahead = ps.forecast(ps.load(f"{sys.argv[1]}/{name}.pt"), series, horizon=3, num_samples=4, seed=3)
    found[name] = [ahead.samples, ahead.emission_means]
torch.save(found, sys.argv[1] + "/found.pt")
"""


def grid(name: str) -> Tensor:
    return UNEVEN if name in AT_ANY_TIMES else EVEN


def series(name: str, seed: int = 0, times: Tensor | None = None) -> ps.Sequences:
    """Three series of eight steps in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    shape = {"SRVP": (1, 8, 8), "StructuralSeries": (1,)}.get(name, (2,))
    values = torch.rand(len(LENGTHS), 8, *shape, generator=generator)
    return ps.Sequences(values, times=grid(name) if times is None else times)


def ragged(name: str, times: Tensor | None = None) -> ps.Sequences:
    steps = torch.arange(8)
    return series(name, times=times).hide(steps >= torch.tensor(LENGTHS)[:, None])


def trained(name: str, data: ps.Sequences) -> ps.GuidePosterior:
    """Few steps, with gaps hidden on the way, so that none comes as a surprise."""
    torch.manual_seed(0)
    method = ps.SVI(num_steps=4, learning_rate=1e-2, views=[ps.training.views.RandomGaps()])
    return ps.fit(MODELS[name](), data, method, trainer=QUIET)


@functools.cache
def fitted(name: str) -> ps.GuidePosterior:
    """To be read only."""
    return trained(name, series(name))


@pytest.fixture
def same_noise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every random number is 0.7, whatever the place in the batch and the precision: draws become functions."""
    fitted(name)  # in training noise is noise
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: torch.full(_size(shape), 0.7, **_kept(options)))
    for kind in ("randn_like", "rand_like"):
        monkeypatch.setattr(torch, kind, lambda other, **_: torch.full_like(other, 0.7))
    monkeypatch.setattr(torch, "normal", lambda mean, std, **_: mean + 0.7 * std)
    monkeypatch.setattr(Tensor, "normal_", lambda self, mean=0.0, std=1.0, **_: self.fill_(mean + 0.7 * std))


def _size(shape: tuple) -> tuple[int, ...]:
    return shape if not shape or isinstance(shape[0], int) else tuple(shape[0])


def _kept(options: dict) -> dict:
    return {name: value for name, value in options.items() if name != "generator"}


def all_of(posterior: ps.GuidePosterior, data: ps.Sequences, num_samples: int = 1, seed: int = 1) -> dict[str, Tensor]:
    """Draws and means of each verb that reads series, (series, sample, time, *obs)."""
    options = {"num_samples": num_samples, "seed": seed}
    made = {
        "forecast": ps.forecast(posterior, data, horizon=3, **options),
        "reconstruct": ps.reconstruct(posterior, data, **options),
        "impute": ps.impute(posterior, data, **options),
        "filter": ps.impute(posterior, data, is_causal=True, **options),
    }
    kinds = ("samples", "emission_means")
    return {f"{verb}, {kind}": getattr(it, kind).transpose(0, 1) for verb, it in made.items() for kind in kinds}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 0.0) -> None:
    assert found.keys() == expected.keys()
    for what, value in found.items():
        torch.testing.assert_close(value, expected[what].to(value.dtype), rtol=0, atol=tolerance, msg=what)


@EVERY
def test_the_noise_of_these_tests_is_the_same_everywhere(name: str, same_noise: None) -> None:
    data = ragged(name)
    assert_same(all_of(fitted(name), data, seed=1), all_of(fitted(name), data, seed=2))


# ---------------------------------------------------------------------- what else is asked, and what stands beside


@EVERY
def test_other_times_that_are_asked(name: str, same_noise: None) -> None:
    """Up to the error of a solver in a flow; to the last bit where a model goes step by step."""
    posterior, data = fitted(name), series(name).first(6)
    ask = functools.partial(ps.forecast, posterior, data, num_samples=5, seed=1)
    near, far = ask(horizon=2), ask(horizon=20)
    tolerance = 1e-4 * float(data.values.std()) if name in FLOWS else 0.0
    torch.testing.assert_close(far.emission_means[:, :, :2], near.emission_means, rtol=0, atol=tolerance)
    if name in FLOWS:
        end = float(data.times[-1])
        alone, among = ask(times=[end + 4]), ask(times=[end + 0.01, end + 1.3, end + 3.99, end + 4])
        torch.testing.assert_close(among.emission_means[:, :, -1:], alone.emission_means, rtol=0, atol=tolerance)


DRAWN_BACKWARDS = ("DynamicFactors", "StructuralSeries")  # from the end of a series


@pytest.mark.parametrize("name", [name for name in MODELS if name not in DRAWN_BACKWARDS])
def test_padding(name: str, same_noise: None) -> None:
    posterior, data = fitted(name), ragged(name, EVEN)  # where the future begins at the same stamps
    together = all_of(posterior, data)
    for row, length in enumerate(LENGTHS):
        alone = all_of(posterior, data[row].first(length))
        mine = {what: value[row : row + 1] for what, value in together.items()}
        cut = {what: value if "forecast" in what else value[:, :, :length] for what, value in mine.items()}
        assert_same(cut, alone, 1e-5)


@EVERY
def test_order_of_series(name: str, same_noise: None) -> None:
    posterior, data, order = fitted(name), ragged(name), [2, 0, 1]
    straight = all_of(posterior, data)
    assert_same(all_of(posterior, data[order]), {what: value[order] for what, value in straight.items()}, 1e-5)


@EVERY
def test_precision(name: str, same_noise: None) -> None:
    data = ragged(name)
    single = all_of(fitted(name), data)
    double = all_of(ps.GuidePosterior(_doubled(name)), data.to(dtype=torch.float64))
    assert_same(double, single, 1e-4)


def _doubled(name: str) -> ps.SequenceModel:
    model = MODELS[name]()
    model.load_state_dict(fitted(name).model.state_dict())
    return model.double()


# ---------------------------------------------------------------------- units of time


@EVERY
@pytest.mark.parametrize(("unit", "origin"), [(1.0, 1.7e9), (3600.0, 0.0), (3600.0, 1.7e9), (1.0, -1e6)])
def test_unit_and_origin_of_time(name: str, unit: float, origin: float) -> None:
    """The same fit and the same draws, to the last bit: no stamp is rounded."""
    other = trained(name, series(name, times=unit * grid(name) + origin))
    for (part, weight), again in zip(fitted(name).model.named_parameters(), other.model.parameters(), strict=True):
        assert torch.equal(weight, again), part
    data = ragged(name)
    moved = ps.Sequences(data.values, mask=data.mask, times=unit * data.times + origin)
    assert_same(all_of(other, moved, 4), all_of(fitted(name), data, 4))


# ---------------------------------------------------------------------- where, and after what


@EVERY
def test_threads(name: str) -> None:
    data = ragged(name)
    call = functools.partial(all_of, fitted(name), data, 4)
    alone = call()
    with ThreadPoolExecutor(3) as pool:
        for found in [pool.submit(call) for _ in range(3)]:
            assert_same(found.result(timeout=60), alone)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Tensor]]]:
    """Forecasts of a new process, which has the files alone."""
    folder = tmp_path_factory.mktemp("files")
    for name in MODELS:
        ps.save(fitted(name), folder / f"{name}.pt")
    torch.save({name: ragged(name) for name in MODELS}, folder / "data.pt")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run([sys.executable, "-c", READ, str(folder)], check=True, env=environment, timeout=200)
    yield torch.load(folder / "found.pt")


@EVERY
def test_processes(name: str, elsewhere: dict[str, list[Tensor]]) -> None:
    here = ps.forecast(fitted(name), ragged(name), horizon=3, num_samples=4, seed=3)
    assert torch.equal(elsewhere[name][0], here.samples) and torch.equal(elsewhere[name][1], here.emission_means)


@EVERY
def test_a_fit_that_learns_nothing(name: str) -> None:
    """On other series, at other times: units and all else of a model stay."""
    posterior, data = trained(name, series(name)), ragged(name)
    before = all_of(posterior, data, 4)
    other = series(name, seed=5, times=None if name not in AT_ANY_TIMES else EVEN)
    ps.fit(posterior.model, other, ps.SVI(num_steps=1, learning_rate=1e-30), trainer=QUIET)
    after = all_of(posterior, data, 4)
    if name == "SRVP":  # what a fit measures of the noise of pixels is that of its own data
        before, after = ({what: value for what, value in it.items() if "means" in what} for it in (before, after))
    assert_same(after, before)


@pytest.mark.slow
@EVERY
def test_mixed_precision_learns_nearly_the_same(name: str) -> None:
    """In bfloat16, of which rounding is a two-hundredth; what would break down in it runs in full precision."""
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        trainer = ps.Trainer(progress=False, accelerator="cpu", precision=precision, log_every=1)
        torch.manual_seed(0)
        history = ps.fit(MODELS[name](), series(name), ps.SVI(num_steps=3), trainer=trainer).history
        assert history["skipped"][-1] == 0
        losses.append(torch.tensor(history["loss"]))
    torch.testing.assert_close(losses[1], losses[0], rtol=0.02, atol=0.0)


@pytest.mark.slow
@EVERY
def test_ten_thousand_steps_ahead_are_finite_or_an_error_with_series_and_time(name: str) -> None:
    try:
        ahead = ps.forecast(fitted(name), series(name), horizon=10_000, num_samples=1)
    except ps.NumericalError as error:
        assert re.search(r"From time [\d.e+]+ on, those of series \d are not", str(error))
    else:
        assert ahead.samples.shape[2] == 10_000 and bool(ahead.samples.isfinite().all())
