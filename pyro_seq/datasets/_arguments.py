"""Checks of arguments that many data sets share."""

from __future__ import annotations

from typing import Any

import numpy as np

from pyro_seq._arguments import seed_number, whole_number


def part_sizes(num_train: Any, num_validation: Any, num_test: Any) -> tuple[int, int, int]:
    """Numbers of series; only a validation part may be empty."""
    return (
        whole_number(num_train, "num_train", 1),
        whole_number(num_validation, "num_validation"),
        whole_number(num_test, "num_test", 1),
    )


def streams(seed: Any, count: int) -> list[np.random.Generator]:
    """Independent random streams."""
    children = np.random.SeedSequence(seed_number(seed)).spawn(count)
    return [np.random.default_rng(child) for child in children]
