"""HMC, MALA and pCNL: trajectories of a number of steps, each a choice of integrator."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc import hmc
from blackjax.mcmc.hmc import HMCState
from blackjax.mcmc.metrics import Metric
from jaxtyping import Array, Float, Int, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.randomness import normal
from bnnsample.repriorisation.base import AbstractTarget, LogLikelihood
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

type Mass = Literal["unit", "diagonal"]

FIRST_NUM_STEPS = 16
"""Steps a trajectory takes at most until warm-up has chosen their number; arbitrary."""


@dataclass(frozen=True)
class HMC(AbstractSampler):
    """Hamiltonian Monte Carlo with ``num_steps`` integration steps, and as many gradients, a draw.

    By default warm-up chooses ``num_steps`` for each chain by effective draws a gradient. Each draw
    multiplies the step size by a uniform number within ``jitter`` of 1, so that no frequency of the
    target resonates with the trajectory. The rotation integrator's step size is an angle; before
    jitter, a trajectory of one step turns at most a quarter. ``mass="diagonal"`` scales each
    coordinate by its standard deviation in warm-up; off by default, as the map of the readout is
    the preconditioner.
    """

    num_steps: int | None = None
    integrator: Integrator = "rotation"
    target_acceptance: float = 0.8
    jitter: float = 0.2
    mass: Mass = "unit"

    def __post_init__(self) -> None:
        if self.num_steps is not None:
            check_count(f"{type(self).__name__} num_steps", self.num_steps)
        check_settings(self)
        if not isinstance(self.jitter, numbers.Real) or not 0 <= self.jitter < 1:
            raise bad_input(
                f"{type(self).__name__} jitter",
                got=repr(self.jitter),
                expected="a fraction of the step size in [0, 1)",
                probably="a percentage",
            )

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        num_steps = self.num_steps or jnp.where(
            tuning.num_steps > 0, tuning.num_steps, steps_to_a_quarter_turn(tuning.step_size)
        )

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[HMCState, Info]:
            return self.transition(target.log_likelihood, tuning, num_steps, rng_key, state)

        return SamplingAlgorithm(partial(hmc_state, target.log_likelihood), step)  # pyright: ignore[reportArgumentType]

    def transition(
        self,
        log_likelihood: LogLikelihood,
        tuning: Tuning,
        num_steps: int | Int[Array, ""],
        rng_key: Key[Array, ""],
        state: Any,
    ) -> tuple[HMCState, Info]:
        """One trajectory with its step size jittered, accepted or not."""
        jitter_key, step_key = jax.random.split(rng_key)
        jitter = jax.random.uniform(
            jitter_key, (), tuning.step_size.dtype, 1 - self.jitter, 1 + self.jitter
        )
        jittered = tuning._replace(step_size=tuning.step_size * jitter)
        return _hmc_step(log_likelihood, self.integrator, jittered, num_steps, step_key, state)

    @property
    def max_step_size(self) -> float:
        if self.integrator == "leapfrog":
            return math.inf
        return QUARTER_TURN / (self.num_steps or 1)

    @property
    def searches_num_steps(self) -> bool:
        return self.num_steps is None

    @property
    def adapts_scale(self) -> bool:
        return self.mass == "diagonal"


@dataclass(frozen=True)
class MALA(AbstractSampler):
    """The Metropolis-adjusted Langevin algorithm: HMC with a single step and nothing jittered.

    With the leapfrog integrator its proposal is ``q + e^2/2 grad log p(q) + e xi``; with the
    rotation integrator it is exact for the N(0, I) part of the target. 0.574 is the optimal
    acceptance in high dimension (Roberts & Rosenthal 1998).
    """

    integrator: Integrator = "rotation"
    target_acceptance: float = 0.574
    mass: Mass = "unit"

    def __post_init__(self) -> None:
        check_settings(self)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        def step(rng_key: Key[Array, ""], state: Any) -> tuple[HMCState, Info]:
            return _hmc_step(target.log_likelihood, self.integrator, tuning, 1, rng_key, state)

        return SamplingAlgorithm(partial(hmc_state, target.log_likelihood), step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return math.inf if self.integrator == "leapfrog" else QUARTER_TURN

    @property
    def adapts_scale(self) -> bool:
        return self.mass == "diagonal"


@dataclass(frozen=True)
class PCNL(AbstractSampler):
    """Preconditioned Crank-Nicolson Langevin (Cotter et al. 2013; on the map 2408.14325).

    Proposes ``cos(e) q + sin(e) (xi + tan(e / 2) grad log likelihood(q))`` with the angle ``e`` as
    step size, and accepts by the Metropolis-Hastings rule: one step of the rotation integrator with
    another kick. Its acceptance goes to 1 as the likelihood flattens, in any dimension.
    """

    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        check_fraction("PCNL target_acceptance", self.target_acceptance)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        def step(rng_key: Key[Array, ""], state: Any) -> tuple[HMCState, Info]:
            return _hmc_step(target.log_likelihood, "crank-nicolson", tuning, 1, rng_key, state)

        return SamplingAlgorithm(partial(hmc_state, target.log_likelihood), step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return QUARTER_TURN


def steps_to_a_quarter_turn(step_size: Float[Array, ""]) -> Int[Array, ""]:
    """Steps that make the integration time a quarter turn, at most ``FIRST_NUM_STEPS``."""
    return jnp.clip(jnp.round(QUARTER_TURN / step_size), 1, FIRST_NUM_STEPS).astype(int)


def hmc_state(
    log_likelihood: LogLikelihood,
    position: Float[Array, " dim"],
    rng_key: Key[Array, ""] | None = None,
) -> HMCState:
    """The state of a chain at a position, which no key decides."""
    return HMCState(position, *value_and_gradient(log_likelihood, position))  # pyright: ignore[reportArgumentType]


def _hmc_step(
    log_likelihood: LogLikelihood,
    name: Any,
    tuning: Tuning,
    num_steps: int | Int[Array, ""],
    rng_key: Key[Array, ""],
    state: Any,
) -> tuple[HMCState, Info]:
    kernel = hmc.build_kernel(integrator(name, tuning.scale))
    metric, step_key = with_new_momentum(state.position, rng_key)
    end, info = kernel(
        step_key, state, log_likelihood, tuning.step_size, metric, num_steps  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    return end, info_of(info)


def with_new_momentum(
    position: Float[Array, " dim"], rng_key: Key[Array, ""]
) -> tuple[Metric, Key[Array, ""]]:
    """The metric of a trajectory from ``position`` with a momentum drawn, and a key to go on."""
    momentum_key, step_key = jax.random.split(rng_key)
    return metric_from(position, normal(momentum_key, position.shape, position.dtype)), step_key


def info_of(info: Any) -> Info:
    """What blackjax reports of a trajectory, by our names."""
    return Info(
        acceptance_rate=info.acceptance_rate,
        tuning_signal=info.acceptance_rate,
        is_divergent=info.is_divergent,
        kinetic_energy=kinetic_energy(info.momentum),
        num_steps=jnp.asarray(info.num_integration_steps),
    )


def check_settings(sampler: Any) -> None:
    """Refuse settings that are none of those which these samplers share."""
    name = type(sampler).__name__
    check_choice(f"{name} integrator", sampler.integrator, ("rotation", "leapfrog"))
    check_choice(f"{name} mass", sampler.mass, ("unit", "diagonal"))
    check_fraction(f"{name} target_acceptance", sampler.target_acceptance)
