"""Numbers of the authors' codes: where they lie, the one measure of a difference, and noise that is handed in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from pyro_seq.distributions.residual_chain import ResidualChain

TOLERANCE = 1e-11  # relative, in double precision


def load(name: str) -> dict[str, Tensor]:
    """The arrays of one file, as tensors; skips the test where the folder of the data has no such file."""
    path = Path(os.environ.get("PYRO_SEQ_DATA", "missing")) / "golden" / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    with np.load(path, allow_pickle=False) as arrays:
        return {key: torch.from_numpy(np.array(arrays[key])) for key in arrays.files}


def part(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The arrays whose names begin with `prefix`, under the rest of their names."""
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}


def fill(module: nn.Module, arrays: Mapping[str, Tensor], prefix: str) -> nn.Module:
    """Load the arrays under `prefix` into a module, each of its parameters in double precision."""
    module.double().load_state_dict(part(arrays, prefix))
    return module


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over the largest absolute value that is expected."""
    assert found.shape == expected.shape, (tuple(found.shape), tuple(expected.shape))
    return float((found - expected).abs().max() / expected.abs().max())


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """Each array of `found` equals the one of that name in `expected`; prints the difference of each (`pytest -s`)."""
    assert found
    differences = {name: difference(value.detach(), expected[name]) for name, value in found.items()}
    for name, size in differences.items():
        print(f"{name}: {size:.1e}")
    wrong = {name: size for name, size in differences.items() if not size <= tolerance}
    assert not wrong, wrong


def assert_other(found: Tensor, expected: Tensor, at_least: float) -> None:
    """The comparison would see that a convention is broken: the difference is far above the tolerance."""
    assert at_least > 1e3 * TOLERANCE
    assert difference(found.detach(), expected) > at_least


def gradients(value: Tensor, module: nn.Module) -> dict[str, Tensor]:
    """Derivative of a number by each parameter of a module that it depends on."""
    named = dict(module.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(named, found, strict=True) if gradient is not None}


class Noise(Messenger):
    """Draws named sites of a guide from noise that was handed in, as mean + deviation * noise, row by row in a chain.

    Args:
        noise: Standard normal numbers by site, shaped like the site's value.
    """

    def __init__(self, **noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, message: dict) -> None:
        if message["name"] in self.noise and not message["is_observed"] and message["value"] is None:
            noise, drawn = self.noise[message["name"]], message["fn"]
            if isinstance(drawn, ResidualChain):
                message["value"] = drawn.follow(noise)
            else:
                message["value"] = drawn.base_dist.loc + drawn.base_dist.scale * noise
