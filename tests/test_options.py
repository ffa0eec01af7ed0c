"""Options as plain data: what counts, what does not, and how differences are named."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pyro_seq._options import NotPlainError, compare, options_of, plain


class Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Rule:
    size: float = 1.0
    inner: Any = None


class Slots:
    """An object without a dictionary of attributes."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size = size

    def __repr__(self) -> str:
        return f"Slots({self.size})"


class Thing:
    """A plain object of a user."""

    def __init__(self, size: int) -> None:
        self.size, self._calls = size, 0

    def double(self, value: int) -> int:
        return 2 * self.size * value


class Part(nn.Module):
    """Holds anything under the name `option`."""

    def __init__(self, option: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.option = option


def buffered(value: float) -> nn.Module:
    """A tensor that the ``state_dict`` leaves out."""
    part = nn.Module()
    part.register_buffer("option", torch.tensor([value]), persistent=False)
    return part


def scaled(factor: float) -> Callable[[float], float]:
    return lambda value: factor * value


def defaulting(factor: float) -> Callable[[float], float]:
    def function(value: float, factor: float = factor) -> float:
        return factor * value

    return function


def problems(there: nn.Module, here: nn.Module) -> list[str]:
    found = compare(options_of(there), options_of(here))
    assert not found.unknown
    return found.problems


PAIRS = {
    "number": (0.1, 0.2, "option: 0.1 in the file, 0.2 here"),
    "none": (None, 0.2, "option: None in the file, 0.2 here"),
    "bool": (True, False, "option: True in the file, False here"),
    "text": ("a", "b", "option: a in the file, b here"),
    "nan": (math.nan, 0.0, "option: nan in the file, 0.0 here"),
    "tuple": ((1, 2), (1, 3), "option: (1, 2) in the file, (1, 3) here"),
    "enum": (Colour.RED, Colour.BLUE, "option: Colour.RED in the file, Colour.BLUE here"),
    "set": ({"a"}, {"a", "b"}, "option: ('a',) in the file, ('a', 'b') here"),
    "type": (nn.Tanh, nn.ReLU, "option: Tanh in the file, ReLU here"),
    "dtype": (torch.float32, torch.float64, "option: torch.float32 in the file, torch.float64 here"),
    "function": (torch.tanh, torch.relu, "option: tanh in the file, relu here"),
    "other class": (Rule(), Thing(1), "option: Rule in the file, Thing here"),
    "dataclass": (Rule(1.0), Rule(2.0), "option.size: 1.0 in the file, 2.0 here"),
    "nested": (Rule(1, Rule(3)), Rule(1, Rule(4)), "option.inner.size: 3 in the file, 4 here"),
    "object": (Thing(1), Thing(2), "option.size: 1 in the file, 2 here"),
    "slots": (Slots(1), Slots(2), "option.value: Slots(1) in the file, Slots(2) here"),
    "method": (Thing(1).double, Thing(2).double, "option.owner.size: 1 in the file, 2 here"),
    "partial": (
        functools.partial(math.pow, 2), functools.partial(math.pow, 3), "option.args: (2,) in the file, (3,) here"
    ),
    "dictionary": ({"a": 1}, {"a": 2}, "option.a: 1 in the file, 2 here"),
    "keys": ({"a": 1}, {"a": 1, "b": 1}, "missing in the file: option.b"),
    "list of objects": ([Rule(1)], [Rule(2)], "option.0.size: 1 in the file, 2 here"),
    "closure": (scaled(0.5), scaled(2.0), "option.factor: 0.5 in the file, 2.0 here"),
    "default": (defaulting(0.5), defaulting(2.0), "option.defaults: (0.5,) in the file, (2.0,) here"),
    "part": (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2), "option.negative_slope: 0.1 in the file, 0.2 here"),
    "part or none": (None, nn.Tanh(), "option: None in the file, Tanh here"),
    "longer": (nn.Sequential(nn.Tanh()), nn.Sequential(nn.Tanh(), nn.Tanh()), "missing in the file: option.1"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_difference_is_named(name: str) -> None:
    there, here, line = PAIRS[name]
    assert problems(Part(there), Part(here)) == [line]
    assert problems(Part(here), Part(here)) == [] == problems(Part(there), Part(there))


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (lambda value: 0.5 * value, lambda value: 2.0 * value),
        (lambda value: value + 1, lambda value: value - 1),
        (lambda value: math.sin(value), lambda value: math.cos(value)),
        (lambda value: (lambda x: x + 1)(value), lambda value: (lambda x: x + 2)(value)),
    ],
)
def test_functions_without_a_name_differ_by_their_code(there: Any, here: Any) -> None:
    (line,) = problems(Part(there), Part(here))
    assert line.startswith("option.code_3_")
    assert not problems(Part(there), Part(there))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda value: Part(torch.tensor([value])), r"float32 \(1,\)"),
        (lambda value: Part(torch.tensor([value], dtype=torch.bfloat16)), r"bfloat16 \(1,\)"),
        (lambda value: Part(np.array(value)), r"float64 \(\)"),
        (lambda value: Part(np.array([str(value)], dtype=object)), r"object \(1,\)"),
        (buffered, r"float32 \(1,\)"),
    ],
)
def test_tensors_outside_the_state_differ_by_their_entries(make: Any, kind: str) -> None:
    import re

    (line,) = problems(make(0.5), make(2.0))
    assert re.fullmatch(rf"option: {kind} \w+ in the file, {kind} \w+ here", line)
    assert not problems(make(0.5), make(0.5))


def test_what_does_not_decide_a_prediction_does_not_count() -> None:
    part, other = Part(logging.getLogger("a")), Part(logging.getLogger("b"))
    part._cache, part.device, part.noise = 1, torch.device("cpu"), torch.Generator()
    part.eval()
    assert options_of(part) == options_of(other)
    assert options_of(Part([1, 2])) == options_of(Part((1, 2))) == options_of(Part(torch.Size((1, 2))))
    assert not problems(Part(1), Part(1.0)) and not problems(Part(np.float32(0.5)), Part(0.5))
    assert not problems(Part(math.nan), Part(math.nan))


@pytest.mark.parametrize("odd", [torch.zeros(0), torch.zeros(2).to_sparse(), np.zeros(0), object(), range(3), {}, 1j])
def test_odd_attributes_cost_nothing(odd: Any) -> None:
    assert not problems(Part(odd), Part(odd)) and problems(Part(odd), Part(nn.Tanh()))


def test_circles_end_and_shared_parts_are_told_apart_from_equal_ones() -> None:
    circle = Thing(1)
    circle.other = circle
    assert options_of(Part(circle))["option"]["other"] == "the same as option"
    shared, equal = Part(None), Part(None)
    shared.option, equal.option = shared.linear, nn.Linear(1, 1)
    assert problems(shared, equal) == ["option: the same as linear in the file, Linear here"]
    rule, pair = Rule(), Part([Rule(), Rule()])
    assert not problems(Part([rule, rule]), pair)


def test_parts_may_say_that_they_have_no_options() -> None:
    with_range, without = nn.Module(), nn.Module()
    with_range.range = nn.Linear(1, 1)
    assert compare(options_of(without), options_of(with_range)).problems == ["missing in the file: range"]
    with_range.range.has_options = False
    assert options_of(with_range) == options_of(without)


def test_an_attribute_of_another_version_is_unknown() -> None:
    newer = Part(1)
    newer.linear.came_later = 3
    found = compare(options_of(Part(1)), options_of(newer))
    assert found == ([], ["linear.came_later"])


def test_plain() -> None:
    assert plain([np.int64(3), (True, None, "a")]) == (3, (True, None, "a"))
    assert type(plain(np.float64(0.5))) is float
    for value in (Colour.RED, torch.zeros(1), {}, [Rule()]):
        with pytest.raises(NotPlainError):
            plain(value)
