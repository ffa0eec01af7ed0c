"""The switches of the benchmark of tuned kernels switch, and all of its parts run small; no timing."""

from __future__ import annotations

import json
from unittest import mock

import pytest
import torch

from benchmarks import convolutions
from benchmarks._measure import gap
from benchmarks._srvp_task import Task
from benchmarks.srvp import SMALL
from pyro_seq.nn import image_coding, normalised
from pyro_seq.nn.normalised import Rectified

ROUTINES = {
    "gathered": (image_coding, "convolution"),
    "spread": (image_coding, "transposed_convolution"),
    "normalised": (normalised, "normalise_rectify"),
}


@pytest.mark.parametrize("kind", ROUTINES)
def test_switches_take_the_tuned_routine_or_not(kind):
    task = Task(SMALL, 2, 4)
    found = [(layer, images) for name, _, layer, images in convolutions.layers(task) if name == kind]
    assert found
    owner, name = ROUTINES[kind]
    for layer, images in found:
        slope = convolutions.random_slope(layer, images)
        with mock.patch.object(owner, name, wraps=getattr(owner, name)) as routine:
            tuned = convolutions.run(layer, images, slope, kind, True)
            assert routine.call_count == 1
            plain = convolutions.run(layer, images, slope, kind, False)
            assert routine.call_count == 1
        assert gap(tuned, plain) < 1e-5


def test_channels_first_is_the_same_normalisation():
    layer, images = Rectified(3).double(), torch.randn(5, 3, 4, 6, dtype=torch.float64)
    with convolutions.channels_first():
        plain = layer(images)
    torch.testing.assert_close(layer(images), plain, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("precision", convolutions.PRECISIONS)
def test_all_rows(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(convolutions, "folder", lambda: tmp_path)
    convolutions.check_step(SMALL)
    task = Task(SMALL, 2, 4, is_mixed=precision == "bfloat16")
    rows = convolutions.layer_rows("small", precision, task, 1) + convolutions.step_rows("small", precision, task, 1)
    assert len(rows) > 4 and all(row.ratio > 0 for row in rows)
    assert any(row.error is not None for row in rows) == (precision == "float32")
    convolutions.report(rows)
    written = json.loads((tmp_path / "convolutions.json").read_text())
    assert len(written["rows"]) == len(rows) and written["torch"] == torch.__version__
