"""What a likelihood tells the infinitely wide network, as few Gaussian observations.

At the mode of its Laplace fit the likelihood has at each point the precision ``B_i`` (o, o), minus
its second derivative. It is replaced by ``d_i`` times the projection on the directions of outputs
that it speaks of at all: of classes, their contrasts, as logits have a common level in which they
are free. All these directions then share one matrix, ``D^1/2 K D^1/2``, and of its eigenvectors
those suffice along which the data outweigh the prior.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.checks import warn
from bnnsample.limits.laplace import at_least, laplace_fit, point_precisions
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.numerics import eigh

SOFTENED = 0.5
"""Share of the precision that is kept. The mode is where a likelihood is sharpest, and a map that
is too tight slows chains more than one that is too loose (experiments/README.md)."""

LEAST_GAIN = 0.1
"""Precision, relative to the prior's, from which a direction is worth its place in the map."""

SILENT = 1e-6
"""Precision of a direction of outputs, relative to the largest, below which it is free."""


class PseudoObservations(NamedTuple):
    """``targets ~ N(points @ f @ outputs, I)``, ``outputs`` the first columns of ``basis``.

    ``points`` (m, n): combinations of the training points. ``basis`` (o, o): orthonormal directions
    of outputs, those of ``targets`` (m, k) first.
    """

    points: Float[Array, "m n"]
    basis: Float[Array, "o o"]
    targets: Float[Array, "m k"]


def pseudo_observations(
    gram: Float[Array, "n n"], likelihood: AbstractLikelihood, y: Array, outputs: int
) -> PseudoObservations:
    """Gaussian observations in place of ``likelihood`` for functions with covariance ``gram``."""
    fit = laplace_fit(gram, likelihood, y, outputs=outputs)
    if not fit.converged:
        warn(
            f"the Laplace fit of the map found no mode in {int(fit.steps)} steps (it would still "
            f"gain {float(fit.decrement):.1g} nats); draws are exact all the same, but chains may "
            "move slowly: the standard target needs no map"
        )

    def log_likelihood(f: Float[Array, "n o"]) -> Float[Array, ""]:
        return likelihood.log_density(f, y)

    blocks = point_precisions(log_likelihood, fit.mode)
    strengths, directions = eigh(jnp.mean(blocks, axis=0))
    heard = max(1, int(jnp.sum(strengths > SILENT * strengths[-1])))
    basis = directions[:, ::-1]
    along = basis[:, :heard]
    precision = jnp.trace(blocks, axis1=1, axis2=2)[:, None] / heard
    precision = at_least(SILENT, precision, gram)
    targets = (fit.mode + jax.grad(log_likelihood)(fit.mode) / precision) @ along
    root = jnp.sqrt(precision)
    gains, combinations = eigh(root * gram * root.T)
    kept = max(1, int(jnp.sum(SOFTENED * gains > LEAST_GAIN)))
    points = combinations[:, ::-1][:, :kept].T * (SOFTENED**0.5 * root.T)
    return PseudoObservations(points, basis, points @ targets)
