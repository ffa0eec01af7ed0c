"""What earlier files hold otherwise: layers that came later have no effect, and files that lack nothing are kept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyro_seq.nn.ode_rnn import GaussianHead
from pyro_seq.nn.saved_state import expected_weights


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_head_of_a_file_without_its_hidden_layer_is_the_linear_one(is_trained):
    plain, head = GaussianHead(3, 2), GaussianHead(3, 2, hidden_dim=5)
    if is_trained:
        nn.init.normal_(head.hidden[-1].weight)
    saved, features = plain.state_dict(), torch.randn(7, 3)
    assert expected_weights(head, saved).keys() == saved.keys()
    head.load_state_dict(saved)
    for read in ("mean", "stddev"):
        assert torch.equal(getattr(head(features), read), getattr(plain(features), read))
    # it still learns: the last layer has a gradient, for the first is not zero
    head(features).mean.sum().backward()
    assert bool(head.hidden[-1].weight.grad.any())


def test_a_file_of_today_is_wanted_whole():
    owner = nn.ModuleDict({"head": GaussianHead(3, 2, hidden_dim=5)})
    saved = owner.state_dict()
    assert expected_weights(owner, saved).keys() == saved.keys()
    other = nn.ModuleDict({"head": GaussianHead(3, 2, hidden_dim=5)})
    nn.init.normal_(owner["head"].hidden[-1].weight)
    other.load_state_dict(owner.state_dict())
    assert torch.equal(other["head"].hidden[-1].weight, owner["head"].hidden[-1].weight)
