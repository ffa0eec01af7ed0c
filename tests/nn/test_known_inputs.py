"""How models hand their inputs on."""

from types import SimpleNamespace

import pytest
import torch

from pyro_seq.data import Sequences
from pyro_seq.errors import DataError, ShapeError
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.known_inputs import InputMixer, KnownInputs
from pyro_seq.nn.ode_rnn import RNNEncoder


def series() -> Sequences:
    inputs = 50 + 7 * torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([4, 2, 0])[:, None]
    return Sequences(torch.zeros(3, 4, 1), mask=mask[:, :4], times=torch.arange(6.0), inputs=inputs)


def test_inputs_are_standardised_by_the_steps_of_training_and_end_with_their_series():
    encoder = RNNEncoder((1,), 2, input_dim=2)
    known, data = KnownInputs(encoder, flow=Flow(1, input_dim=2)), series()
    known.adapt(data)
    used = torch.cat([data.inputs[0, :4], data.inputs[1, :2]])
    expected = (data.inputs - used.mean(0)) / used.std(0, correction=0)
    torch.testing.assert_close(known(data), expected)
    (read,) = known.read_by(encoder, data.seen())
    torch.testing.assert_close(read[0], expected[0, :4])
    torch.testing.assert_close(read[1, :2], expected[1, :2])
    assert not read[1, 2:].any() and not read[2].any()
    assert known.read_by(object(), data.seen()) == ()


def test_inputs_stand_beside_a_path_for_parts_that_read_them():
    known, data, path = KnownInputs(flow=Flow(1, input_dim=2)), series(), torch.zeros(5, 3, 6, 4)
    assert known.beside(path, object(), data) is path
    joined = known.beside(path, SimpleNamespace(input_dim=2), data)
    assert joined.shape == (5, 3, 6, 6) and torch.equal(joined[2, ..., 4:], known(data))


def test_without_readers_there_is_nothing():
    known = KnownInputs(RNNEncoder((1,), 2), flow=Flow(1))
    assert known(series()) is None and not known.state_dict()
    with pytest.raises(
        ShapeError, match="must have 0 entries a step, the `input_dim` of the flow. Got 2. Make it with"
    ):
        known.check(series())


def test_parts_that_do_not_fit_each_other_are_named():
    with pytest.raises(DataError, match="Got 2 of `flow`, 3 of `emission`"):
        KnownInputs(flow=Flow(1, input_dim=2), emission=SimpleNamespace(input_dim=3))
    with pytest.raises(DataError, match=r"Got 2 of `flow`, 0 of `encoder`.*with `input_dim=2`"):
        KnownInputs(RNNEncoder((1,), 2), flow=Flow(1, input_dim=2))
    with pytest.raises(ShapeError, match="must have 1 entries a step, the `input_dim` of the flow. Got 2"):
        KnownInputs(flow=Flow(1, input_dim=1)).check(series())
    KnownInputs(lambda *_: None, flow=Flow(1, input_dim=2)).check(series())  # an encoder of a user's own may read none


def test_a_mixer_keeps_features_and_reads_both():
    mixer, features, inputs = InputMixer(3, 2), torch.randn(4, 3), torch.randn(4, 2)
    mixed = mixer(features, inputs)
    assert mixed.shape == (4, mixer.num_features) and torch.equal(mixed[:, :3], features)
    for changed in (mixer(features + 1, inputs), mixer(features, inputs + 1)):
        assert (changed[:, 3:] != mixed[:, 3:]).any()
