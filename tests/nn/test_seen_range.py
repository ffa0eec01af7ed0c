"""The range of the training data: what is far outside of it, and what is not."""

from __future__ import annotations

import warnings

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.nn.seen_range import SeenRange


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(values: torch.Tensor, **options) -> SeenRange:
    found = SeenRange()
    found.adapt(Sequences(values, **options))
    return found


def said(found: SeenRange, values: torch.Tensor, **options) -> str:
    """The text of the one warning, empty without any."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found.warn_of_far(Sequences(values, **options))
    assert len(caught) < 2
    return str(caught[0].message) if caught else ""


def test_the_range_is_that_of_the_observed_entries():
    values, mask = noise(6, 7, 3), noise(6, 7, 3, seed=1) > 0
    mask[..., 2] = False
    found = seen(values, mask=mask)
    for entry in (0, 1):
        observed = values[..., entry][mask[..., entry]]
        assert float(found.low[entry]) == float(observed.min()) and float(found.high[entry]) == float(observed.max())
    assert found.low.tolist()[2] == -torch.inf and found.high.tolist()[2] == torch.inf
    assert not said(found, 1e6 * (torch.arange(3) == 2) + values.clamp(-0.5, 0.5))


def test_temperatures_in_fahrenheit_are_far_from_those_in_celsius():
    celsius = torch.stack([80 + 10 * noise(6, 7), 37 + noise(6, 7)], -1)
    found, other = seen(celsius), celsius * torch.tensor([1.0, 1.8]) + torch.tensor([0.0, 32.0])
    text = said(found, other)
    low, high = float(other[..., 1].min()), float(other[..., 1].max())
    before = float(celsius[..., 1].min()), float(celsius[..., 1].max())
    expected = f"`values[..., 1]` from {low:g} to {high:g}, in training from {before[0]:g} to {before[1]:g}"
    assert expected in text and "[..., 0]" not in text
    assert "Convert the values" in text and "fit(..., readapt=True)" in text


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("end", "is_far"), [(3.99, False), (4.01, True)])
def test_far_is_three_widths_beyond_the_range(sign, end, is_far):
    found = seen(torch.linspace(0, 1, 5).reshape(1, 5, 1) * sign)
    assert bool(said(found, torch.tensor([[[end * sign]]]))) == is_far


def test_heavy_tails_are_not_far():
    """Student's t with three degrees of freedom, of which a thousand values are known."""
    draw = torch.distributions.StudentT(3.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = seen(draw.sample((20, 50, 1)))
        assert not any(said(found, draw.sample((20, 50, 1))) for _ in range(20))


@pytest.mark.parametrize(("level", "near", "far"), [(5.0, 5.44, 5.46), (0.0, 2.99, 3.01), (-1e6, -9.2e5, -9.0e5)])
def test_what_did_not_vary_has_a_range_about_its_level(level, near, far):
    found = seen(torch.full((3, 4, 1), level))
    assert not said(found, torch.full((1, 1, 1), near)) and said(found, torch.full((1, 1, 1), far))


def test_hidden_entries_and_empty_data_are_not_far():
    found, values = seen(noise(6, 7, 2)), 1e6 + noise(6, 7, 2)
    assert not said(found, values, mask=torch.zeros(6, 7, dtype=torch.bool))
    assert not said(found, values[:, :0], times=torch.arange(3))


def test_all_pixels_of_an_image_are_one_variable():
    found = seen(noise(3, 4, 2, 5, 5).clamp(0, 1))
    assert found.low.shape == () and "`values` from 0 to 255, in training from 0 to 1" in said(
        found, 255 * (noise(3, 4, 2, 5, 5) > 0).float()
    )


def test_only_some_of_many_are_named():
    text = said(seen(noise(3, 4, 2, 5)), 100 + noise(3, 4, 2, 5))
    assert text.count("in training from") == 3 and "`values[..., 0, 2]`" in text and "; and 7 more" in text


def test_inputs_have_a_range_too_and_padding_is_none():
    values, inputs = noise(3, 4, 1), 100 + noise(3, 4, 2)
    found = seen(values, inputs=inputs)
    mask = torch.arange(4) < torch.tensor([[4], [2], [3]])
    padded = torch.where(mask[..., None], inputs, 0)
    assert not said(found, values, inputs=padded, mask=mask)
    assert "`inputs[..., 1]` from" in said(found, values, inputs=padded * torch.tensor([1.0, 2.0]), mask=mask)
    longer = torch.cat([inputs, torch.zeros(3, 1, 2)], 1)
    assert "`inputs[..., 0]` from 0 to" in said(found, values, inputs=longer, times=torch.arange(5))


def test_nothing_is_far_from_what_is_not_known():
    assert not said(SeenRange(), 1e30 * noise(3, 4, 2))
    found = seen(noise(3, 4, 2))
    found.load_state_dict({})
    assert not said(found, 1e30 * noise(3, 4, 2))


def test_the_range_is_part_of_the_state():
    found, again = seen(noise(3, 4, 2)), SeenRange()
    again.load_state_dict(found.state_dict())
    assert torch.equal(again.low, found.low) and said(again, 100 + noise(3, 4, 2))
