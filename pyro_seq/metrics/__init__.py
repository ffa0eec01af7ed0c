"""Scores of predictions, and simple baselines to compare them with."""

from pyro_seq.metrics.baselines import last_frame, linear_interpolation, nearest_series, training_mean
from pyro_seq.metrics.best_of import BestOf, Interval, SampleScores, mean_interval
from pyro_seq.metrics.classes import accuracy, brier
from pyro_seq.metrics.classical import NormalForecast, drift, exponential_smoothing, seasonal_naive
from pyro_seq.metrics.frechet import I3D, FrechetScore, frechet_distance
from pyro_seq.metrics.latent import auroc, cluster_nmi, linear_r2
from pyro_seq.metrics.perceptual import lpips
from pyro_seq.metrics.pointwise import mae, mse, psnr, ssim
from pyro_seq.metrics.probabilistic import coverage, crps, energy_score
from pyro_seq.metrics.scaled import mase, naive_error

__all__ = [
    "I3D",
    "BestOf",
    "FrechetScore",
    "Interval",
    "NormalForecast",
    "SampleScores",
    "accuracy",
    "auroc",
    "brier",
    "cluster_nmi",
    "coverage",
    "crps",
    "drift",
    "energy_score",
    "exponential_smoothing",
    "frechet_distance",
    "last_frame",
    "linear_interpolation",
    "linear_r2",
    "lpips",
    "mae",
    "mase",
    "mean_interval",
    "mse",
    "naive_error",
    "nearest_series",
    "psnr",
    "seasonal_naive",
    "ssim",
    "training_mean",
]
