"""What a method asks of the engine when it asks for nothing beside steps, batches and optimisers."""

from __future__ import annotations

import dataclasses

import pytest

from pyro_seq.training.plan import Plan


def test_a_plan_that_names_no_more_leaves_rates_gradients_data_and_weights_as_they_are() -> None:
    plan = Plan(num_steps=5, batch_size=None, optimizers=lambda objective: [])
    assert [plan.schedule(step) for step in (0, 5, 999)] == [1.0, 1.0, 1.0]
    assert (plan.clip_norm, plan.average, plan.facts) == (None, None, None) and not plan.views
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.num_steps = 6
