"""What the pictures of the manual show is so."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gallery
from pyro_seq.diagnostics import rank_uniformity


def test_tables_tell_chains_that_mixed_from_others():
    found = {name: gallery.convergence(chains) for name, chains in gallery.chain_cases().items()}
    assert found["mixed"]["R-hat"] < 1.02 and found["mixed"]["bulk ESS"] > 400
    assert found["slow"]["bulk ESS"] < 100 and found["slow"]["R-hat"] > 1.1
    assert found["one apart"]["R-hat"] > 1.1


def test_a_funnel_is_cut_off_where_trajectories_diverge():
    draws, _, diverged = gallery.hamiltonian(gallery.funnel_log_prob, 0.35, seed=4)
    assert int(diverged.sum()) > 20
    assert float(draws[..., 0][diverged].mean()) < float(draws[..., 0].mean())
    exact, _, none = gallery.hamiltonian(gallery.flat_log_prob, 0.35, seed=4)
    assert not bool(none.any())
    low = [float((v < -5).double().mean()) for v in (draws[..., 0], exact[..., 0])]
    normal = float(torch.special.ndtr(torch.tensor(-5 / 3)))  # of a normal with deviation 3
    assert low[0] < 0.5 * normal and low[1] == pytest.approx(normal, abs=0.03)


@pytest.mark.parametrize(
    ("factor", "shift", "is_right"), [(1.0, 0.0, True), (0.7, 0.0, False), (1.4, 0.0, False), (1.0, 0.3, False)]
)
def test_ranks_are_uniform_for_the_exact_posterior_only(factor, shift, is_right):
    p_value = rank_uniformity(gallery.simulated_ranks(factor, shift, seed=5), 99).p_value
    assert (p_value > 0.01) == is_right
