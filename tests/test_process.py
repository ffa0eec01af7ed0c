"""Threads share models and the process: every call gives what it gives alone, and leaves nothing behind."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyro
import pytest
import torch

import pyro_seq as ps
from pyro_seq._process import process_state
from pyro_seq.posterior import GuidePosterior
from pyro_seq.predict.energies import energies
from tests import toy

QUIET = ps.Trainer(progress=False, accelerator="cpu")
NUM_THREADS = 4


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """What the calls return when all threads start at once."""
    start = threading.Barrier(NUM_THREADS)

    def run(call: Callable[[], Any]) -> Any:
        start.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, call) for call in calls]]


def test_verbs_in_threads_give_what_they_give_alone(tmp_path):
    data, posterior, blank = toy.make_data(), GuidePosterior(toy.make_lines()), toy.make_lines()
    calls = [
        lambda: ps.forecast(posterior, data, horizon=4, num_samples=20, seed=1).samples,
        lambda: ps.impute(posterior, data.hide(torch.ones(8, 9) > 0), num_samples=20, seed=2).samples,
        lambda: ps.sample(posterior, data, num_samples=20, seed=3).samples,
        lambda: ps.evaluate(posterior, data, ps.Forecasting(6), num_samples=20, seed=4).crps,
        lambda: posterior.draws(data, 20, seed=5)["line"],
        lambda: energies(posterior.model, data, {"line": torch.zeros(1, 8, 2), "drift": torch.zeros(1, 1, 1)}).joint,
        lambda: ps.to_arviz(posterior, data, num_samples=20)["posterior"]["line"].values,
        lambda: ps.load(saved, blank).draws(data, 3)["line"],
    ]  # fmt: skip
    saved = tmp_path / "lines.pt"
    ps.save(posterior, saved)
    alone = [torch.as_tensor(call()) for call in calls]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    together = in_threads(3 * calls)
    assert all(torch.equal(torch.as_tensor(found), alone[k % len(alone)]) for k, found in enumerate(together))
    assert torch.equal(torch.get_rng_state(), state) and not pyro.settings.get("module_local_params")


def test_fits_in_threads_give_what_they_give_alone():
    """A search over learning rates, each with its own model."""
    data = toy.make_data()

    def trained(rate: float, model: ps.SequenceModel) -> list[float]:
        return ps.fit(model, data, ps.SVI(num_steps=15, learning_rate=rate), trainer=QUIET).history["loss"]

    rates = [0.001, 0.01, 0.02, 0.1]
    alone = [trained(rate, toy.make_lines()) for rate in rates]
    models = [toy.make_lines() for _ in rates]  # made here: first weights come from the random state of the process
    calls = [lambda rate=rate, model=model: trained(rate, model) for rate, model in zip(rates, models, strict=True)]
    assert in_threads(calls) == alone


def test_a_verb_sees_a_model_before_or_after_it_is_trained():
    data, model = toy.make_data(), toy.make_lines()
    method = ps.SVI(num_steps=30, learning_rate=0.1)
    after = GuidePosterior(ps.fit(copy.deepcopy(model), data, method, trainer=QUIET).model)

    def seen(posterior: GuidePosterior) -> torch.Tensor:
        return ps.reconstruct(posterior, data, num_samples=5).emission_means

    states = [seen(GuidePosterior(copy.deepcopy(model))), seen(after)]
    watched = GuidePosterior(model)
    calls = [lambda: ps.fit(model, data, method, trainer=QUIET), *[lambda: seen(watched)] * 11]
    found = in_threads(calls)[1:]
    assert all(any(torch.equal(means, state) for state in states) for means in found)


def test_a_model_of_ones_own_may_score_in_threads():
    """Below the verbs, too: whoever reads a density or sets a seed takes the turn."""
    data, model = toy.make_data(), toy.make_lines()
    values = {"line": torch.zeros(8, 2), "drift": torch.zeros(1)}
    alone = ps.model.series_log_prob(model, data, values)
    found = in_threads([lambda: ps.model.series_log_prob(model, data, values)] * 20)
    assert all(torch.equal(each, alone) for each in found)


def test_a_source_that_calls_verbs_must_be_read_in_the_training_thread():
    """Otherwise its thread would wait for the training, and the training for it."""
    posterior, data = GuidePosterior(toy.make_lines()), toy.make_data()

    class Simulated(ps.SequenceSource):
        num_series = 6

        def load(self, index: torch.Tensor) -> ps.Sequences:
            return ps.Sequences(ps.sample(posterior, data[: len(index)], num_samples=1).samples[0])

    def trained(num_workers: int) -> str:
        trainer = ps.Trainer(progress=False, accelerator="cpu", num_workers=num_workers)
        return ps.fit(toy.make_lines(1), Simulated(), ps.SVI(num_steps=2, batch_size=3), trainer=trainer).status

    assert trained(0) == "completed"
    with pytest.raises(ps.UnsupportedError, match="num_workers=0"):
        trained(1)


def test_the_lock_is_given_back_after_an_error():
    with pytest.raises(ps.DataError), process_state():
        ps.forecast(GuidePosterior(toy.make_lines()), toy.make_data())
    assert in_threads([lambda: ps.sample(GuidePosterior(toy.make_lines()), toy.make_data(), num_samples=1)] * 4)
