"""Content: the same in whatever order frames come, from those chosen alone; which frames are chosen."""

from __future__ import annotations

import torch

from pyro_seq.nn.content import Content, last_frames, random_frames

SEEN = torch.tensor([[1, 1, 0, 1, 1, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)


def content() -> Content:
    return Content(4, 7, num_frames=3).double()


def codes() -> torch.Tensor:
    return torch.randn(3, 6, 4, dtype=torch.float64)


def test_the_order_of_frames_does_not_matter():
    part, frames, order = content(), codes(), torch.tensor([3, 5, 0, 1, 4, 2])
    chosen = last_frames(SEEN, 3)
    torch.testing.assert_close(part(frames[:, order], chosen[:, order]), part(frames, chosen), rtol=1e-12, atol=1e-14)


def test_it_is_a_sum_over_the_chosen_frames_by_hand():
    part, frames = content(), codes()
    got = part(frames, last_frames(SEEN, 3))
    first = sum(torch.relu(part.each[0](frames[0, t])) for t in (1, 3, 4))
    second = 3 * torch.relu(part.each[0](frames[1, 0]))  # one frame that counts three times
    for series, features in enumerate((first, second)):
        torch.testing.assert_close(got[series], torch.tanh(part.head[0](features)), rtol=1e-12, atol=1e-14)


def test_other_frames_do_not_matter():
    part, frames, chosen = content(), codes(), last_frames(SEEN, 2)
    changed = torch.where(chosen[..., None], frames, float("nan"))
    assert torch.equal(part(changed, chosen), part(frames, chosen))


def test_the_last_seen_frames_are_chosen():
    assert last_frames(SEEN, 2).nonzero().tolist() == [[0, 3], [0, 4], [1, 0], [2, 4], [2, 5]]
    assert torch.equal(last_frames(SEEN, 9), SEEN)


def test_random_frames_are_uniform_among_the_seen():
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([random_frames(SEEN, 2, generator) for _ in range(2000)]).double()
    counts = torch.tensor([2.0, 1.0, 2.0]).double()
    assert bool((draws.sum(-1) == counts).all())
    share = counts / SEEN.sum(-1)
    expected = SEEN * share[:, None]
    error = (expected * (1 - expected) / len(draws)).sqrt()
    assert bool(((draws.mean(0) - expected).abs() <= 4 * error).all())
