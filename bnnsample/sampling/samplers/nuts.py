"""The No-U-Turn sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

from blackjax.base import SamplingAlgorithm
from blackjax.mcmc import nuts
from blackjax.mcmc.hmc import HMCState
from jaxtyping import Array, Key

from bnnsample.checks import check_count
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.integrators import Integrator, integrator
from bnnsample.sampling.samplers.base import QUARTER_TURN, AbstractSampler, Info, Tuning
from bnnsample.sampling.samplers.hamiltonian import (
    Mass,
    check_settings,
    hmc_state,
    info_of,
    with_new_momentum,
)


@dataclass(frozen=True)
class NUTS(AbstractSampler):
    """The No-U-Turn sampler: trajectories that end where they turn back.

    At most ``2**max_doublings`` gradients a draw. Chains that advance together each take as long as
    the longest trajectory among them.
    """

    integrator: Integrator = "rotation"
    target_acceptance: float = 0.8
    max_doublings: int = 10
    mass: Mass = "unit"

    def __post_init__(self) -> None:
        check_settings(self)
        check_count("NUTS max_doublings", self.max_doublings)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        kernel = nuts.build_kernel(integrator(self.integrator, tuning.scale))

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[HMCState, Info]:
            metric, step_key = with_new_momentum(state.position, rng_key)
            end, info = kernel(
                step_key,
                state,
                target.log_likelihood,
                tuning.step_size,  # pyright: ignore[reportArgumentType]
                metric,
                self.max_doublings,
            )
            return end, info_of(info)

        return SamplingAlgorithm(partial(hmc_state, target.log_likelihood), step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return QUARTER_TURN if self.integrator == "rotation" else math.inf

    @property
    def adapts_scale(self) -> bool:
        return self.mass == "diagonal"
