# ruff: noqa: I001 - the order is the story's, not the alphabet's
"""Exact posterior samples of wide Bayesian neural networks.

The story, from left to right: a network, its prior and data make a ``Posterior``; its
infinite-width limit is a Gaussian process; the limit suggests a map of the readout under which the
posterior looks like the prior; chains sample that; diagnostics say whether to believe them; a
report shows it.
"""

from bnnsample.datasets import Dataset as Dataset
from bnnsample.datasets import load as load

from bnnsample.models.layers import Dense as Dense
from bnnsample.models.layers import Activation as Activation
from bnnsample.models.network import Network as Network
from bnnsample.models.network import Parameters as Parameters
from bnnsample.models.network import fcn as fcn
from bnnsample.models.likelihoods import Gaussian as Gaussian
from bnnsample.models.posterior import Posterior as Posterior

from bnnsample.limits.nngp import nngp as nngp
from bnnsample.limits.nngp import nngp_posterior as nngp_posterior
from bnnsample.limits.nngp import GaussianProcess as GaussianProcess

from bnnsample.repriorisation.targets import standard as standard
from bnnsample.repriorisation.targets import repriorised as repriorised
from bnnsample.repriorisation.targets import marginal as marginal

from bnnsample.sampling.samplers import HMC as HMC
from bnnsample.sampling.samplers import NUTS as NUTS
from bnnsample.sampling.run import sample as sample
from bnnsample.sampling.run import Progress as Progress
from bnnsample.sampling.store import save_run as save_run
from bnnsample.sampling.store import load_run as load_run

from bnnsample.diagnostics.convergence import convergence as convergence
from bnnsample.diagnostics.convergence import Convergence as Convergence
from bnnsample.diagnostics.function_space import distance_to_nngp as distance_to_nngp
from bnnsample.diagnostics.function_space import Distance as Distance
from bnnsample.diagnostics.verdict import diagnose as diagnose
from bnnsample.diagnostics.verdict import Diagnosis as Diagnosis
