# ruff: noqa: I001 - the order is the story's, not the alphabet's
"""Exact posterior samples of wide Bayesian neural networks.

The story, from left to right: a network, its prior and data make a ``Posterior``; its
infinite-width limit is a Gaussian process; the limit suggests a map of the readout under which the
posterior looks like the prior; chains sample that; diagnostics say whether to believe them; a
report shows it.
"""

from bnnsample.checks import BadInput as BadInput
from bnnsample.checks import NoKnownLimit as NoKnownLimit

from bnnsample.datasets import Dataset as Dataset
from bnnsample.datasets import load as load
from bnnsample.datasets import load_cifar10 as load_cifar10

from bnnsample.models.layers.dense import Dense as Dense
from bnnsample.models.layers.conv import Conv as Conv
from bnnsample.models.layers.activation import Activation as Activation
from bnnsample.models.layers.pooling import AvgPool as AvgPool
from bnnsample.models.layers.pooling import GlobalAvgPool as GlobalAvgPool
from bnnsample.models.layers.pooling import Flatten as Flatten
from bnnsample.models.layers.normalisation import LayerNorm as LayerNorm
from bnnsample.models.layers.attention import SelfAttention as SelfAttention
from bnnsample.models.layers.residual import Residual as Residual
from bnnsample.models.layers.residual import Scale as Scale
from bnnsample.models.layers.residual import Identity as Identity
from bnnsample.models.layers.custom import Custom as Custom
from bnnsample.models.layers.base import AbstractLayer as AbstractLayer
from bnnsample.models.network import Network as Network
from bnnsample.models.network import Parameters as Parameters
from bnnsample.models.builders import fcn as fcn
from bnnsample.models.builders import convnet as convnet
from bnnsample.models.builders import resnet as resnet
from bnnsample.models.builders import attention_classifier as attention_classifier
from bnnsample.models.likelihoods.base import AbstractLikelihood as AbstractLikelihood
from bnnsample.models.likelihoods.gaussian import Gaussian as Gaussian
from bnnsample.models.likelihoods.gaussian import HeteroscedasticGaussian as HeteroscedasticGaussian
from bnnsample.models.likelihoods.student_t import StudentT as StudentT
from bnnsample.models.likelihoods.discrete import Bernoulli as Bernoulli
from bnnsample.models.likelihoods.discrete import Categorical as Categorical
from bnnsample.models.likelihoods.discrete import Poisson as Poisson
from bnnsample.models.likelihoods.discrete import NegativeBinomial as NegativeBinomial
from bnnsample.models.posterior import Posterior as Posterior

from bnnsample.limits.kernels import nngp as nngp
from bnnsample.limits.kernels import ntk as ntk
from bnnsample.limits.kernels import nngp_and_ntk as nngp_and_ntk
from bnnsample.limits.stored import store_kernels as store_kernels
from bnnsample.limits.empirical import empirical_nngp as empirical_nngp
from bnnsample.limits.empirical import empirical_ntk as empirical_ntk
from bnnsample.limits.monte_carlo import monte_carlo_kernel as monte_carlo_kernel
from bnnsample.limits.monte_carlo import MonteCarloKernel as MonteCarloKernel
from bnnsample.limits.gaussian_process import nngp_posterior as nngp_posterior
from bnnsample.limits.gaussian_process import ntk_posterior as ntk_posterior
from bnnsample.limits.gaussian_process import GaussianProcess as GaussianProcess
from bnnsample.limits.dynamics import gradient_flow as gradient_flow
from bnnsample.limits.dynamics import GradientFlow as GradientFlow
from bnnsample.limits.hyperparameters import fit_hyperparameters as fit_hyperparameters
from bnnsample.limits.hyperparameters import Fit as Fit

from bnnsample.repriorisation.base import AbstractTarget as AbstractTarget
from bnnsample.repriorisation.targets import standard as standard
from bnnsample.repriorisation.targets import repriorised as repriorised
from bnnsample.repriorisation.targets import marginal as marginal

from bnnsample.integrations.numpyro_model import numpyro_model as numpyro_model
from bnnsample.integrations.flax import from_flax as from_flax
from bnnsample.integrations.equinox import from_equinox as from_equinox

from bnnsample.sampling.samplers.alternating import AlternatingHMC as AlternatingHMC
from bnnsample.sampling.samplers.hamiltonian import HMC as HMC
from bnnsample.sampling.samplers.hamiltonian import MALA as MALA
from bnnsample.sampling.samplers.hamiltonian import PCNL as PCNL
from bnnsample.sampling.samplers.langevin import Langevin as Langevin
from bnnsample.sampling.samplers.nuts import NUTS as NUTS
from bnnsample.sampling.samplers.crank_nicolson import PCN as PCN
from bnnsample.sampling.samplers.crank_nicolson import EllipticalSlice as EllipticalSlice
from bnnsample.sampling.samplers.microcanonical import (
    MicrocanonicalLangevin as MicrocanonicalLangevin,
)
from bnnsample.sampling.samplers.microcanonical import (
    UnadjustedMicrocanonicalLangevin as UnadjustedMicrocanonicalLangevin,
)
from bnnsample.sampling.run import sample as sample
from bnnsample.sampling.run import resume as resume
from bnnsample.sampling.mesh import device_mesh as device_mesh
from bnnsample.sampling.progress import Progress as Progress
from bnnsample.sampling.steadiness import NoUsableStepSize as NoUsableStepSize
from bnnsample.sampling.folder import CannotWrite as CannotWrite
from bnnsample.sampling.predict import predict as predict
from bnnsample.sampling.predict import log_likelihood as log_likelihood
from bnnsample.sampling.predict import posterior_of as posterior_of
from bnnsample.sampling.store import save_run as save_run
from bnnsample.sampling.store import load_run as load_run

from bnnsample.sweeps.sweep import sweep as sweep
from bnnsample.sweeps.sweep import PointsFailed as PointsFailed

from bnnsample.diagnostics.convergence import convergence as convergence
from bnnsample.diagnostics.convergence import Convergence as Convergence
from bnnsample.diagnostics.function_space import distance_to_nngp as distance_to_nngp
from bnnsample.diagnostics.function_space import Distance as Distance
from bnnsample.diagnostics.verdict import diagnose as diagnose
from bnnsample.diagnostics.findings import Finding as Finding
from bnnsample.diagnostics.findings import Verdict as Verdict
from bnnsample.diagnostics.vectorised import summarise as summarise
from bnnsample.diagnostics.vectorised import Summary as Summary
from bnnsample.diagnostics.vectorised import nested_rhat as nested_rhat
from bnnsample.diagnostics.layers import per_layer as per_layer
from bnnsample.diagnostics.layers import LayerSummary as LayerSummary

from bnnsample.diagnostics.quality.predictive import Predictive as Predictive
from bnnsample.diagnostics.quality.predictive import predictive_of as predictive_of
from bnnsample.diagnostics.quality.quality import Quality as Quality
from bnnsample.diagnostics.quality.quality import quality as quality
from bnnsample.diagnostics.quality.predictive_checks import (
    posterior_predictive_check as posterior_predictive_check,
)
from bnnsample.diagnostics.quality.loo import loo as loo
from bnnsample.diagnostics.validation.preflight import preflight as preflight
from bnnsample.diagnostics.validation.calibration import (
    simulation_based_calibration as simulation_based_calibration,
)
from bnnsample.diagnostics.validation.geweke import (
    joint_distribution_test as joint_distribution_test,
)
from bnnsample.diagnostics.validation.rejection import rejection_test as rejection_test
from bnnsample.diagnostics.validation.conjugate import conjugate_test as conjugate_test
from bnnsample.diagnostics.validation.student_t import student_t_test as student_t_test
from bnnsample.diagnostics.validation.limit import limit_rate as limit_rate
from bnnsample.diagnostics.validation.suite import validate as validate
from bnnsample.diagnostics.baselines.baselines import Baselines as Baselines
from bnnsample.diagnostics.baselines.baselines import baselines as baselines

from bnnsample.reports.report import report as report
from bnnsample.reports.report import compare as compare
