"""`SequenceModel`: sites, plate, units of time, masks, and the data that a model refuses."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError, UnsupportedError
from pyro_seq.model import SequenceModel, is_latent, is_local, is_random, local_log_prob, over_samples, series_log_prob
from tests.support import RandomWalk


class Level(SequenceModel):
    """A level of each series around a shared one, seen through noise."""

    def model(self, data: Sequences) -> None:
        shared = pyro.sample("shared", dist.Normal(data.values.new_zeros(()), 1.0))
        with self.series(data):
            level = pyro.sample("level", dist.Normal(shared, 1.0))
            path = pyro.deterministic("path", self.path(level, data), event_dim=2)
            self.observe(lambda state: dist.Normal(state, 0.5), path, data)

    def path(self, level: torch.Tensor, data: Sequences) -> torch.Tensor:
        return level[..., None, None].expand(*level.shape, data.times.shape[-1], 1)


def make_data() -> Sequences:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 5, 1, dtype=torch.float64, generator=generator)
    return Sequences(values, mask=torch.rand(4, 5, generator=generator) < 0.7)


def traced(data: Sequences) -> poutine.Trace:
    with pyro.settings.context(module_local_params=True):
        return poutine.trace(Level().model).get_trace(data)


def test_the_density_of_a_series_is_its_latents_and_what_was_seen() -> None:
    data = make_data()
    level, shared = torch.randn(3, 4, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    density = series_log_prob(Level(), data, {"level": level, "shared": shared})
    seen = dist.Normal(level[..., None], 0.5).log_prob(data.values[..., 0])
    expected = dist.Normal(shared, 1.0).log_prob(level) + (seen * data.mask).sum(-1)
    torch.testing.assert_close(density, expected, rtol=1e-12, atol=1e-12)


def test_a_minibatch_counts_more_in_a_trace_but_not_in_the_density_of_a_series() -> None:
    data = make_data()
    trace = traced(data.minibatch(torch.tensor([2, 0])))
    assert trace.nodes["level"]["scale"] == 2.0 and trace.nodes["shared"]["scale"] == 1.0
    own = local_log_prob(trace)
    assert own.shape == (2,)
    trace.compute_log_prob()
    together = trace.nodes["level"]["log_prob_sum"] + trace.nodes["x"]["log_prob_sum"]
    torch.testing.assert_close(2.0 * own.sum(), together, rtol=1e-12, atol=1e-12)


def test_kinds_of_sites() -> None:
    nodes = traced(make_data().extend(horizon=2)).nodes
    names = ("shared", "series", "level", "path", "x", "x_future")
    kinds = {name: (is_latent(nodes[name]), is_random(nodes[name])) for name in names}
    assert kinds == {
        "shared": (True, True),
        "series": (False, False),
        "level": (True, True),
        "path": (False, False),
        "x": (False, True),
        "x_future": (True, True),
    }
    assert not is_local(nodes["shared"]) and is_local(nodes["level"])


def test_draws_lie_to_the_left_of_the_series() -> None:
    with pyro.settings.context(module_local_params=True):
        trace = poutine.trace(over_samples(Level().model, 3)).get_trace(make_data())
    assert trace.nodes["shared"]["value"].shape == (3, 1)
    assert trace.nodes["level"]["value"].shape == (3, 4)


@pytest.mark.parametrize(("tempo", "typical"), [(torch.ones(()), 0.5), (torch.tensor([1.0, 1.0, 4.0])[:, None], 1.0)])
def test_time_counts_from_the_first_step_in_units_of_the_typical_one(tempo: torch.Tensor, typical: float) -> None:
    """Gaps of 0.5, 0.5 and 1 in two series, and four times as long in a third: the median of all is 1."""
    times = 1e9 + torch.tensor([0.0, 0.5, 1.0, 2.0], dtype=torch.float64) * tempo
    data, model = Sequences(torch.zeros(3, 4, 1), times=times), SequenceModel()
    model.adapt(data)
    assert float(model.time_scale) == typical
    expected = (times - 1e9).float() / typical
    assert torch.equal(model.model_times(data), expected) and model.model_times(data).dtype == data.dtype
    assert torch.equal(model.model_gaps(data), expected.diff(dim=-1, prepend=expected[..., :1]))
    assert model.model_gaps(data).dtype == data.dtype


def test_steps_count_up_to_the_last_that_was_seen() -> None:
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    valid = SequenceModel().valid(Sequences(torch.zeros(3, 4, 1), mask=mask))
    assert valid.sum(-1).tolist() == [3, 0, 4] and bool(valid[0, :3].all())


def test_a_path_and_its_continuation_are_two_sites() -> None:
    data = make_data().extend(horizon=3)
    walk = RandomWalk(torch.zeros(4, 5, 2), torch.tensor(1e-6))
    trace = poutine.trace(lambda: SequenceModel().sample_path("walk", walk, data)).get_trace()
    value, future = trace.nodes["walk"]["value"], trace.nodes["walk_future"]["value"]
    assert trace.nodes["_RETURN"]["value"].equal(torch.cat([value, future], -2))
    assert future.shape == (4, 3, 2)


def test_single_hidden_entries_need_independent_ones() -> None:
    values, mask = torch.randn(2, 3, 2), torch.ones(2, 3, 2, dtype=torch.bool)
    mask[0, 1, 0] = False
    data = Sequences(values, mask=mask)

    def observed(is_joint: bool) -> torch.Tensor:
        def emission(state: torch.Tensor) -> dist.TorchDistribution:
            normal = dist.Normal(state, 1.0)
            return normal.to_event(1) if is_joint else normal

        with pyro.plate("series", 2, dim=-1):
            SequenceModel().observe(emission, torch.zeros(2, 3, 2), data)

    site = poutine.trace(observed).get_trace(False).nodes["x"]
    expected = (dist.Normal(0.0, 1.0).log_prob(values) * mask).sum((1, 2))
    torch.testing.assert_close(site["fn"].log_prob(site["value"]), expected)
    with pytest.raises(UnsupportedError, match="hides single entries, but the emission Independent scores whole"):
        observed(True)


class Even(SequenceModel):
    has_even_times = True
    obs_shape = (1,)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (Sequences(torch.zeros(2, 3, 2)), ShapeError, r"observations of shape \(1,\), the `obs_shape` of this Even"),
        (Sequences(torch.zeros(2, 0, 1)), DataError, "at least one seen step"),
        (Sequences(torch.zeros(2, 3, 1), inputs=torch.zeros(2, 3, 1)), UnsupportedError, "Even has no inputs"),
        (Sequences(torch.zeros(2, 3, 1), times=torch.tensor([0.0, 1.0, 2.1])), DataError, "steps from 1 to 1.1"),
    ],
)
def test_data_that_a_model_cannot_use(data: Sequences, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Even().check(data)


def test_even_times_may_be_rounded() -> None:
    Even().check(Sequences(torch.zeros(2, 4, 1), times=torch.arange(4).double() / 3 + 1e5))


def test_parts_check_and_adapt_themselves() -> None:
    class Part(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = []

        def check(self, data: Sequences) -> None:
            self.calls.append("check")

        def adapt(self, data: Sequences) -> None:
            self.calls.append("adapt")

    model = SequenceModel()
    model.part, model.other = Part(), torch.nn.Linear(1, 1)
    model.check(make_data())
    model.adapt(make_data())
    assert model.part.calls == ["check", "adapt"]


def test_what_must_be_written_is_named() -> None:
    for name in ("model", "guide"):
        with pytest.raises(NotImplementedError, match=rf"SequenceModel must define `{name}\(self, data\)`"):
            getattr(SequenceModel(), name)(make_data())


def test_parameters_are_bound_to_pyro_outside_of_the_library_only() -> None:
    model = SequenceModel()
    model.weight, model.frozen = (
        torch.nn.Parameter(torch.ones(1)),
        torch.nn.Parameter(torch.ones(1), requires_grad=False),
    )
    with pyro.settings.context(module_local_params=True):
        model.bind()
    assert not list(pyro.get_param_store())
    with pyro.get_param_store().scope():
        model.bind()
        assert [name.rpartition(".")[2] for name in pyro.get_param_store()] == ["weight"]
