"""Underdamped Langevin: one integration step, then part of the momentum is drawn anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc.hmc import flip_momentum, hmc_proposal
from blackjax.mcmc.integrators import IntegratorState
from jaxtyping import Array, Float, Key

from bnnsample.checks import check_scale
from bnnsample.randomness import normal
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.integrators import (
    Integrator,
    integrator,
    metric_from,
    value_and_gradient,
)
from bnnsample.sampling.samplers.base import (
    QUARTER_TURN,
    AbstractSampler,
    Info,
    Tuning,
    check_choice,
    check_fraction,
    kinetic_energy,
)


class LangevinState(NamedTuple):
    """A position and the momentum that persists; ``logdensity`` is the log likelihood."""

    position: Any
    momentum: Any
    logdensity: Any
    logdensity_grad: Any


@dataclass(frozen=True)
class Langevin(AbstractSampler):
    """Underdamped Langevin, adjusted: what 2206.07673 ran (Horowitz 1991).

    A draw is one integration step, hence one gradient. Before it the momentum keeps ``exp(-friction
    step_size)`` of itself and the rest is drawn anew; a rejected step reverses the momentum, so
    that trajectories persist only if nearly all steps are accepted.
    """

    friction: float = 1.0
    integrator: Integrator = "rotation"
    target_acceptance: float = 0.95

    def __post_init__(self) -> None:
        check_scale("Langevin friction", self.friction)
        check_choice("Langevin integrator", self.integrator, ("rotation", "leapfrog"))
        check_fraction("Langevin target_acceptance", self.target_acceptance)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        def init(position: Float[Array, " dim"], rng_key: Key[Array, ""]) -> LangevinState:
            momentum = normal(rng_key, position.shape, position.dtype)
            return LangevinState(
                position, momentum, *value_and_gradient(target.log_likelihood, position)
            )

        def step(rng_key: Key[Array, ""], state: LangevinState) -> tuple[LangevinState, Info]:
            refresh_key, accept_key = jax.random.split(rng_key)
            kept = jnp.exp(-self.friction * tuning.step_size)
            fresh = normal(refresh_key, state.momentum.shape, state.momentum.dtype)
            momentum = kept * state.momentum + jnp.sqrt(1 - kept**2) * fresh
            propose = hmc_proposal(
                integrator(self.integrator, tuning.scale)(target.log_likelihood, kinetic_energy),  # pyright: ignore[reportArgumentType]
                metric_from(state.position, momentum).kinetic_energy,
                tuning.step_size,
            )
            begin = IntegratorState(
                state.position, momentum, state.logdensity, state.logdensity_grad
            )
            # blackjax reverses the momentum of the proposal; reversing it again leaves that of an
            # accepted step as it was and reverses that of a rejected one
            proposal, info, _ = propose(accept_key, begin)
            end: Any = flip_momentum(proposal)
            return LangevinState(*end), Info(
                acceptance_rate=info.acceptance_rate,  # pyright: ignore[reportArgumentType]
                tuning_signal=info.acceptance_rate,  # pyright: ignore[reportArgumentType]
                is_divergent=info.is_divergent,  # pyright: ignore[reportArgumentType]
                kinetic_energy=kinetic_energy(momentum),
                num_steps=jnp.asarray(1),
            )

        return SamplingAlgorithm(init, step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return math.inf if self.integrator == "leapfrog" else QUARTER_TURN
