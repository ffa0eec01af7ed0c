"""The encoder of chains: what each of its Gaussians may and may not depend on, and frames that were not seen."""

from __future__ import annotations

import torch
from torch.autograd.functional import jacobian

from pyro_seq.nn.chain_encoder import ChainEncoder, hold

SEEN = torch.ones(2, 6, dtype=torch.bool)


def encoder() -> ChainEncoder:
    return ChainEncoder(3, 4, 2, num_frames=3, hidden_dim=8).double()


def codes() -> torch.Tensor:
    return torch.randn(2, 6, 3, dtype=torch.float64)


def test_noise_depends_on_the_past_alone():
    part = encoder()
    for read in ("loc", "scale"):
        slope = jacobian(lambda frames, read=read: getattr(part.noise(frames, SEEN), read)[0], codes())[:, :, 0]
        assert torch.equal(slope.abs().amax((1, 3)) > 0, torch.ones(6, 6).tril().bool())


def test_the_first_state_depends_on_the_first_frames_alone():
    part = encoder()
    slope = jacobian(lambda frames: part.initial(frames, SEEN).base_dist.loc[0], codes())[:, 0]
    assert (slope.abs().amax((0, 2)) > 0).tolist() == [True] * 3 + [False] * 3


def test_a_frame_that_was_not_seen_has_the_code_of_the_last_that_was():
    frames, seen = codes(), torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    held = hold(frames, seen)
    expected = [torch.zeros(3, dtype=torch.float64)] + [frames[0, t] for t in (1, 1, 1, 4, 4)]
    assert torch.equal(held[0], torch.stack(expected)) and torch.equal(held[1], frames[1])
    assert hold(frames, SEEN) is frames


def test_a_short_series_repeats_its_last_frame():
    part, frames = encoder(), codes()[:, :2]
    longer = torch.cat([frames, frames[:, -1:]], 1)
    short, repeated = part.initial(frames, SEEN[:, :2]), part.initial(longer, SEEN[:, :3])
    assert torch.equal(short.base_dist.loc, repeated.base_dist.loc)
