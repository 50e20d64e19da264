"""Microcanonical Langevin: dynamics at constant energy, adjusted, or unadjusted and then biased."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc import adjusted_mclmc, mclmc
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, check_count, check_scale
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.integrators import finite_or_rejected, half_squares
from bnnsample.sampling.samplers.base import AbstractSampler, Info, Tuning, check_fraction

GRADIENTS_PER_STEP = 2
"""Of McLachlan's integrator, which blackjax's microcanonical samplers take by default."""

UNADJUSTED_SIGNAL = 1 / math.sqrt(3)
"""Mean of ``exp(-z^2)`` for a standard normal z: what the signal is where the energy error has the
variance that is wanted."""


@dataclass(frozen=True)
class MicrocanonicalLangevin(AbstractSampler):
    """Microcanonical Hamiltonian Monte Carlo with a Metropolis test (2212.08549, 2503.01707).

    ``num_steps`` steps of two gradients each at constant energy, from a direction drawn anew. The
    step size is in units of the square root of the dimension, which makes it the angle that a
    position of N(0, I) turns by. Needs more than one dimension.
    """

    num_steps: int = 4
    target_acceptance: float = 0.9

    def __post_init__(self) -> None:
        check_count("MicrocanonicalLangevin num_steps", self.num_steps)
        check_fraction("MicrocanonicalLangevin target_acceptance", self.target_acceptance)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        kernel = adjusted_mclmc.build_kernel()

        def init(position: Float[Array, " dim"], rng_key: Key[Array, ""] | None = None) -> Any:
            _check_dimension(position)
            return adjusted_mclmc.init(position, _relative_density(target, position))

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[Any, Info]:
            after, info = kernel(
                rng_key,
                state,
                _relative_density(target, state.position),
                tuning.step_size * _unit(state.position),  # pyright: ignore[reportArgumentType]
                (self.num_steps,),
            )
            return _shifted(after, state.position), Info(
                acceptance_rate=info.acceptance_rate,  # pyright: ignore[reportArgumentType]
                tuning_signal=info.acceptance_rate,  # pyright: ignore[reportArgumentType]
                is_divergent=info.is_divergent,  # pyright: ignore[reportArgumentType]
                kinetic_energy=None,
                num_steps=jnp.asarray(GRADIENTS_PER_STEP * self.num_steps),
            )

        return SamplingAlgorithm(init, step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return math.inf


@dataclass(frozen=True)
class UnadjustedMicrocanonicalLangevin(AbstractSampler):
    """BIASED: microcanonical Langevin without a Metropolis test (2212.08549).

    Its draws are not from the posterior, but from one whose error the step size bounds:
    ``energy_error`` is the variance of the energy error per dimension and step that warm-up
    aims at. Runs made with it say so, and ``diagnose`` does not pass them. ``length`` is the
    distance after which the momentum is forgotten, in units of the square root of the dimension.
    """

    energy_error: float = 5e-4
    length: float = 1.0
    exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_scale("UnadjustedMicrocanonicalLangevin energy_error", self.energy_error)
        check_scale("UnadjustedMicrocanonicalLangevin length", self.length)

    @property
    def target_acceptance(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        return UNADJUSTED_SIGNAL

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        kernel = mclmc.build_kernel()

        def init(position: Float[Array, " dim"], rng_key: Key[Array, ""]) -> Any:
            _check_dimension(position)
            return mclmc.init(position, _relative_density(target, position), rng_key)

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[Any, Info]:
            unit = _unit(state.position)
            after, info = kernel(
                rng_key,
                state,
                _relative_density(target, state.position),
                jnp.ones((), unit.dtype),
                self.length * unit,  # pyright: ignore[reportArgumentType]
                tuning.step_size * unit,  # pyright: ignore[reportArgumentType]
            )
            error = info.energy_change / (unit * math.sqrt(self.energy_error))
            return _shifted(after, state.position), Info(
                acceptance_rate=jnp.ones_like(unit),
                tuning_signal=jnp.where(info.nonans, jnp.exp(-(error**2)), 0.0),  # pyright: ignore[reportArgumentType]
                is_divergent=~jnp.asarray(info.nonans),
                kinetic_energy=None,
                num_steps=jnp.asarray(GRADIENTS_PER_STEP),
            )

        return SamplingAlgorithm(init, step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return math.inf


def _check_dimension(position: Float[Array, " dim"]) -> None:
    if position.size < 2:
        raise bad_input(
            "sampler",
            got=f"a microcanonical one for a target of dimension {position.size}",
            expected="more than one dimension, in which a direction can turn",
            probably="a target that integrates almost all out; NUTS or HMC sample it",
        )


def _relative_density(
    target: AbstractTarget, origin: Float[Array, " dim"]
) -> Callable[[Float[Array, " dim"]], Float[Array, ""]]:
    """The log density plus ``|origin|^2 / 2``, which is small where the density itself is not."""

    def density(position: Float[Array, " dim"]) -> Float[Array, ""]:
        likelihood = finite_or_rejected(target.log_likelihood(position))
        return likelihood - half_squares(position, origin)

    return density


def _unit(position: Float[Array, " dim"]) -> Float[Array, ""]:
    """The root of the dimension: about the length of a position of N(0, I)."""
    return jnp.sqrt(jnp.asarray(position.size, position.dtype))


def _shifted(state: Any, origin: Float[Array, " dim"]) -> Any:
    """The state with its log likelihood in place of the density relative to ``origin``."""
    return state._replace(logdensity=state.logdensity + half_squares(state.position, origin))
