"""What checks work with: copies, draws, cuts, densities, and comparisons that name what differs."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch

from pyro_seq.errors import DataError
from pyro_seq.testing.case import (
    Case,
    CheckFailed,
    FixedPosterior,
    NotApplicable,
    objective_terms,
    require_equal,
    require_finite,
    series_densities,
    traced,
)
from tests.support import Lines, Walks, binary_series, real_series


def case(seed: int = 0) -> Case:
    return Case(Lines(), real_series(), seed)


def test_a_copy_and_a_case_in_another_type_have_models_of_their_own() -> None:
    one = case()
    for other, dtype in ((one.copy(), torch.float32), (one.double(), torch.float64)):
        assert {p.dtype for p in other.model.parameters()} == {other.data.dtype} == {dtype}
        with torch.no_grad():
            other.model.emit.weight.add_(1.0)
        assert not torch.equal(other.model.emit.weight.to(one.data.dtype), one.model.emit.weight)


def test_a_draw_follows_the_seed_and_knows_what_belongs_to_single_series() -> None:
    model = Lines()
    first, again, other = (Case(model, real_series(), seed).draw() for seed in (1, 1, 2))
    assert first.local == {"line"} and set(first.values) == {"line", "drift"}
    assert torch.equal(first.values["line"], again.values["line"])
    assert not torch.equal(first.values["line"], other.values["line"])
    some = first.select(torch.tensor([4, 1]))
    assert torch.equal(some["line"], first.values["line"][[4, 1]]) and some["drift"] is first.values["drift"]


def test_paths_are_the_sites_along_time() -> None:
    assert Case(Walks(), binary_series()).paths == {"walk"} and case().paths == frozenset()


def test_a_horizon_keeps_the_last_inputs() -> None:
    one = case()
    inputs = torch.randn(6, 9, 2)
    longer = Case(one.model, one.data._with(inputs=inputs)).extended(3)
    assert longer.horizon == 3
    assert torch.equal(longer.inputs[:, 9:], inputs[:, -1:].expand(-1, 3, -1))


def test_a_cut_leaves_some_steps_that_the_model_takes() -> None:
    steps, shorter = case().cut()
    assert steps == 9 - 9 // 4 == shorter.num_steps

    class Long(Lines):
        def check(self, data):
            if data.num_steps < 9:
                raise DataError("too short")

    with pytest.raises(NotApplicable, match="refuses 7 steps .too short"):
        Case(Long(), real_series()).cut()


@pytest.mark.parametrize("seed", range(20))
def test_hidden_steps_are_some_but_never_the_first(seed: int) -> None:
    hidden = case(seed).hidden_steps()
    assert hidden.shape == (6, 9) and not bool(hidden[:, 0].any()) and bool(hidden[0, -1])
    conditional = Case(Lines(), real_series(), seed)
    conditional.model.is_conditional = True
    assert not bool(conditional.hidden_steps()[:, :4].any())


def test_a_trace_may_have_draws_in_front_and_leaves_random_numbers_alone(assert_rng_untouched) -> None:
    one = case()
    with assert_rng_untouched():
        trace = traced(one.model.guide, one.data, seed=0, num_samples=5)
    assert trace.nodes["line"]["value"].shape == (5, 6, 2)


def test_densities_of_a_series_by_hand() -> None:
    one = case()
    draw = one.draw().values
    density = series_densities(one.model.model, one.data, draw)
    assert set(density) == {"line", "x"}, "global sites belong to no single series"
    torch.testing.assert_close(density["line"], dist.Normal(0.0, 1.0).log_prob(draw["line"]).sum(-1))


def test_terms_at_pinned_latents_do_not_depend_on_the_seed() -> None:
    model, data = Lines(), real_series()
    draw = Case(model, data).draw().values
    pinned, again = (objective_terms(Case(model, data, seed), data, draw) for seed in (0, 1))
    free = objective_terms(Case(model, data, 1), data)
    assert all(torch.equal(term, again[name]) for name, term in pinned.items())
    assert not torch.equal(free["x"], pinned["x"])


def test_fixed_draws_are_read_whatever_the_data() -> None:
    sites = {"line": torch.zeros(3, 6, 2)}
    assert FixedPosterior(Lines(), sites).draws(real_series(2), 7) == sites


def test_comparisons_name_the_first_difference() -> None:
    one, two = torch.tensor([[1.0, 2.0], [1.0, 2.0 + 1e-6]], dtype=torch.float64)
    require_equal({"a": one}, {"a": one.clone()}, "Reason.", rtol=0.0)
    require_equal({"a": one}, {"a": two}, "Reason.", rtol=1e-6)
    with pytest.raises(CheckFailed, match=r"Reason. At 'a' the largest difference is 1e-06 \(allowed 2e-08\)"):
        require_equal({"a": one}, {"a": two}, "Reason.")
    with pytest.raises(CheckFailed, match="allowed 0"):
        require_equal({"a": one}, {"a": two}, "Reason.", rtol=0.0)
    with pytest.raises(CheckFailed, match=r"The sites differ: \['a'\] and \['b'\]"):
        require_equal({"a": one}, {"b": one}, "Reason.")
    with pytest.raises(CheckFailed, match=r"At 'a' the shapes differ: \(2,\), \(1,\)"):
        require_equal({"a": one}, {"a": one[:1]}, "Reason.")
    with pytest.raises(CheckFailed, match="largest difference is nan"):
        require_equal({"a": one * torch.nan}, {"a": one}, "Reason.")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_must_be_finite(bad: float) -> None:
    require_finite(torch.zeros(3), "The loss", "Do this.")
    with pytest.raises(CheckFailed, match="The loss is not finite. Do this."):
        require_finite(torch.tensor([0.0, bad]), "The loss", "Do this.")
