"""The models, one file each."""

from pyro_seq.models.dynamic_factors import DynamicFactors
from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.models.ode2vae import ODE2VAE
from pyro_seq.models.ode_lebm import ODELEBM
from pyro_seq.models.recurrent_vae import RecurrentVAE
from pyro_seq.models.srvp import SRVP
from pyro_seq.models.structural_series import StructuralSeries

__all__ = ["ODE2VAE", "ODELEBM", "SRVP", "DynamicFactors", "KalmanVAE", "RecurrentVAE", "StructuralSeries"]
