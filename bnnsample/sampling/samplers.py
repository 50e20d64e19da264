"""Samplers: small settings records that build blackjax's own ``(init, step)`` pairs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import blackjax
import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from jaxtyping import Array, Float, Int, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.repriorisation.targets import AbstractTarget
from bnnsample.sampling.integrators import INTEGRATORS

type Integrator = Literal["rotation", "leapfrog"]


class AbstractSampler(ABC):
    """Settings of a sampler. Its tuning belongs to warm-up, its loop to the run."""

    target_acceptance: float

    @abstractmethod
    def build(self, target: AbstractTarget, step_size: Float[Array, ""]) -> SamplingAlgorithm:
        """Blackjax's ``(init, step)`` pair for a target at a step size."""

    @property
    @abstractmethod
    def max_step_size(self) -> float:
        """The largest step size that warm-up may choose."""


QUARTER_TURN = math.pi / 2
"""Integration time after which positions of N(0, I) are independent of where they started."""

MOST_STEPS = 16
"""Steps a trajectory takes at most where their number is left to the step size; arbitrary."""


@dataclass(frozen=True)
class HMC(AbstractSampler):
    """Hamiltonian Monte Carlo with ``num_steps`` integration steps, and as many gradients, a draw.

    By default as many as make a quarter turn at the step size of the chain, at most 16: then
    draws of the Gaussian part of the target are independent. Each draw multiplies the step size
    by a uniform number within ``jitter`` of 1, so that no frequency of the target resonates with
    the trajectory. The rotation integrator's step size is an angle, of at most a quarter turn a
    trajectory.
    """

    num_steps: int | None = None
    integrator: Integrator = "rotation"
    target_acceptance: float = 0.8
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if self.num_steps is not None:
            check_count("HMC num_steps", self.num_steps)
        _check_integrator(self.integrator)
        _check_fraction("HMC target_acceptance", self.target_acceptance)
        if not 0 <= self.jitter < 1:
            raise bad_input(
                "HMC jitter",
                got=repr(self.jitter),
                expected="a fraction of the step size in [0, 1)",
                probably="a percentage",
            )

    def build(self, target: AbstractTarget, step_size: Float[Array, ""]) -> SamplingAlgorithm:
        num_steps = self.num_steps or _steps_to_a_quarter_turn(step_size)

        def algorithm(step_size: Float[Array, ""]) -> SamplingAlgorithm:
            return blackjax.hmc(
                target.logdensity,
                step_size,
                _unit_mass(target),
                num_steps,  # pyright: ignore[reportArgumentType]
                integrator=INTEGRATORS[self.integrator],
            )

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[Any, Any]:
            jitter_key, step_key = jax.random.split(rng_key)
            scale = jax.random.uniform(
                jitter_key, (), step_size.dtype, 1 - self.jitter, 1 + self.jitter
            )
            return algorithm(step_size * scale).step(step_key, state)

        return SamplingAlgorithm(algorithm(step_size).init, step)

    @property
    def max_step_size(self) -> float:
        if self.integrator == "leapfrog":
            return math.inf
        return QUARTER_TURN / (self.num_steps or 1)


def _steps_to_a_quarter_turn(step_size: Float[Array, ""]) -> Int[Array, ""]:
    return jnp.clip(jnp.round(QUARTER_TURN / step_size), 1, MOST_STEPS).astype(int)


@dataclass(frozen=True)
class NUTS(AbstractSampler):
    """The No-U-Turn sampler: trajectories that end where they turn back.

    Chains advance together, each draw taking as long as the longest trajectory among them, so
    that ``HMC`` makes more effective draws a second. At most ``2**max_doublings`` gradients a draw.
    """

    integrator: Integrator = "rotation"
    target_acceptance: float = 0.8
    max_doublings: int = 10

    def __post_init__(self) -> None:
        _check_integrator(self.integrator)
        _check_fraction("NUTS target_acceptance", self.target_acceptance)
        check_count("NUTS max_doublings", self.max_doublings)

    def build(self, target: AbstractTarget, step_size: Float[Array, ""]) -> SamplingAlgorithm:
        return blackjax.nuts(
            target.logdensity,
            step_size,
            _unit_mass(target),
            max_num_doublings=self.max_doublings,
            integrator=INTEGRATORS[self.integrator],
        )

    @property
    def max_step_size(self) -> float:
        return QUARTER_TURN if self.integrator == "rotation" else math.inf


def transition_stats(before: Any, after: Any, info: Any) -> dict[str, Array]:
    """ArviZ's ``sample_stats`` of one transition, by ArviZ's names.

    ``energy`` is the Hamiltonian at the start of the trajectory, which is what the energy
    diagnostic (BFMI) needs; blackjax's infos hold that of the proposal.
    """
    kinetic = 0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(info.momentum))
    return {
        "acceptance_rate": info.acceptance_rate,
        "diverging": info.is_divergent,
        "energy": kinetic - before.logdensity,
        "lp": after.logdensity,
        "n_steps": jnp.asarray(info.num_integration_steps),
    }


def _unit_mass(target: AbstractTarget) -> Float[Array, " dim"]:
    return jnp.ones(target.dim, target.posterior.x.dtype)


def _check_integrator(name: str) -> None:
    if name not in INTEGRATORS:
        raise bad_input(
            "integrator",
            got=repr(name),
            expected=" or ".join(repr(known) for known in INTEGRATORS),
            probably="a typing error",
        )


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise bad_input(
            name, got=repr(value), expected="a probability in (0, 1)", probably="a percentage"
        )
