"""The encoder of an initial state: which frames each part reads, frames that lack, units, sizes."""

from __future__ import annotations

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.nn.encoder import FrameWindow, InitialStateEncoder
from pyro_seq.nn.mlp import MLPTrunk

SERIES, STEPS, OBS, DIM = 4, 5, 3, 2


def window(num_frames: int, **options) -> FrameWindow:
    return FrameWindow(MLPTrunk(num_frames, (OBS,), (7,)), num_frames, DIM, **options)


def encoder(num_frames: int = 3) -> InitialStateEncoder:
    return InitialStateEncoder(window(1), window(num_frames)).double()


def series() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    frames = torch.randn(SERIES, STEPS, OBS, dtype=torch.float64)
    times = torch.rand(SERIES, STEPS, dtype=torch.float64).cumsum(-1)
    return frames, torch.ones_like(frames, dtype=torch.bool), times


def moments(part: InitialStateEncoder, *data: torch.Tensor) -> torch.Tensor:
    """(series, moment, state)."""
    state = part(*data)
    assert state.batch_shape == (SERIES,) and state.event_shape == (part.dim,)
    return torch.stack([state.base_dist.loc, state.base_dist.scale], 1)


@pytest.mark.parametrize("step", range(STEPS))
def test_the_position_reads_the_first_frame_the_velocity_the_window(step):
    part, (frames, mask, times) = encoder(), series()
    changed = frames.clone()
    changed[:, step] += 1
    is_moved = moments(part, changed, mask, times) != moments(part, frames, mask, times)
    assert bool(is_moved[..., :DIM].all()) == bool(is_moved[..., :DIM].any()) == (step == 0)
    assert bool(is_moved[..., DIM:].all()) == bool(is_moved[..., DIM:].any()) == (step < 3)


def test_what_is_hidden_is_not_read():
    part, (frames, mask, times) = encoder(), series()
    mask[0, 1], mask[1, 0, 2], mask[2] = False, False, False
    expected = moments(part, frames, mask, times)
    assert torch.equal(moments(part, torch.where(mask, frames, 1e3), mask, times), expected)
    assert not torch.equal(moments(part, frames, torch.ones_like(mask), times), expected)


def test_frames_that_lack_at_the_end_are_hidden_frames_without_a_gap():
    part, (frames, mask, times) = encoder(), series()
    short = moments(part, frames[:, :2], mask[:, :2], times[:, :2])
    mask[:, 2:] = False
    times = torch.cat([times[:, :2], times[:, 1:2].expand(-1, STEPS - 2)], -1)
    torch.testing.assert_close(moments(part, frames, mask, times), short, rtol=1e-12, atol=1e-12)


def test_series_do_not_meet():
    part, (frames, mask, times) = encoder(), series()
    together = part(frames, mask, times).base_dist.loc
    alone = torch.cat([part(*(one[[i]] for one in (frames, mask, times))).base_dist.loc for i in range(SERIES)])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)


def test_codes_do_not_depend_on_the_unit_of_the_data():
    part, (frames, mask, times) = encoder(), series()
    codes = []
    for values in (frames, 1e3 * frames - 50):
        part.adapt(Sequences(values))
        codes.append(moments(part, values, mask, times))
    torch.testing.assert_close(codes[0], codes[1], rtol=1e-9, atol=1e-9)


def test_a_window_begins_near_its_first_scale():
    loc, log_scale = window(1, initial_log_scale=-3.0)(*(torch.zeros(2, 1, OBS),) * 2, torch.zeros(2, 0))
    assert loc.shape == log_scale.shape == (2, DIM)
    # the head's weights are a tenth of torch's, below 1 / sqrt(7), of 7 features below 1: off by 0.27 at most
    assert float((log_scale + 3).abs().max()) < 0.27


@pytest.mark.parametrize(("velocity", "dim", "num_frames"), [(None, DIM, 1), (window(4), 2 * DIM, 4)])
def test_sizes_follow_from_the_windows(velocity, dim, num_frames):
    part = InitialStateEncoder(window(1), velocity)
    assert (part.dim, part.num_frames) == (dim, num_frames)
