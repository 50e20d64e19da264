"""Integrators that carry the energy they gain, so that float32 does not lose it.

A target is N(0, I) times a likelihood. The energy of a position and momentum, ``(|q|^2 + |p|^2) / 2
- log_likelihood``, is of the order of the dimension: at a million parameters its float32 rounding
exceeds one, and differences of two energies are noise. Here each step adds up exactly what the
quadratic part gains, kick by kick, and only log likelihoods are subtracted.

In blackjax's ``IntegratorState`` the field ``logdensity`` holds the log likelihood less the energy
gained since the trajectory began, and ``logdensity_grad`` a ``Slope``; with a metric whose kinetic
energy is zero (it is in the gain) blackjax's ``hmc`` and ``nuts`` then accept by these differences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from blackjax.mcmc.integrators import IntegratorState
from blackjax.mcmc.metrics import Metric, gaussian_euclidean
from jaxtyping import Array, Float

from bnnsample.randomness import normal
from bnnsample.repriorisation.base import LogLikelihood

type Vector = Float[Array, " dim"]
type Scalar = Float[Array, ""]
type Scale = Scalar | Vector
type Step = Callable[[IntegratorState, Scalar], IntegratorState]
type Flow = Callable[[Vector, Vector, Scale], tuple[Vector, Vector, Scalar]]
type Integrator = Literal["rotation", "leapfrog"]


class Slope(NamedTuple):
    """The gradient of the log likelihood, and the energy gained since the trajectory began."""

    gradient: Vector
    gained: Scalar


def value_and_slope(log_likelihood: LogLikelihood, position: Vector) -> tuple[Scalar, Slope]:
    """The log likelihood, minus infinity where it is not finite, and its slope."""
    value, gradient = jax.value_and_grad(log_likelihood)(position)
    return finite_or_rejected(value), Slope(gradient, jnp.zeros_like(value))


def finite_or_rejected(log_likelihood: Scalar) -> Scalar:
    """``log_likelihood``, or minus infinity, which no sampler accepts, where it is not finite."""
    return jnp.where(jnp.isfinite(log_likelihood), log_likelihood, -jnp.inf)


def integrator(
    name: Literal["rotation", "leapfrog", "crank-nicolson"], scale: Scale
) -> Callable[[LogLikelihood, Callable[..., Array]], Step]:
    """An integrator as blackjax takes it; ``scale`` multiplies the step size of each coordinate.

    ``"rotation"``: half kick with the gradient of the log likelihood, rotation of (position,
    momentum) by the step size, half kick. Exact for the N(0, I) part at any angle (Beskos et al.
    2011, Hilbert-space HMC). ``"crank-nicolson"``: the same with the kick
    ``tan(step_size / 2)``, whose single step is pCNL (Cotter et al. 2013; 2408.14325).
    ``"leapfrog"``: half kick with the gradient of the log density, drift, half kick.
    """
    kick, flow = _SPLITTINGS[name]

    def build(log_likelihood: LogLikelihood, kinetic_energy: Callable[..., Array]) -> Step:
        return partial(_step, log_likelihood, kick, flow, scale)

    return build


def _step(
    log_likelihood: LogLikelihood,
    kick: Callable[[Scale, Vector, Vector], Vector],
    flow: Flow,
    scale: Scale,
    state: Any,
    step_size: Scalar,
) -> IntegratorState:
    position, momentum, _, slope = state
    angle = step_size * scale
    impulse = kick(angle, slope.gradient, position)
    gained = slope.gained + _work(impulse, momentum)
    position, momentum, drifted = flow(position, momentum + impulse, angle)
    value, new = value_and_slope(log_likelihood, position)
    impulse = kick(angle, new.gradient, position)
    gained = gained + drifted + _work(impulse, momentum)
    return IntegratorState(
        position, momentum + impulse, value - gained, Slope(new.gradient, gained)
    )  # pyright: ignore[reportArgumentType]


def _work(impulse: Vector, momentum: Vector) -> Scalar:
    """What an impulse adds to the kinetic energy."""
    dot = partial(jnp.vdot, precision="highest")
    return dot(impulse, momentum) + 0.5 * dot(impulse, impulse)


def _half_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return 0.5 * angle * gradient


def _tangent_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return jnp.tan(0.5 * angle) * gradient


def _leapfrog_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return 0.5 * angle * (gradient - position)


def _rotate(position: Vector, momentum: Vector, angle: Scale) -> tuple[Vector, Vector, Scalar]:
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rotated = cos * position + sin * momentum, cos * momentum - sin * position
    return *rotated, jnp.zeros((), position.dtype)


def _drift(position: Vector, momentum: Vector, angle: Scale) -> tuple[Vector, Vector, Scalar]:
    moved = angle * momentum
    return position + moved, momentum, _work(moved, position)


_SPLITTINGS: dict[str, tuple[Callable[..., Vector], Flow]] = {
    "rotation": (_half_kick, _rotate),
    "crank-nicolson": (_tangent_kick, _rotate),
    "leapfrog": (_leapfrog_kick, _drift),
}


def unit_metric(dim: int, dtype: jnp.dtype) -> Metric:
    """Standard normal momenta, whose energy is part of what the integrator gains."""
    euclidean = gaussian_euclidean(jnp.ones(dim, dtype))
    return euclidean._replace(
        sample_momentum=lambda key, position: normal(key, (dim,), dtype),
        kinetic_energy=lambda momentum, position=None: jnp.zeros((), dtype),
    )
