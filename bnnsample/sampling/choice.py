"""What a posterior is sampled with when nothing is named: by measurement, for wide networks.

``experiments/samplers.py`` and ``experiments/classes.py`` measure effective draws a second of the
predictions and of the hidden weights.
"""

from __future__ import annotations

from collections.abc import Callable

from bnnsample.models.likelihoods.gaussian import Gaussian, HeteroscedasticGaussian
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.parameters import Repriorised
from bnnsample.repriorisation.targets import marginal, repriorised, standard
from bnnsample.sampling.samplers.alternating import AlternatingHMC
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.hamiltonian import HMC

CROWDED = 5
"""Training points a readout feature from which on a readout that cannot be integrated out is
sampled as it is. Effective draws of ten classes' logits, of digits: at ten points a feature
(n = 1000), without the map 113 in 25 s and with it 63 in 21 s where w_std_out is 8, 159 in 23 s and
17 in 28 s where it is 23; at 3.3 a feature 72 in 61 s and 126 in 39 s where it is 8."""


def choose(
    target: AbstractTarget | Posterior, sampler: AbstractSampler | None
) -> tuple[AbstractTarget, AbstractSampler]:
    """The target and the sampler, those that were fastest where none is given."""
    if isinstance(target, Posterior):
        target = _target_for(target)(target)
    return target, _sampler_for(target) if sampler is None else sampler


def _target_for(posterior: Posterior) -> Callable[[Posterior], AbstractTarget]:
    """Without a readout where it can be integrated out; after the map where that has room."""
    if isinstance(posterior.likelihood, Gaussian):
        return marginal
    crowded = len(posterior.x) > CROWDED * posterior.parameter_shapes.readout.shape[0]
    # log variances may have no mode for a map to be fitted at
    no_mode = isinstance(posterior.likelihood, HeteroscedasticGaussian)
    return standard if no_mode or crowded else repriorised


def _sampler_for(target: AbstractTarget) -> AbstractSampler:
    """One of the readout too where it is sampled and its law not Gaussian, so that turns pay."""
    mapped = target.name == Repriorised.name
    gaussian = isinstance(target.posterior.likelihood, Gaussian)
    return AlternatingHMC() if mapped and not gaussian else HMC()
