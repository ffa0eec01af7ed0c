"""Units of the data: one for each variable, whatever the others are measured in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pyro_seq.data import Sequences
from pyro_seq.errors import ShapeError
from pyro_seq.nn.saved_state import expected_weights, shape_by_data
from pyro_seq.nn.units import Standardise, variable_shape


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def adapted(values: torch.Tensor, *, mask: torch.Tensor | None = None, **options) -> Standardise:
    units = Standardise(**options).to(values.dtype)
    units.adapt(Sequences(values, mask=mask))
    return units


def test_each_variable_has_mean_zero_and_deviation_one():
    values = noise(20, 30, 3) * torch.tensor([1.0, 5.0, 20.0]) + 7
    mask = torch.rand(20, 30, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    units = adapted(values, mask=mask)
    for entry in range(3):
        seen = units(values)[..., entry][mask[..., entry]]
        assert abs(float(seen.mean())) < 1e-10
        assert abs(float(seen.std(correction=0)) - 1) < 1e-10
    torch.testing.assert_close(units.restore(units(values)), values, rtol=1e-12, atol=1e-12)


def test_one_unit_for_all_where_that_is_asked_for():
    values = noise(20, 30, 3) * torch.tensor([1.0, 5.0, 20.0]) + 7
    units = adapted(values, shape=())
    assert units.unit.shape == ()
    assert float(units.centre) == pytest.approx(float(values.mean()), rel=1e-12)
    assert float(units.unit) == pytest.approx(float(values.std(correction=0)), rel=1e-12)


@pytest.mark.parametrize(
    ("obs_shape", "shape"), [((3,), (3,)), ((2, 3), (2, 3)), ((1,), (1,)), ((2, 4, 4), ()), ((2, 2, 2, 2), (2,) * 4)]
)
def test_the_variables_are_the_entries_and_all_pixels_of_an_image(obs_shape, shape):
    values = noise(5, 4, *obs_shape)
    units = adapted(values)
    assert units.unit.shape == units.centre.shape == shape == variable_shape(obs_shape)
    expected = values.std((0, 1), correction=0) if shape else values.std(correction=0)
    torch.testing.assert_close(units.unit, expected, rtol=1e-12, atol=0)


def test_a_shape_may_leave_axes_to_one_unit():
    values = noise(5, 4, 2, 3, 3) * torch.tensor([1.0, 1e6])[:, None, None]
    units = adapted(values, shape=(2, 1, 1))
    expected = values.std((0, 1, 3, 4), correction=0)
    torch.testing.assert_close(units.unit.flatten(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(2,), (3, 3), (1, 1, 1)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(ShapeError, match=r"must broadcast to the observations, \(3,\).*Leave it out"):
        adapted(noise(2, 4, 3), shape=shape)


def test_no_unit_depends_on_those_of_other_variables():
    """To the last bit; a column in thousands of millions beside one in thousandths of a millionth."""
    values = noise(9, 8, 2) + 1
    factor = torch.tensor([2.0**30, 2.0**-30], dtype=torch.float64)
    plain, other = adapted(values), adapted(values * factor)
    assert torch.equal(other.unit, plain.unit * factor) and torch.equal(other.centre, plain.centre * factor)
    assert torch.equal(other(values * factor), plain(values))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("level", "expected"), [(3.0, 0.09), (-7.4, 0.222), (1e9, 3e7), (0.0, 1.0)])
def test_what_does_not_vary_has_a_share_of_its_level_as_unit(level, expected, dtype):
    values = torch.stack([noise(9, 7, dtype=dtype), torch.full((9, 7), level, dtype=dtype)], -1)
    assert float(adapted(values).unit[1]) == pytest.approx(expected, rel=1e-6)
    assert float(adapted(values, floor=0.1).unit[1]) == pytest.approx(abs(level) / 10 or 1.0, rel=1e-6)


def test_rounding_is_no_variation():
    values = torch.full((6, 50, 1), 7.4)
    values[::2] = torch.nextafter(values[::2], torch.tensor(8.0))
    assert float(adapted(values).unit) == pytest.approx(0.03 * 7.4, rel=1e-5)


def test_small_variation_far_from_zero_is_variation():
    """Single precision has steps of 1 / 16 there."""
    values = 1e6 + 0.1 * noise(40, 50, 1, dtype=torch.float32)
    assert float(adapted(values).unit) == pytest.approx(0.1, rel=0.1)
    counts = 2.0**40 + torch.randint(0, 5, (40, 50, 1), generator=torch.Generator().manual_seed(0)).double()
    assert float(adapted(counts).unit) == pytest.approx(2**0.5, rel=0.05)


def test_columns_that_were_seen_once_or_never():
    values, mask = noise(5, 6, 3), torch.ones(5, 6, 3, dtype=torch.bool)
    mask[..., 1:] = False
    mask[2, 3, 1] = True
    units = adapted(values, mask=mask)
    once = float(values[2, 3, 1])
    torch.testing.assert_close(units.centre[1:].tolist(), [once, 0.0])
    torch.testing.assert_close(units.unit[1:].tolist(), [0.03 * abs(once), 1.0])


def test_saved_units_bring_their_shape():
    trained, fresh = adapted(noise(5, 4, 3)), Standardise().double()
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.unit, trained.unit)
    one = {"centre": torch.tensor(2.0).double(), "unit": torch.tensor(3.0).double()}
    assert expected_weights(trained, one)["unit"].shape == ()
    copy.deepcopy(fresh).load_state_dict(one)
    fresh.load_state_dict(one)
    assert fresh.unit.shape == () and float(fresh.unit) == 3.0
    fresh.adapt(Sequences(noise(5, 4, 3)))
    assert torch.equal(fresh.unit, trained.unit)


def test_shapes_that_were_asked_for_stay():
    for units in (Standardise((2,)), adapted(noise(5, 4, 2))):
        saved = {"centre": torch.zeros(3), "unit": torch.ones(3)}
        assert expected_weights(units, saved)["unit"].shape == (2,)
        with pytest.raises(RuntimeError, match="size mismatch"):
            units.load_state_dict(saved)


def test_tensors_that_earlier_files_lack_have_a_default():
    part = nn.Module()
    part.register_buffer("level", torch.tensor(5.0))
    part.register_buffer("other", torch.tensor(6.0))
    shape_by_data(part, "other", level=7.0)
    saved = {"other": torch.ones(2)}
    expected = expected_weights(nn.ModuleDict({"part": part}), {"part.other": saved["other"]})
    assert expected.keys() == {"part.other"} and expected["part.other"].shape == (2,)
    part.load_state_dict(saved)
    assert float(part.level) == 7.0 and torch.equal(part.other, torch.ones(2)) and saved.keys() == {"other"}
    with pytest.raises(RuntimeError, match="other"):
        part.load_state_dict({"level": torch.tensor(1.0)})
