"""Samplers that take no gradient: pCN and elliptical slice, exact for the N(0, I) part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.base import SamplingAlgorithm
from blackjax.mcmc import elliptical_slice
from jaxtyping import Array, Float, Key

from bnnsample.randomness import normal
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.integrators import finite_or_rejected
from bnnsample.sampling.samplers.base import (
    QUARTER_TURN,
    AbstractSampler,
    Info,
    Tuning,
    check_fraction,
    kinetic_energy,
)


class PCNState(NamedTuple):
    """A position and its log likelihood."""

    position: Any
    logdensity: Any


@dataclass(frozen=True)
class PCN(AbstractSampler):
    r"""Preconditioned Crank-Nicolson (Cotter et al. 2013; on the map 2408.14325).

    The step size is an angle. A draw takes one likelihood ``L`` and no gradient:

    $$q' = q \cos \, \epsilon + \xi \sin \, \epsilon, \quad \xi \sim N(0, I), \quad
    P(\mathrm{accept}) = \min(1, L(q') / L(q))$$

    At a fixed angle its acceptance rises to 1 with the width of the network.
    """

    target_acceptance: float = 0.234
    uses_gradients: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fraction("PCN target_acceptance", self.target_acceptance)

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        def init(position: Float[Array, " dim"], rng_key: Key[Array, ""] | None = None) -> PCNState:
            return PCNState(position, finite_or_rejected(target.log_likelihood(position)))

        def step(rng_key: Key[Array, ""], state: PCNState) -> tuple[PCNState, Info]:
            noise_key, accept_key = jax.random.split(rng_key)
            xi = normal(noise_key, state.position.shape, state.position.dtype)
            angle = tuning.step_size
            proposal = init(jnp.cos(angle) * state.position + jnp.sin(angle) * xi)
            acceptance = jnp.minimum(1.0, jnp.exp(proposal.logdensity - state.logdensity))
            accepted = jax.random.bernoulli(accept_key, acceptance)
            after = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), proposal, state)
            return after, Info(
                acceptance_rate=acceptance,
                tuning_signal=acceptance,
                is_divergent=jnp.isneginf(proposal.logdensity),
                kinetic_energy=kinetic_energy(xi),
                num_steps=jnp.asarray(1),
            )

        return SamplingAlgorithm(init, step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return QUARTER_TURN


@dataclass(frozen=True)
class EllipticalSlice(AbstractSampler):
    """Elliptical slice sampling (Murray et al. 2010): nothing to tune, every draw moves.

    Shrinks an angle on an ellipse through the position until the likelihood is above the slice;
    counts likelihoods, as it takes no gradient. Its acceptance rate is one over that count.
    """

    uses_gradients: ClassVar[bool] = False
    tunes_step_size: ClassVar[bool] = False

    def build(self, target: AbstractTarget, tuning: Tuning) -> SamplingAlgorithm:
        def log_likelihood(position: Float[Array, " dim"]) -> Float[Array, ""]:
            return finite_or_rejected(target.log_likelihood(position))

        def step(rng_key: Key[Array, ""], state: Any) -> tuple[Any, Info]:
            dim, dtype = state.position.shape[0], state.position.dtype
            level = state.logdensity

            def gain(position: Float[Array, " dim"]) -> Float[Array, ""]:
                """Relative to the present: its own level may round the slice away, and it is 0."""
                stays = jnp.all(position == state.position)
                return jnp.where(stays, 0.0, log_likelihood(position) - level)

            kernel = elliptical_slice.build_kernel(jnp.ones(dim, dtype), jnp.zeros((), dtype))
            after, info = kernel(rng_key, state._replace(logdensity=jnp.zeros_like(level)), gain)
            after = after._replace(logdensity=level + after.logdensity)
            acceptance = 1 / jnp.asarray(info.subiter, dtype)
            return after, Info(
                acceptance_rate=acceptance,
                tuning_signal=acceptance,
                is_divergent=jnp.zeros((), bool),
                kinetic_energy=None,
                num_steps=jnp.asarray(info.subiter),
            )

        def init(position: Float[Array, " dim"], rng_key: Key[Array, ""] | None = None) -> Any:
            return elliptical_slice.init(position, log_likelihood)

        return SamplingAlgorithm(init, step)  # pyright: ignore[reportArgumentType]

    @property
    def max_step_size(self) -> float:
        return QUARTER_TURN
