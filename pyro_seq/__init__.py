"""Deep latent dynamical models for sequences, in Pyro: fit, forecast, impute, and check.

Nouns are data, models, methods and their results; verbs take a noun and data; parts are the components of models.
Everything else has a module path: `pyro_seq.nn`, `pyro_seq.ops`, `pyro_seq.distributions`, `pyro_seq.training`,
`pyro_seq.infer`, `pyro_seq.predict`, `pyro_seq.diagnostics`, `pyro_seq.testing`.
"""

from pyro_seq import datasets, metrics
from pyro_seq.data import Sequences, SequenceSource
from pyro_seq.diagnostics.arviz import to_arviz
from pyro_seq.diagnostics.backtest import Backtest, backtest
from pyro_seq.diagnostics.selection import Selection, select
from pyro_seq.errors import (
    CheckpointError,
    DataError,
    NumericalError,
    PyroSeqError,
    ShapeError,
    UnsupportedError,
)
from pyro_seq.infer.chain_posterior import ChainPosterior
from pyro_seq.infer.checkpoint import load, save
from pyro_seq.infer.chees import ChEES
from pyro_seq.infer.fit import fit
from pyro_seq.infer.iwae import IWAE
from pyro_seq.infer.langevin import Langevin
from pyro_seq.infer.maximum_likelihood import MaximumLikelihood
from pyro_seq.infer.mcmc import HMC, MCMC, NUTS
from pyro_seq.infer.mode import Mode
from pyro_seq.infer.refine import refine
from pyro_seq.infer.sequence_elbo import SequenceELBO
from pyro_seq.infer.sgld import SGLD
from pyro_seq.infer.svi import SVI
from pyro_seq.model import SequenceModel
from pyro_seq.models import ODE2VAE, ODELEBM, SRVP, DynamicFactors, KalmanVAE, RecurrentVAE, StructuralSeries
from pyro_seq.nn.bayesian import BayesianMLP, DeterministicField
from pyro_seq.nn.categorical import CategoricalEmission
from pyro_seq.nn.chain_encoder import ChainEncoder
from pyro_seq.nn.columns import ColumnsEmission
from pyro_seq.nn.continuous_bernoulli import ContinuousBernoulliEmission
from pyro_seq.nn.continuous_mixture import ContinuousDynamics
from pyro_seq.nn.conv import ConvDecoder, ConvTrunk
from pyro_seq.nn.dcgan import DCGAN
from pyro_seq.nn.emission import BernoulliEmission, Emission, GaussianEmission, PixelEmission
from pyro_seq.nn.encoder import FrameWindow, InitialStateEncoder
from pyro_seq.nn.energy import EnergyMLP, PersistentChains
from pyro_seq.nn.energy_tilt import EnergyTilt
from pyro_seq.nn.flow import Flow
from pyro_seq.nn.frame import FrameEncoder
from pyro_seq.nn.initial_prior import LearnedNormal, StandardNormal
from pyro_seq.nn.input_decoder import InputDecoder
from pyro_seq.nn.log_normal import LogNormalEmission
from pyro_seq.nn.mixture import LSTMMixture, MixedDynamics, WindowMixture
from pyro_seq.nn.mlp import MLPDecoder, MLPTrunk
from pyro_seq.nn.negative_binomial import NegativeBinomialEmission
from pyro_seq.nn.ode_rnn import ODERNNEncoder, RNNEncoder
from pyro_seq.nn.poisson import PoissonEmission
from pyro_seq.nn.student_t import StudentTEmission
from pyro_seq.nn.subpixel import SubPixelDecoder
from pyro_seq.nn.tempo import SeriesTempo
from pyro_seq.nn.transition import GRUTransition, MLPTransition, NoisePrior, ResidualTransition
from pyro_seq.nn.units import Standardise
from pyro_seq.nn.vgg import VGG
from pyro_seq.ops.odeint import RK4, Dopri5, Euler, Midpoint
from pyro_seq.posterior import GuidePosterior, PointPosterior, Prediction, StoredPosterior
from pyro_seq.predict.evaluate import Forecasting, Imputation, Reconstruction, Scores, evaluate, evaluate_baselines
from pyro_seq.predict.evaluate_video import (
    VideoMetric,
    VideoScores,
    evaluate_video,
    evaluate_video_baselines,
)
from pyro_seq.predict.interpolated import InterpolatedPosterior
from pyro_seq.predict.online import FilterState, filter_forecast, filter_step, start_filter
from pyro_seq.predict.recalibrate import Intervals, Recalibrated, recalibrate
from pyro_seq.predict.verbs import forecast, impute, reconstruct, sample
from pyro_seq.training.gradient_method import GradientMethod
from pyro_seq.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022  (grouped by kind)
    # nouns: data, models, methods, results
    "Sequences",
    "SequenceSource",
    "SequenceModel",
    "DynamicFactors",
    "ODE2VAE",
    "KalmanVAE",
    "ODELEBM",
    "RecurrentVAE",
    "SRVP",
    "StructuralSeries",
    "SVI",
    "IWAE",
    "SequenceELBO",
    "MaximumLikelihood",
    "MCMC",
    "ChEES",
    "NUTS",
    "HMC",
    "Langevin",
    "SGLD",
    "Mode",
    "GradientMethod",
    "Trainer",
    "GuidePosterior",
    "ChainPosterior",
    "PointPosterior",
    "StoredPosterior",
    "InterpolatedPosterior",
    "Prediction",
    "FilterState",
    "Reconstruction",
    "Forecasting",
    "Imputation",
    "Scores",
    "Recalibrated",
    "Intervals",
    "Backtest",
    "Selection",
    "VideoMetric",
    "VideoScores",
    # verbs
    "fit",
    "refine",
    "forecast",
    "impute",
    "reconstruct",
    "sample",
    "start_filter",
    "filter_step",
    "filter_forecast",
    "evaluate",
    "evaluate_baselines",
    "recalibrate",
    "backtest",
    "select",
    "evaluate_video",
    "evaluate_video_baselines",
    "save",
    "load",
    "to_arviz",
    # parts
    "Flow",
    "BayesianMLP",
    "DeterministicField",
    "InitialStateEncoder",
    "InputDecoder",
    "FrameWindow",
    "FrameEncoder",
    "RNNEncoder",
    "ODERNNEncoder",
    "StandardNormal",
    "LearnedNormal",
    "EnergyMLP",
    "EnergyTilt",
    "PersistentChains",
    "MixedDynamics",
    "ContinuousDynamics",
    "LSTMMixture",
    "WindowMixture",
    "ConvTrunk",
    "MLPTrunk",
    "ConvDecoder",
    "SubPixelDecoder",
    "MLPDecoder",
    "Emission",
    "BernoulliEmission",
    "GaussianEmission",
    "PixelEmission",
    "StudentTEmission",
    "LogNormalEmission",
    "PoissonEmission",
    "NegativeBinomialEmission",
    "ContinuousBernoulliEmission",
    "CategoricalEmission",
    "ColumnsEmission",
    "SeriesTempo",
    "ResidualTransition",
    "MLPTransition",
    "GRUTransition",
    "NoisePrior",
    "ChainEncoder",
    "DCGAN",
    "VGG",
    "Standardise",
    "Euler",
    "Midpoint",
    "RK4",
    "Dopri5",
    # modules
    "datasets",
    "metrics",
    # errors
    "PyroSeqError",
    "ShapeError",
    "DataError",
    "UnsupportedError",
    "NumericalError",
    "CheckpointError",
]
