"""What a posterior is sampled with when nothing is named: what was fastest when measured.

``experiments/samplers.py`` measures effective draws a second of the predictions and of the hidden
weights. A run has converged when both have, so the slower of the two decides.
"""

from __future__ import annotations

from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.targets import marginal, standard
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.hamiltonian import HMC


def choose(
    target: AbstractTarget | Posterior, sampler: AbstractSampler | None
) -> tuple[AbstractTarget, AbstractSampler]:
    """The target and the sampler, those that were fastest where none is given."""
    if isinstance(target, Posterior):
        gaussian = isinstance(target.likelihood, Gaussian)
        target = marginal(target) if gaussian else standard(target)
    return target, HMC() if sampler is None else sampler
