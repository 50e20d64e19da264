"""Laplace's approximation of an infinitely wide network's posterior, for any likelihood.

With ``f = R v``, ``R`` the symmetric root of the kernel and ``v`` from N(0, I), Newton's method
finds the mode of ``log p(y | f) - |v|^2 / 2``; where the likelihood curves upwards its curvature
counts by its absolute value (Dauphin et al. 2014, 1406.2572). There the likelihood is replaced by
a Gaussian one, of pseudo-targets and a pseudo-noise for each point and output: with the diagonal
``D`` of minus its second derivative, ``y~ = f^ + D^-1 d log p / df`` and ``D^-1/2``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.numerics import (
    absolute,
    add_diagonal,
    cholesky,
    conjugate_gradients,
    half_log_det,
    positive_part,
    symmetric_root,
)
from bnnsample.pytrees import as_pytree

type Function = Callable[[Float[Array, "n o"]], Float[Array, ""]]

MAX_STEPS = 200
HALVINGS = 20
"""Newton steps, and how often one may be halved until it ascends; both arbitrary."""

LEAST_PRECISION = 1e-4
"""Of the largest, or of the prior's where that is larger: where a likelihood hardly speaks, its
pseudo-noise is 100 times that of the point where it speaks most, and its pseudo-target that many
steps away at most; arbitrary."""


class PseudoLikelihood(NamedTuple):
    """Gaussian targets and noise (n, o) in place of a likelihood: ``y ~ N(f, noise_std^2)``."""

    y: Float[Array, "n o"]
    noise_std: Float[Array, "n o"]


@as_pytree("mode", "pseudo", "log_evidence", "steps", "decrement", "converged")
@dataclass(frozen=True, eq=False)
class LaplaceFit:
    """What ``laplace_fit`` found, and whether it is a mode.

    ``decrement``: half of what the quadratic model says the log density would still gain, in nats,
    below ``eps^(3/4)`` per target where it has ``converged``. ``log_evidence`` is Laplace's, in
    which outputs do not curve each other's likelihood.
    """

    mode: Float[Array, "n o"]
    pseudo: PseudoLikelihood
    log_evidence: Float[Array, ""]
    steps: Int[Array, ""]
    decrement: Float[Array, ""]
    converged: Bool[Array, ""]


class _Search(NamedTuple):
    v: Float[Array, "n o"]
    value: Float[Array, ""]
    decrement: Float[Array, ""]
    steps: Int[Array, ""]


@partial(jax.jit, static_argnames="outputs")
def laplace_fit(
    gram: Float[Array, "n n"], likelihood: AbstractLikelihood, y: Array, *, outputs: int
) -> LaplaceFit:
    """The mode and curvature of ``outputs`` functions with covariance ``gram``, given ``y``.

    Differentiable in ``gram`` and the likelihood's scales, where it has converged: the search is
    not differentiated, but its mode moves as the implicit function theorem says.
    """
    root, _ = symmetric_root(gram)
    tolerance = float(jnp.finfo(gram.dtype).eps) ** 0.75 * len(gram) * outputs
    fixed_root, fixed = jax.lax.stop_gradient((root, likelihood))
    start = jnp.zeros((len(gram), outputs), gram.dtype)

    def fixed_log_likelihood(f: Float[Array, "n o"]) -> Float[Array, ""]:
        return fixed.log_density(f, y)

    def log_likelihood(f: Float[Array, "n o"]) -> Float[Array, ""]:
        return likelihood.log_density(f, y)

    found = _search(fixed_root, fixed_log_likelihood, start, tolerance)
    converged = found.decrement <= tolerance
    # Newton steps more: one to the mode, one by which alone it depends on the arguments
    v = found.v
    for _ in range(2):
        v = jax.lax.stop_gradient(v)
        gradient = root @ jax.grad(log_likelihood)(root @ v) - v
        hessians = _hessians(fixed_log_likelihood, fixed_root @ v)
        step = conjugate_gradients(partial(_curvature, fixed_root, hessians), gradient)
        v += jnp.where(converged, step, 0.0)
    f = root @ v
    diagonal = jnp.diagonal(point_precisions(log_likelihood, f), axis1=1, axis2=2)
    precision = at_least(LEAST_PRECISION, diagonal, gram)
    pseudo = PseudoLikelihood(f + jax.grad(log_likelihood)(f) / precision, precision**-0.5)
    half_log_dets = jax.vmap(_half_log_det, in_axes=(None, 1))(root, precision)
    return LaplaceFit(
        mode=f,
        pseudo=pseudo,
        log_evidence=log_likelihood(f) - 0.5 * jnp.sum(v**2) - jnp.sum(half_log_dets),
        steps=found.steps,
        decrement=found.decrement,
        converged=converged,
    )


def _search(
    root: Float[Array, "n n"],
    log_likelihood: Function,
    start: Float[Array, "n o"],
    tolerance: float,
) -> _Search:
    """Newton's method from ``start``, until there is no more than ``tolerance`` to gain."""

    def log_density(v: Float[Array, "n o"]) -> Float[Array, ""]:
        return log_likelihood(root @ v) - 0.5 * jnp.sum(v**2)

    def newton(search: _Search) -> _Search:
        f = root @ search.v
        gradient = root @ jax.grad(log_likelihood)(f) - search.v
        precision = jax.vmap(absolute)(_hessians(log_likelihood, f))
        step = conjugate_gradients(partial(_curvature, root, precision), gradient)
        size, value = _ascend(log_density, search, step)
        return _Search(
            v=search.v + size * step,
            value=value,
            decrement=0.5 * jnp.sum(gradient * step),
            steps=search.steps + 1,
        )

    first = _Search(start, log_density(start), jnp.asarray(jnp.inf, start.dtype), jnp.asarray(0))
    return jax.lax.while_loop(
        lambda search: (search.decrement > tolerance) & (search.steps < MAX_STEPS), newton, first
    )


def _curvature(
    root: Float[Array, "n n"], precision: Float[Array, "n o o"], v: Float[Array, "n o"]
) -> Float[Array, "n o"]:
    """Minus the second derivative of the log density of ``v``, times ``v``."""
    return v + root @ jnp.einsum("ijk,ik->ij", precision, root @ v)


def point_precisions(log_likelihood: Function, f: Float[Array, "n o"]) -> Float[Array, "n o o"]:
    """Minus the second derivative at each point, its negative part left out."""
    return jax.vmap(positive_part)(_hessians(log_likelihood, f))


def at_least(
    share: float, precision: Float[Array, "n o"], gram: Float[Array, "n n"]
) -> Float[Array, "n o"]:
    """``precision``, but at least this share of its largest and of the prior's.

    A likelihood that is flat at the mode, as Student's t is far from the targets, has none at all.
    """
    prior = 1 / jnp.max(jnp.diagonal(gram))
    return jnp.maximum(precision, share * jnp.maximum(jnp.max(precision), prior))


def _hessians(log_likelihood: Function, f: Float[Array, "n o"]) -> Float[Array, "n o o"]:
    """Minus the second derivative at each point."""

    def column(unit: Float[Array, " o"]) -> Float[Array, "n o"]:
        direction = jnp.broadcast_to(unit[None], f.shape)
        return -jax.jvp(jax.grad(log_likelihood), (f,), (direction,))[1]

    return jax.vmap(column, out_axes=2)(jnp.eye(f.shape[1], dtype=f.dtype))


def _ascend(
    log_density: Function, search: _Search, step: Float[Array, "n o"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The size to which Newton's step must be halved until it ascends, and the value there.

    It ascends where it does but for rounding.
    """

    def at(size: Float[Array, ""]) -> Float[Array, ""]:
        value = log_density(search.v + size * step)
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    whole = jnp.ones((), search.v.dtype)
    least = search.value - 10 * jnp.finfo(whole.dtype).eps * jnp.abs(search.value)
    size, value = jax.lax.while_loop(
        lambda tried: (tried[1] < least) & (tried[0] > 0.5**HALVINGS),
        lambda tried: (0.5 * tried[0], at(0.5 * tried[0])),
        (whole, at(whole)),
    )
    ascends = value >= least
    return jnp.where(ascends, size, 0.0), jnp.where(ascends, value, search.value)


def _half_log_det(root: Float[Array, "n n"], precision: Float[Array, " n"]) -> Float[Array, ""]:
    return half_log_det(cholesky(add_diagonal(root @ (precision[:, None] * root), 1.0)))
