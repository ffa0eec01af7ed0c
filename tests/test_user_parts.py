"""A user's own emission and encoder go into every model that takes one."""

from __future__ import annotations

import pytest
import torch

import pyro_seq as ps
from pyro_seq.testing import check_model
from tests.user_parts import IMAGE, LaplaceEmission, MeanEncoder, models


@pytest.fixture
def data() -> ps.Sequences:
    return ps.Sequences(torch.randn(4, 6, *IMAGE, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", ["ODE2VAE", "ODELEBM", "KalmanVAE", "RecurrentVAE", "SRVP"])
def test_every_model_keeps_the_rules_with_a_users_parts(name, data):
    model = models()[name]
    assert isinstance(model.emission, LaplaceEmission)
    assert not check_model(model, data).names("failed")


def test_a_decoder_of_ones_own_is_kept():
    decoder = torch.nn.Linear(3, 2)
    assert ps.ODELEBM((2,), 3, emission=LaplaceEmission(decoder)).emission.decoder is decoder


def test_encoders_of_another_size_are_refused():
    with pytest.raises(ps.DataError, match="`encoder` must give the state of the flow, 6 entries. Got 4"):
        ps.ODE2VAE((2,), 3, encoder=MeanEncoder((2,), 4))
    with pytest.raises(ps.DataError, match="`has_instant_encoder` needs an `InitialStateEncoder`.* Got MeanEncoder"):
        ps.ODE2VAE((2,), 2, encoder=MeanEncoder((2,), 4), has_instant_encoder=True)
    with pytest.raises(ps.DataError, match="`has_path_kl`"):
        ps.ODE2VAE((2,), 2, initial_prior=ps.EnergyTilt(ps.EnergyMLP(4)), has_path_kl=True)
