"""What a posterior is sampled with when nothing is named: what was fastest when measured.

``experiments/samplers.py`` and ``experiments/classes.py`` measure effective draws a second of the
predictions and of the hidden weights.
"""

from __future__ import annotations

from collections.abc import Callable

from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.likelihoods.gaussian import Gaussian, HeteroscedasticGaussian
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.parameters import Repriorised
from bnnsample.repriorisation.targets import marginal, repriorised, standard
from bnnsample.sampling.samplers.alternating import AlternatingHMC
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.hamiltonian import HMC


def choose(
    target: AbstractTarget | Posterior, sampler: AbstractSampler | None
) -> tuple[AbstractTarget, AbstractSampler]:
    """The target and the sampler, those that were fastest where none is given."""
    if isinstance(target, Posterior):
        target = _target_for(target.likelihood)(target)
    return target, _sampler_for(target) if sampler is None else sampler


def _target_for(likelihood: AbstractLikelihood) -> Callable[[Posterior], AbstractTarget]:
    """Without a readout where it can be integrated out; after the map where there is a good one."""
    if isinstance(likelihood, Gaussian):
        return marginal
    # log variances may have no mode for a map to be fitted at
    return standard if isinstance(likelihood, HeteroscedasticGaussian) else repriorised


def _sampler_for(target: AbstractTarget) -> AbstractSampler:
    """One of the readout too where it is sampled and its law not Gaussian, so that turns pay."""
    mapped = target.name == Repriorised.name
    gaussian = isinstance(target.posterior.likelihood, Gaussian)
    return AlternatingHMC() if mapped and not gaussian else HMC()
