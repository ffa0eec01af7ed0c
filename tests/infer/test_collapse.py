"""A warning of latents that training has given up, and none where that is not so."""

from __future__ import annotations

import warnings

import pytest
import torch

import pyro_seq as ps
from pyro_seq.infer.collapse import warn_of_collapse
from pyro_seq.training.plan import Outcome
from pyro_seq.training.schedules import Constant, WarmUp
from tests.golden.make import recurrent_vae

QUIET = ps.Trainer(progress=False)


def outcome(*divergences: float, status: str = "completed", steps: int = 1000) -> Outcome:
    """A run with divergences at even distances, the last of them at the end."""
    rows = [steps * (row + 1) / len(divergences) for row in range(len(divergences))]
    return Outcome({"step": rows, "codes": list(divergences), "x": [1.0] * len(rows)}, status)


def judge(found: Outcome, length: float = 10.0, scales: dict | None = None) -> None:
    warn_of_collapse(found, {"codes": length}, scales or {}, stacklevel=1)


def settled(last: float) -> list[float]:
    return [5.0] * 18 + [last] * 2


@pytest.mark.parametrize(
    ("divergence", "length"),
    [(0.19, 10.0), (-0.05, 10.0), (0.0, 1.0), (0.019, 1.0), (0.69, 1000.0)],
)
def test_a_divergence_near_zero_is_warned_of(divergence, length):
    with pytest.warns(UserWarning, match=r"'codes' has collapsed: its divergence from the prior is .* nats a series"):
        judge(outcome(*settled(divergence)), length)


@pytest.mark.parametrize(
    ("found", "length", "scales"),
    [
        (outcome(*settled(0.21)), 10.0, {}),  # more than 0.02 a step
        (outcome(*settled(0.02)), 1.0, {}),
        (outcome(*settled(0.7)), 1000.0, {}),  # more than a bit
        (outcome(*settled(-0.21)), 10.0, {}),  # a divergence up to a constant, as of an energy without its normaliser
        (outcome(*settled(0.0), status="interrupted"), 10.0, {}),
        (outcome(*settled(0.0), status="stopped early"), 10.0, {}),
        (outcome(*settled(0.0), steps=99), 10.0, {}),
        (outcome(*settled(0.0)), 10.0, {"codes": WarmUp(950)}),
        (outcome(*settled(0.0)), 10.0, {"x": WarmUp(5000)}),
        (outcome(*[0.0] * 18, 3.0, 3.0), 10.0, {}),  # it woke up
        (Outcome({}, "completed"), 10.0, {}),
    ],
)
def test_no_false_alarm(found, length, scales):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge(found, length, scales)


def test_schedules_that_have_ended_do_not_keep_it_quiet():
    with pytest.warns(UserWarning, match="WarmUp") as caught:
        judge(outcome(*settled(0.0)), scales={"codes": WarmUp(800), "x": Constant(0.3)})
    assert len(caught) == 1 and "0 a step" in str(caught[0].message)


def test_a_fit_warns_once_and_where_it_was_called():
    """At a weight of zero nothing of the observations counts, so that the codes follow their prior."""
    data = ps.Sequences(torch.rand(8, 6, 2, dtype=torch.float64))
    torch.manual_seed(0)
    method = ps.SVI(num_steps=150, learning_rate=3e-2, scales={"x": 0.0})
    with pytest.warns(UserWarning, match=r"'codes' has collapsed.*weights are \{'x': 0.0\}") as caught:
        ps.fit(recurrent_vae().double(), data, method, trainer=QUIET)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_the_objective_knows_how_long_its_latents_are():
    mask = torch.ones(4, 6, dtype=torch.bool)
    mask[:2, 3:] = False
    data = ps.Sequences(torch.rand(4, 6, 2), mask=mask)
    lengths = {}
    for model in (recurrent_vae(), ps.ODE2VAE((2,), 2, tempo=ps.SeriesTempo())):
        objective = ps.SVI(num_steps=1).objective(model, data)
        objective(data)
        lengths |= objective.num_steps
    assert lengths == {"codes": 4.5, "initial": 1.0, "log_tempo": 1.0}  # "weights" belong to no series
