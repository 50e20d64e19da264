"""Integrators, and the energy that a trajectory gains, such that float32 does not lose it.

A target is N(0, I) times a likelihood. The energy of a position and momentum, ``(|q|^2 + |p|^2) / 2
- log_likelihood``, is of the order of the dimension: at a million parameters its float32 rounding
exceeds one, and differences of two energies are noise. What the quadratic part gains is therefore
summed coordinate by coordinate, as ``(q - q0)(q + q0) + (p - p0)(p + p0)``, and only log
likelihoods are subtracted. The rotation is three shears, each of which keeps volumes whatever its
sine or tangent is rounded to; by products with a cosine and a sine all squares would grow by up to
one part in ten million a step, which is half a nat of ten million parameters.

In blackjax's states the field ``logdensity`` holds the log likelihood, ``logdensity_grad`` its
gradient; all that is quadratic is in the metric, whose kinetic energy is what was gained since the
trajectory began.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from blackjax.mcmc.integrators import IntegratorState
from blackjax.mcmc.metrics import Metric, gaussian_euclidean
from jaxtyping import Array, Float

from bnnsample.repriorisation.base import LogLikelihood

type Vector = Float[Array, " dim"]
type Scalar = Float[Array, ""]
type Scale = Scalar | Vector
type Step = Callable[[IntegratorState, Scalar], IntegratorState]
type Flow = Callable[[Vector, Vector, Scale], tuple[Vector, Vector]]
type Integrator = Literal["rotation", "leapfrog"]


def value_and_gradient(log_likelihood: LogLikelihood, position: Vector) -> tuple[Scalar, Vector]:
    """The log likelihood, minus infinity where it is not finite, and its gradient."""
    value, gradient = jax.value_and_grad(log_likelihood)(position)
    return finite_or_rejected(value), gradient


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
    position, momentum, _, gradient = state
    angle = step_size * scale
    momentum = momentum + kick(angle, gradient, position)
    position, momentum = flow(position, momentum, angle)
    value, gradient = value_and_gradient(log_likelihood, position)
    momentum = momentum + kick(angle, gradient, position)
    return IntegratorState(position, momentum, value, gradient)  # pyright: ignore[reportArgumentType]


def _half_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return 0.5 * angle * gradient


def _tangent_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return jnp.tan(0.5 * angle) * gradient


def _leapfrog_kick(angle: Scale, gradient: Vector, position: Vector) -> Vector:
    return 0.5 * angle * (gradient - position)


def _rotate(position: Vector, momentum: Vector, angle: Scale) -> tuple[Vector, Vector]:
    half, whole = jnp.tan(0.5 * angle), jnp.sin(angle)
    position = position + half * momentum
    momentum = momentum - whole * position
    return position + half * momentum, momentum


def _drift(position: Vector, momentum: Vector, angle: Scale) -> tuple[Vector, Vector]:
    return position + angle * momentum, momentum


_SPLITTINGS: dict[str, tuple[Callable[..., Vector], Flow]] = {
    "rotation": (_half_kick, _rotate),
    "crank-nicolson": (_tangent_kick, _rotate),
    "leapfrog": (_leapfrog_kick, _drift),
}


def metric_from(begin: Vector, momentum: Vector) -> Metric:
    """The metric of a trajectory from ``begin`` with a standard normal ``momentum``.

    Its kinetic energy is what the quadratic energies of position and momentum gained since.
    """

    def gained(p: Vector, position: Vector = begin) -> Scalar:
        return half_squares(position, begin) + half_squares(p, momentum)

    euclidean = gaussian_euclidean(jnp.ones_like(begin))
    return euclidean._replace(sample_momentum=lambda *_: momentum, kinetic_energy=gained)


def half_squares(vector: Vector, origin: Vector) -> Scalar:
    """``(|vector|^2 - |origin|^2) / 2``, to the rounding of the difference."""
    return 0.5 * jnp.sum((vector - origin) * (vector + origin))
