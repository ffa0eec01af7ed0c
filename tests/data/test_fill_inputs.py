"""Inputs that were not always recorded."""

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_seq.data import Sequences, fill_inputs
from pyro_seq.errors import DataError, ShapeError


def holed() -> np.ndarray:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(4, 9, 3))
    inputs[generator.random(inputs.shape) < 0.4] = np.nan
    inputs[2, :, 1] = np.nan
    return inputs


def test_as_pandas_fills_forward_and_then_by_means():
    inputs = holed()
    filled = fill_inputs(inputs)
    means = np.nanmean(inputs, (0, 1))
    for series in range(4):
        expected = pd.DataFrame(inputs[series]).ffill().fillna(dict(enumerate(means)))
        np.testing.assert_allclose(filled[series, :, :3], expected.to_numpy(), rtol=1e-6)
    np.testing.assert_array_equal(filled[..., 3:], np.isnan(inputs))
    assert Sequences(torch.zeros(4, 9, 1), inputs=filled).inputs.shape == (4, 9, 6)


def test_means_of_training_fill_a_test_set():
    inputs = torch.full((1, 2, 2), torch.nan)
    assert fill_inputs(inputs)[0, 0].tolist() == [0, 0, 1, 1]
    assert fill_inputs(inputs, means=[3.0, 4.0])[0, 1].tolist() == [3, 4, 1, 1]
    with pytest.raises(ShapeError, match=r"`means` must be \(input 2,\). Got \(3,\)"):
        fill_inputs(inputs, means=torch.zeros(3))
    with pytest.raises(ShapeError, match=r"`inputs` must be \(series, time, input\). Got \(2, 2\)"):
        fill_inputs(inputs[0])


def test_data_that_lack_an_input_point_the_way():
    with pytest.raises(DataError, match=r"Got nan at \(2, 0, 1\) \(series, time, input\).*`fill_inputs\(inputs\)`"):
        inputs = torch.zeros(4, 9, 3)
        inputs[2, :, 1] = torch.nan
        Sequences(torch.zeros(4, 9, 1), inputs=inputs)
