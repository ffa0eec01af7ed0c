"""Scores of predictions, and trivial predictors to compare them with."""

from pyro_seq.metrics.baselines import last_frame, nearest_series, training_mean
from pyro_seq.metrics.pointwise import mse, psnr, ssim
from pyro_seq.metrics.probabilistic import coverage, crps, energy_score

__all__ = [
    "coverage",
    "crps",
    "energy_score",
    "last_frame",
    "mse",
    "nearest_series",
    "psnr",
    "ssim",
    "training_mean",
]
