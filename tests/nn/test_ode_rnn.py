"""Encoders that read a series backwards: what is hidden, where the series starts, and a loop by hand beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.nn.mlp import MLPTrunk
from pyro_seq.nn.ode_rnn import ODERNNEncoder, RNNEncoder
from pyro_seq.ops.odeint import RK4, Dopri5, Euler

F64 = torch.float64
SERIES, TIME, OBS, HIDDEN, DIM = 4, 7, 3, 5, 2
KINDS = pytest.mark.parametrize("kind", [RNNEncoder, ODERNNEncoder])


def series(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, mask of entries, and times of each series; one series ends early, one starts late, one is unseen."""
    source = torch.Generator().manual_seed(seed)
    frames = torch.randn(SERIES, TIME, OBS, dtype=F64, generator=source)
    mask = torch.rand(SERIES, TIME, OBS, generator=source) < 0.5
    mask[0, 5:] = mask[1, :2] = mask[2] = False
    mask[3, 3] = False
    times = (0.1 + torch.rand(SERIES, TIME, dtype=F64, generator=source)).cumsum(-1)
    return frames * mask, mask, times


def make(kind, **options):
    torch.manual_seed(0)
    return kind((OBS,), DIM, hidden_dim=HIDDEN, **options).double()


def moments(encoder, *data: Tensor) -> Tensor:
    posterior = encoder(*data).base_dist
    return torch.cat([posterior.loc, posterior.scale], -1).detach()


@KINDS
def test_hidden_entries_never_count(kind) -> None:
    frames, mask, times = series()
    for bad in (7.0, torch.nan):
        spoilt = torch.where(mask, frames, bad)
        assert torch.equal(moments(make(kind), spoilt, mask, times), moments(make(kind), frames, mask, times))


@KINDS
def test_the_end_is_where_the_last_entry_is_seen(kind) -> None:
    frames, mask, times = series()
    full, cut = (moments(make(kind), frames[:1, :k], mask[:1, :k], times[:1, :k]) for k in (TIME, 5))
    torch.testing.assert_close(full, cut, rtol=1e-13, atol=1e-13)


@KINDS
def test_only_time_since_the_start_counts(kind) -> None:
    frames, mask, times = series()
    moved = moments(make(kind), frames, mask, times + 64)
    torch.testing.assert_close(moved, moments(make(kind), frames, mask, times), rtol=1e-11, atol=1e-11)
    later = torch.cat([times[:, :1] - 0.5, times[:, 1:]], -1)  # the first step earlier, all else the same
    assert not torch.allclose(moments(make(kind), frames, mask, later)[1], moved[1], atol=1e-4)


@KINDS
def test_a_series_without_observations(kind) -> None:
    frames, mask, times = series()
    encoder = make(kind)
    other = moments(encoder, frames[:1], torch.zeros_like(mask[:1]), 3 * times[:1])
    torch.testing.assert_close(moments(encoder, frames, mask, times)[2], other[0], rtol=1e-13, atol=1e-13)


@KINDS
def test_every_seen_step_counts(kind) -> None:
    frames, mask, times = series()
    leaf = frames.clone().requires_grad_()
    make(kind)(leaf, mask, times).base_dist.loc.sum().backward()
    assert torch.equal(leaf.grad != 0, mask)


@KINDS
def test_series_do_not_meet(kind) -> None:
    frames, mask, times = series()
    together = moments(make(kind), frames, mask, times)
    for i in range(SERIES):
        alone = moments(make(kind), frames[i : i + 1], mask[i : i + 1], times[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-12)


def test_recurrent_encoder_is_a_loop_over_seen_steps() -> None:
    frames, mask, times = series()
    encoder = make(RNNEncoder)
    cell = nn.GRUCell(encoder.recurrence.input_size, HIDDEN).double()
    cell.load_state_dict({name[:-3]: value for name, value in encoder.recurrence.state_dict().items()})
    for i in (0, 1, 3):
        memory, read_at, step = torch.zeros(1, HIDDEN, dtype=F64), None, 0
        for step in reversed(range(TIME)):
            if mask[i, step].any():
                gap = 0 * times[i, step] if read_at is None else read_at - times[i, step]
                memory, read_at = (
                    cell(torch.cat([frames[i, step], mask[i, step], gap[None]])[None], memory),
                    times[i, step],
                )
        wanted = encoder.head(torch.cat([memory, (read_at - times[i, 0])[None, None]], -1)).base_dist
        got = encoder(frames, mask, times).base_dist
        torch.testing.assert_close(got.loc[i], wanted.loc[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.scale[i], wanted.scale[0], rtol=1e-12, atol=1e-12)


def test_between_observations_the_memory_follows_the_equation() -> None:
    """A linear one, by the matrix exponential, from jump to jump."""
    frames, mask, times = series()
    field = nn.Linear(HIDDEN, HIDDEN, bias=False).double()
    encoder = make(ODERNNEncoder, field=field, solver=RK4(step_size=0.01))
    memories = encoder.memories(frames, mask, times)
    for i in (0, 1, 3):
        memory, read_at = torch.zeros(HIDDEN, dtype=F64), None
        for step in reversed(range(TIME)):
            if read_at is not None:
                memory = torch.linalg.matrix_exp((read_at - times[i, step]) * field.weight) @ memory
            read_at = read_at if read_at is None else times[i, step]
            if mask[i, step].any():
                features = torch.cat([frames[i, step], mask[i, step]])
                memory, read_at = encoder.cell(features[None], memory[None])[0], times[i, step]
                torch.testing.assert_close(memories[i, TIME - 1 - step], memory, rtol=1e-7, atol=1e-8)
        torch.testing.assert_close(memories[i, -1], memory, rtol=1e-7, atol=1e-8)


def test_one_step_of_euler_an_interval_by_default() -> None:
    encoder = make(ODERNNEncoder)
    frames, mask, times = series()
    mask[0, 1:4] = False  # steps 0 and 4 are seen, the last is read first
    mask[0, [0, 4]] = True
    memory = encoder.cell(torch.cat([frames[0, 4], mask[0, 4]])[None])
    for step in (3, 2, 1, 0):
        memory = memory + (times[0, step + 1] - times[0, step]) * encoder.field(memory)
    memory = encoder.cell(torch.cat([frames[0, 0], mask[0, 0]])[None], memory)
    got = encoder.memories(frames, mask, times)[0, -1]
    torch.testing.assert_close(got, memory[0], rtol=1e-12, atol=1e-12)


@KINDS
def test_units_and_trunks(kind) -> None:
    source = torch.Generator().manual_seed(0)
    values = 100 + 10 * torch.randn(6, TIME, OBS, generator=source)
    mask = torch.ones_like(values, dtype=torch.bool)
    times = torch.arange(TIME).float().expand(6, -1)
    torch.manual_seed(0)
    plain, adapted = kind((OBS,), DIM), kind((OBS,), DIM, trunk=MLPTrunk(1, (OBS,), (8, 8)))
    plain.adapt(Sequences(values))
    standard = plain.reader.units(values)
    assert abs(float(standard.mean())) < 1e-4 and adapted(values, mask, times).event_shape == (DIM,)
    images = torch.rand(2, TIME, 1, 8, 8)
    posterior = kind((1, 8, 8), DIM)(images, torch.ones_like(images, dtype=torch.bool), times[:2])
    assert posterior.batch_shape == (2,) and posterior.event_shape == (DIM,)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: RNNEncoder((2,), 0),
        lambda: ODERNNEncoder((2,), 2, hidden_dim=0),
        lambda: ODERNNEncoder((2,), 2, solver=Dopri5()),
        lambda: ODERNNEncoder((2,), 2, solver=Euler(0.1, is_dense=True)),
    ],
    ids=["dim", "hidden", "adaptive", "dense"],
)
def test_arguments(bad) -> None:
    with pytest.raises(DataError):
        bad()
