"""Views: what every one of them keeps, and what each of them changes."""

from __future__ import annotations

import pickle

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError
from pyro_seq.training.views import CyclicShift, GrowingLength, RandomGaps, RandomSteps, RandomWindows, Thin, TimeWarp

VIEWS = [
    GrowingLength(start=2, full_at=10),
    RandomWindows(length=4),
    Thin(stride=3, keep=2, random_offset=True),
    RandomSteps(count=5, keep=2),
    RandomSteps(count=5, keep=2, per_series=False),
    TimeWarp(0.5, 2.0),
    CyclicShift(),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data() -> Sequences:
    """Values, inputs and times that say which series and step they belong to; some steps are hidden."""
    series, time = torch.arange(6.0)[:, None], torch.arange(9.0)
    values = torch.stack([100 * series + time, -(100 * series + time)], -1)
    mask = torch.rand(6, 9, generator=generator()) > 0.2
    mask[:, :2] = True
    mask[5, 6:] = False
    mask[:5, -1] = True
    inputs = (100 * series + time)[..., None]
    return Sequences(values, mask=mask, times=10.0 + 2 * time, inputs=inputs, index=torch.arange(6) + 1, total=20)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_every_view(view, data):
    seen = view(data, 3, generator())
    again = view(data, 3, generator())
    for name in ("values", "mask", "times", "inputs"):
        assert torch.equal(getattr(seen, name), getattr(again, name))
    assert seen.total == 20 and torch.equal(seen.index, data.index) and seen.num_series == 6
    rebuilt = Sequences(seen.values, mask=seen.mask, times=seen.times, inputs=seen.inputs)  # passes all checks
    assert torch.equal(rebuilt.values, seen.values)  # hidden entries are zero
    assert pickle.loads(pickle.dumps(view)) == view
    by_entry = Sequences(data.values, mask=data.entry_mask, times=data.times, inputs=data.inputs)
    assert torch.equal(view(by_entry, 3, generator()).entry_mask, seen.entry_mask)
    if not isinstance(view, TimeWarp):  # what is seen is what was there, at the time it was there
        step = (seen.inputs[..., 0] - 100 * torch.arange(6.0)[:, None]).long()
        assert torch.equal(seen.values[..., 0], torch.where(seen.mask, seen.inputs[..., 0], 0))
        assert not (seen.mask & ~data.mask.gather(1, step)).any()
        if not isinstance(view, CyclicShift):
            times = seen.times.expand(6, -1)
            assert torch.equal(times[seen.mask], (10.0 + 2 * step.double())[seen.mask])


@pytest.mark.parametrize("view", VIEWS[1:4] + VIEWS[5:], ids=lambda view: type(view).__name__)
def test_another_seed_another_view(view, data):
    assert not torch.equal(view(data, 3, generator(1)).values, view(data, 3, generator(2)).values)


@pytest.mark.parametrize(
    "view",
    [
        GrowingLength(start=9, full_at=1),
        GrowingLength(start=99, full_at=10),
        RandomWindows(length=9, at_start=1.0),
        RandomWindows(length=lambda step: 99, at_start=1.0),
        Thin(stride=1, keep=0),
        RandomSteps(count=9),
        TimeWarp(1.0, 1.0),
    ],
    ids=lambda view: type(view).__name__,
)
def test_identities(view, data):
    seen = view(data, 0, generator())
    assert torch.equal(seen.values, data.values) and torch.equal(seen.mask, data.mask)
    assert torch.equal(seen.times.expand(6, -1), data.times.expand(6, -1))


def test_growing_length(data):
    lengths = [GrowingLength(start=2, full_at=7)(data, step, generator()).num_steps for step in range(9)]
    assert lengths == [2, 3, 4, 5, 6, 7, 8, 9, 9]


def test_windows_start_where_they_should():
    data = Sequences(torch.arange(8.0).expand(4000, 8)[..., None], mask=torch.arange(8).expand(4000, 8) < 6)
    seen = RandomWindows(length=3, at_start=0.4)(data, 0, generator())
    starts = seen.times[:, 0].long()
    counts = torch.bincount(starts, minlength=8) / 4000
    expected = torch.full((8,), 0.1)
    expected[0], expected[6:] = 0.5, 0.0
    deviation = (expected * (1 - expected) / 4000).sqrt().clamp(min=1e-9)
    assert float(((counts - expected) / deviation).abs().max()) < 4.5
    assert torch.equal(seen.mask, (starts[:, None] + torch.arange(3)) < 6)
    assert torch.equal(seen.times, starts[:, None] + torch.arange(3.0, dtype=torch.float64))


def test_windows_show_enough_steps():
    data = Sequences(torch.arange(8.0).expand(500, 8)[..., None], mask=torch.arange(8).expand(500, 8) < 6)
    seen = RandomWindows(length=4, at_start=0.0, shortest=3)(data, 0, generator())
    assert set(seen.times[:, 0].tolist()) == {0.0, 1.0, 2.0, 3.0} and set(seen.mask.sum(1).tolist()) == {3, 4}
    short = RandomWindows(length=4, at_start=0.0, shortest=7)(data, 0, generator())
    assert set(short.times[:, 0].tolist()) == {0.0}


def test_thin():
    data = Sequences(torch.arange(10.0)[None, :, None].expand(50, 10, 1))
    assert Thin(stride=3, keep=2)(data, 0, generator()).values[0, :, 0].tolist() == [0, 1, 4, 7]
    seen = Thin(stride=3, keep=2, random_offset=True)(data, 0, generator()).values[..., 0]
    assert {tuple(row) for row in seen.tolist()} == {(0, 1, 2, 5), (0, 1, 3, 6), (0, 1, 4, 7)}


def test_random_steps_are_uniform():
    data = Sequences(torch.arange(6.0).expand(6000, 6)[..., None])
    seen = RandomSteps(count=3, keep=1)(data, 0, generator()).values[..., 0]
    assert bool((seen.diff(dim=1) > 0).all()) and bool((seen[:, 0] == 0).all())
    counts = torch.bincount(seen[:, 1:].flatten().long(), minlength=6)[1:] / 6000
    assert float((counts - 0.4).abs().max()) < 4.5 * (0.4 * 0.6 / 6000) ** 0.5
    shared = RandomSteps(count=3, keep=1, per_series=False)(data, 0, generator())
    assert bool((shared.values == shared.values[:1]).all()) and shared.times.ndim == 1


def test_time_warp_of_a_line_is_a_line():
    data = Sequences((1 + torch.arange(9.0, dtype=torch.float64)).expand(5, 9)[..., None])
    seen = TimeWarp(0.5, 2.0)(data, 0, generator())
    rate = seen.values[:, 1, 0] - 1
    assert bool(((rate >= 0.5) & (rate <= 2.0)).all())
    position = rate[:, None] * torch.arange(9)
    assert torch.equal(seen.mask, position <= 8)
    torch.testing.assert_close(seen.values[..., 0], torch.where(seen.mask, 1 + position, 0.0))
    slow = TimeWarp(0.5, 0.5)(Sequences(data.values, mask=torch.arange(9).expand(5, 9) != 2), 0, generator())
    assert slow.mask[0].tolist() == [True, True, True, False, False, False, True, True, True]


def test_cyclic_shift_rolls(data):
    seen = CyclicShift()(data, 0, generator())
    for rolled, original in zip(seen.inputs[..., 0], data.inputs[..., 0], strict=True):
        start = int((original == rolled[0]).nonzero())
        assert torch.equal(rolled, original.roll(-start))
    assert seen.times is data.times


@pytest.mark.parametrize(
    ("view", "arguments"),
    [
        (GrowingLength, (0, 5)),
        (GrowingLength, (1, 0)),
        (RandomWindows, (0,)),
        (RandomWindows, (3, 1.5)),
        (Thin, (0,)),
        (RandomSteps, (2, 3)),
        (RandomGaps, (1.5,)),
        (TimeWarp, (2.0, 1.0)),
        (TimeWarp, (0.0, 1.0)),
    ],
)
def test_views_check_their_arguments(view, arguments):
    with pytest.raises(DataError):
        view(*arguments)


@pytest.mark.parametrize("has_entries", [False, True])
def test_random_gaps_hide_beginnings_ends_and_parts_of_half_the_series(has_entries):
    mask = torch.ones(3000, 12, 2, dtype=torch.bool) if has_entries else torch.ones(3000, 12, dtype=torch.bool)
    mask[::2, 9:] = False
    whole = Sequences(1 + torch.rand(3000, 12, 2, generator=generator()), mask=mask)
    seen = RandomGaps()(whole, 0, generator())
    assert not (seen.mask & ~whole.mask).any() and seen.step_mask.any(1).all()
    assert torch.equal(seen.values != 0, seen.entry_mask) and torch.equal(seen.values, seen.values * seen.entry_mask)
    lost = (seen.mask != whole.mask).flatten(1)
    share = float(lost.any(1).double().mean())
    # half of the series lose something, but for shares and cuts that fall within a step: 5 deviations around 1/2
    assert 0.40 < share < 0.50 + 5 * 0.5 / 3000**0.5
    steps = torch.arange(12)
    begins = torch.where(seen.step_mask, steps, 12).amin(1)
    is_whole_after = (seen.step_mask == (whole.step_mask & (steps >= begins[:, None]))).all(1)
    starts = float(((begins > 0) & is_whole_after).double().mean())
    ends = float(((seen.lengths < whole.lengths) & (begins == 0)).double().mean())
    assert 0.11 < starts < 0.25 and 0.11 < ends < 0.25  # a sixth each, and what parts look like that by chance
    if has_entries:
        assert bool((seen.mask[..., 0] != seen.mask[..., 1]).any())


def test_random_gaps_leave_one_entry_of_what_is_nearly_empty():
    mask = torch.zeros(200, 6, 3, dtype=torch.bool)
    mask[:, 4, 1] = True
    seen = RandomGaps(1.0)(Sequences(torch.ones(200, 6, 3), mask=mask), 0, generator())
    assert torch.equal(seen.mask, mask)
    empty = Sequences(torch.ones(2, 6, 3), mask=torch.zeros(2, 6, dtype=torch.bool))
    assert not RandomGaps(1.0)(empty, 0, generator()).mask.any()


def test_random_gaps_of_no_series_are_the_data(data):
    assert torch.equal(RandomGaps(0.0)(data, 0, generator()).mask, data.mask)


@pytest.mark.parametrize(
    "view",
    [*VIEWS, RandomGaps(), Thin(3, keep=0), Thin(3, keep=0, random_offset=True), RandomSteps(5, keep=0)],
    ids=repr,
)
def test_what_is_anchored_leaves_beginnings_and_steps_where_they_are(view):
    """Values say which step is shown: of anchored views the first is always the same, and each is at its own time."""
    place, time = 100 * torch.arange(6.0)[:, None], torch.arange(9.0)
    data = Sequences((place + time)[..., None], times=10.0 + 2 * time)
    shown = [view(data, step, generator(step)) for step in range(20)]
    steps = [torch.where(seen.mask, seen.values[..., 0] - place, (seen.times.float() - 10) / 2) for seen in shown]
    first = torch.stack([step[:, 0] for step in steps])
    in_time = [
        torch.equal(10 + 2 * step.double(), seen.times.expand(6, -1)) for step, seen in zip(steps, shown, strict=True)
    ]
    assert getattr(view, "is_anchored", False) == (bool((first == first[0]).all()) and all(in_time))


def test_random_steps_by_training_step(data):
    view = RandomSteps(lambda step: step - 1, keep=2)
    plain = Sequences(data.values, mask=data.mask, times=data.times)
    assert [view(plain, step, generator()).num_steps for step in (0, 5, 6, 100)] == [2, 4, 5, 9]
    data = Sequences(data.values, times=data.times, inputs=data.inputs)  # where the others are hidden
    assert [view(data, step, generator()).mask.sum(1).tolist() for step in (0, 5, 100)] == [[2] * 6, [4] * 6, [9] * 6]
