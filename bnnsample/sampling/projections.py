"""Random projections of weights: what is followed of millions of parameters.

A direction is a product of two vectors for each array of weights, so that all projections of an
array take one pass over it and little memory. Directions have unit length: under the prior every
projection is N(0, 1).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnnsample.repriorisation.base import AbstractTarget

NUM_PROJECTIONS = 20
PROJECTION_SEED = 2206_07673
"""Fixed, so that all runs of one target are compared on the same projections, and on the same ones
of the readout all runs of one architecture."""


class Directions(NamedTuple):
    """``NUM_PROJECTIONS`` directions in the space of one array, seen as a matrix."""

    left: Float[Array, "projections rows"]
    right: Float[Array, "projections columns"]


class Projections(NamedTuple):
    """Directions for each array of the hidden weights, and for the readout."""

    hidden: tuple[Directions, ...]
    readout: tuple[Directions, ...]


def random_projections(target: AbstractTarget) -> Projections:
    """Random directions for the hidden weights that a target samples, and for the readout."""
    position = jax.ShapeDtypeStruct((target.dim,), target.posterior.x.dtype)
    draw = jax.eval_shape(target.drawer(), position, jax.random.key(0))
    return Projections(_directions(0, draw.sampled), _directions(1, draw.readout))


def project(directions: tuple[Directions, ...], tree: Any) -> Float[Array, " projections"]:
    """The projections of a tree of arrays."""
    leaves = jax.tree.leaves(tree)
    return sum(  # pyright: ignore[reportReturnType]
        jnp.sum((each.left @ _as_matrix(leaf)) * each.right, axis=1)
        for each, leaf in zip(directions, leaves, strict=True)
    )


def _directions(part: int, shapes: Any) -> tuple[Directions, ...]:
    generator = np.random.default_rng((PROJECTION_SEED, part))
    leaves = jax.tree.leaves(shapes)
    dim = sum(leaf.size for leaf in leaves)
    directions = []
    for leaf in leaves:
        columns = leaf.shape[-1]
        left = _unit_rows(generator, leaf.size // columns) * math.sqrt(leaf.size / dim)
        right = _unit_rows(generator, columns)
        directions.append(Directions(jnp.asarray(left, leaf.dtype), jnp.asarray(right, leaf.dtype)))
    return tuple(directions)


def _unit_rows(generator: np.random.Generator, dim: int) -> np.ndarray:
    rows = generator.standard_normal((NUM_PROJECTIONS, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _as_matrix(leaf: Float[Array, "*rows columns"]) -> Float[Array, "rows columns"]:
    return leaf.reshape(-1, leaf.shape[-1])
