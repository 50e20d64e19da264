"""What a posterior is sampled with when nothing is named: what was fastest when measured."""

from __future__ import annotations

from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.repriorisation.marginal import marginal
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.samplers.hamiltonian import HMC


def choose(
    target: AbstractTarget | Posterior, sampler: AbstractSampler | None
) -> tuple[AbstractTarget, AbstractSampler]:
    """The target and the sampler, where not given those of most effective draws a second."""
    if isinstance(target, Posterior):
        target = marginal(target)
    return target, HMC() if sampler is None else sampler
