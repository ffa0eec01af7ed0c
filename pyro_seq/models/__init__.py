"""The models, one file each."""

from pyro_seq.models.kalman_vae import KalmanVAE
from pyro_seq.models.ode2vae import ODE2VAE

__all__ = ["ODE2VAE", "KalmanVAE"]
