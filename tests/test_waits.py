"""A training step waits for the device once, and takes no more operations than it did."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

import pyro_seq as ps
from pyro_seq._host import in_both, on_host, uploaded
from tests.make_believe_gpu import DEVICE, make_believe_gpu, strategy
from tests.test_make_believe_gpu import MODELS
from tests.waits import During, counting

STEP = 3  # neither the first, which is logged and checked, nor the last
CHAINS = ps.MaximumLikelihood(num_steps=6, batch_size=2, chain_steps=2, inference_steps=2)
# waits and operations of an unlogged step; the start of a structural series is asked whether it is determined
BOUNDS: dict[str, tuple[int, int]] = {
    "kalman_vae": (1, 10600),
    "srvp": (1, 2330),
    "latent_ode": (1, 5220),
    "recurrent_vae": (1, 1280),
    "structural_series": (2, 2860),
    "dynamic_factors": (1, 2700),
    "ode2vae": (1, 4700),
    "ode2vae_fixed": (1, 3000),
    "ode_lebm": (1, 5350),
}
FORECASTS = {"kalman_vae": 35, "srvp": 28, "latent_ode": 33, "recurrent_vae": 19, "dynamic_factors": 21, "ode2vae": 41}


@pytest.mark.parametrize("has_gaps", [False, True], ids=["complete", "gaps"])
@pytest.mark.parametrize("name", BOUNDS)
def test_waits_and_operations_of_a_step(name, has_gaps):
    golden = MODELS[name]
    data = golden.data()
    data = ps.Sequences(data.values, times=data.times, inputs=data.inputs)
    if has_gaps:
        hidden = torch.zeros(data.num_series, data.num_steps, dtype=torch.bool)
        hidden[::2, 1] = True
        data = data.hide(hidden)
    method = CHAINS if name == "ode_lebm" else ps.SVI(num_steps=6, batch_size=2)
    with make_believe_gpu(), counting() as waits:
        trainer = ps.Trainer(progress=False, strategy=strategy(), log_every=100, callbacks=[During(waits, STEP)])
        ps.fit(golden.model(0), data, method, trainer=trainer)
    most_waits, most_operations = BOUNDS[name]
    assert 0 < waits.num_waits <= most_waits, waits.places
    assert 0 < waits.num_operations <= most_operations


@pytest.mark.parametrize("name", FORECASTS)
def test_waits_of_a_forecast_do_not_grow_with_its_draws(name):
    """Questions at the door, checks of what comes out: a number of waits for each call, not for each draw or step."""
    golden, counts = MODELS[name], []
    method = CHAINS if name == "ode_lebm" else ps.SVI(num_steps=2, batch_size=2)
    with make_believe_gpu(), counting() as waits:
        posterior = ps.fit(
            golden.model(0), golden.data(), method, trainer=ps.Trainer(progress=False, strategy=strategy())
        )
        posterior.model.to(DEVICE)
        data = golden.data().to(DEVICE)
        for horizon, num_samples in ((2, 4), (4, 8)):
            waits.places.clear()
            waits.is_on = True
            ps.forecast(posterior, data, horizon=horizon, num_samples=num_samples)
            waits.is_on = False
            counts.append(waits.num_waits)
    assert counts[1] <= counts[0] <= FORECASTS[name], waits.places


def test_counter_sees_each_kind_of_wait():
    with make_believe_gpu(), counting() as waits:
        numbers = torch.arange(4.0, device=DEVICE)
        for read in (
            lambda: float(numbers.sum()),
            lambda: bool((numbers > 1).any()),
            lambda: numbers[numbers > 1],
            lambda: numbers.nonzero(),
            lambda: numbers.cpu(),
            lambda: numbers.tolist(),
        ):
            before, waits.is_on = waits.num_waits, True
            read()
            waits.is_on = False
            assert waits.num_waits > before
        before, waits.is_on = waits.num_waits, True
        (numbers + 1).cumsum(0).to(torch.float64)
        assert waits.num_waits == before


def test_twins_follow_what_is_done_to_tensors():
    with make_believe_gpu(), counting() as waits:
        waits.is_on = True
        there = uploaded(torch.arange(6.0), DEVICE)
        double = in_both(lambda part: 2 * part, there)
        assert torch.equal(on_host(double), 2 * torch.arange(6.0))
        assert on_host(double) is on_host(double)
        assert waits.num_waits == 0
        double.add_(1.0)  # its twin is out of date
        assert torch.equal(on_host(double), 2 * torch.arange(6.0) + 1)
        assert waits.num_waits > 0
        before = waits.num_waits
        on_host(double)
        assert waits.num_waits == before  # copied once for each change
        double.data = torch.zeros(6).to(DEVICE)
        assert not on_host(double).any()


def test_what_is_uploaded_to_where_it_is_keeps_its_twin():
    with make_believe_gpu(), counting() as waits:
        there = uploaded(torch.arange(3), DEVICE)
        waits.is_on = True
        again = uploaded(there, DEVICE)
        assert torch.equal(on_host(again), torch.arange(3))
        assert waits.num_waits == 0


def test_a_twin_is_of_the_numbers_that_were_read():
    with make_believe_gpu():
        unit = uploaded(torch.tensor(2.0), DEVICE)
        scaled = in_both(lambda part: 3 * part, unit)
        unit.fill_(5.0)
        assert float(on_host(scaled)) == 6.0 and float(on_host(unit)) == 5.0


def test_a_copy_does_not_keep_its_tensor_alive():
    with make_believe_gpu():
        made = torch.arange(3.0, device=DEVICE)
        derived = in_both(torch.neg, uploaded(torch.arange(3.0), DEVICE))
        alive = [weakref.ref(tensor) for tensor in (made, derived)]
        on_host(made), on_host(derived)
        del made, derived
        gc.collect()
        assert [ref() for ref in alive] == [None, None]


def test_on_the_host_nothing_is_copied():
    tensor = torch.ones(3, requires_grad=True)
    assert on_host(tensor).data_ptr() == tensor.data_ptr() and not on_host(tensor).requires_grad
    assert in_both(torch.neg, tensor).requires_grad


@pytest.mark.parametrize("name", BOUNDS)
def test_checked_and_unchecked_steps_take_the_same_weights_anywhere(name):
    """A run that checks all its steps, because it logs them, ends where one does that checks the first and the last."""
    golden, ends = MODELS[name], []
    method = CHAINS if name == "ode_lebm" else ps.SVI(num_steps=6, batch_size=2)
    for log_every in (1, 100):
        trainer = ps.Trainer(progress=False, accelerator="cpu", log_every=log_every)
        ends.append(ps.fit(golden.model(0), golden.data(), method, trainer=trainer).model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
