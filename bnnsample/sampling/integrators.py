"""The rotation-split integrator: exact for the N(0, I) part of a target (theory section 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from blackjax.mcmc.integrators import IntegratorState, velocity_verlet
from jaxtyping import Array, Float

type LogDensity = Callable[[Float[Array, " dim"]], Float[Array, ""]]


def rotation(
    logdensity: LogDensity, kinetic_energy: Callable[..., Array]
) -> Callable[[IntegratorState, Array], IntegratorState]:
    """Half kick with ``-grad V``, rotation of (position, momentum) by ``step_size``, half kick.

    For ``logdensity = -|q|^2 / 2 - V(q)`` and unit mass, so ``-grad V = grad logdensity + q``.
    Symplectic and reversible; with V = 0 it conserves the energy exactly at any angle. Beskos et
    al. 2011 (Hilbert-space HMC). A drop-in for blackjax's ``hmc``, ``nuts`` and ``ghmc``.
    """
    value_and_grad = jax.value_and_grad(logdensity)

    def step(state: Any, step_size: Array) -> IntegratorState:
        position, momentum, _, gradient = state
        half = 0.5 * step_size
        cos, sin = jnp.cos(step_size), jnp.sin(step_size)
        momentum = momentum + half * (gradient + position)
        position, momentum = cos * position + sin * momentum, cos * momentum - sin * position
        value, gradient = value_and_grad(position)
        momentum = momentum + half * (gradient + position)
        return IntegratorState(position, momentum, value, gradient)

    return step


INTEGRATORS: dict[str, Callable[..., Callable[..., IntegratorState]]] = {
    "rotation": rotation,
    "leapfrog": velocity_verlet,
}
