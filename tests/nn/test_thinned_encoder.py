"""An encoder under which steps are hidden while it trains."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.nn.thinned_encoder import ThinnedEncoder


class Recorder(torch.nn.Module):
    """Keeps what it is shown, and answers with a standard normal."""

    dim = 2

    def forward(self, frames, mask, times):
        self.frames, self.mask = frames, mask
        return torch.distributions.Normal(frames.new_zeros(len(frames), 2), 1.0)


def some_series() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mask = torch.ones(5, 20, 3, dtype=torch.bool)
    mask[0, 10:], mask[1], mask[2, :, 1] = False, False, False
    return torch.randn(5, 20, 3).where(mask, 0), mask, torch.arange(20.0).expand(5, -1)


def test_the_wanted_share_of_the_seen_steps_remains_while_training() -> None:
    frames, mask, times = some_series()
    encoder = ThinnedEncoder(Recorder(), shares=(0.2,)).train()
    encoder(frames, mask, times)
    shown = encoder.encoder.mask
    assert not (shown & ~mask).any()
    assert shown.flatten(2).any(-1).sum(1).tolist() == [2, 0, 4, 4, 4]
    assert torch.equal(encoder.encoder.frames, frames.where(shown, 0))
    steps = shown.any(-1, keepdim=True)
    assert torch.equal(shown, mask & steps), "single entries of a step stay together"


def test_one_step_remains_at_least_and_choices_differ() -> None:
    frames, mask, times = some_series()
    encoder = ThinnedEncoder(Recorder(), shares=(0.01,)).train()
    seen = torch.zeros(5, 20)
    for _ in range(200):
        encoder(frames, mask, times)
        steps = encoder.encoder.mask.flatten(2).any(-1)
        assert steps.sum(1).tolist() == [1, 0, 1, 1, 1]
        seen += steps
    assert (seen[3] > 0).all(), "every step is kept now and then"


def test_all_shares_occur() -> None:
    frames, mask, times = some_series()
    encoder = ThinnedEncoder(Recorder(), shares=(0.1, 0.5, 1.0)).train()
    counts = set()
    for _ in range(50):
        encoder(frames, mask, times)
        counts.add(int(encoder.encoder.mask[4].any(-1).sum()))
    assert counts == {2, 10, 20}


def test_nothing_is_hidden_afterwards() -> None:
    frames, mask, times = some_series()
    encoder = ThinnedEncoder(Recorder(), shares=(0.1,)).eval()
    encoder(frames, mask, times)
    assert torch.equal(encoder.encoder.mask, mask) and torch.equal(encoder.encoder.frames, frames)


@pytest.mark.parametrize("shares", [(), (0.0,), (0.5, 1.5)])
def test_shares_out_of_range(shares: tuple[float, ...]) -> None:
    with pytest.raises(ps.DataError, match="`shares` must be"):
        ThinnedEncoder(Recorder(), shares=shares)


def test_the_likelihood_counts_all_points_and_prediction_reads_all() -> None:
    data = ps.Sequences(torch.randn(6, 8, 1), times=torch.arange(8.0))
    encoder = ThinnedEncoder(ps.RNNEncoder((1,), 2, hidden_dim=4), shares=(0.25,))
    model = ps.ODELEBM(obs_shape=(1,), state_dim=2, encoder=encoder)
    posterior = ps.fit(model, data, ps.SVI(num_steps=2), trainer=ps.Trainer(progress=False))
    model.train()
    torch.manual_seed(0)
    first, second = (model.encode(data).mean for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model.encode(data).mean, model.encode(data).mean)
    assert ps.reconstruct(posterior, data, num_samples=2).emission_means.shape == (2, 6, 8, 1)
