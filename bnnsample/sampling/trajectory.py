"""How many steps a trajectory should take: a search by effective draws a gradient.

Each candidate makes a block of draws. The outputs at the training inputs, which all targets know,
move by ``E|f' - f|^2 = 2 Var(f) (1 - r)`` a draw, with ``r`` their correlation from one draw to the
next; as for an autoregression, effective draws a gradient are ``(1 - r) / (1 + r) / num_steps``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bnnsample.repriorisation.targets import AbstractTarget

CANDIDATES = (1, 2, 4, 8, 16)
"""Numbers of steps tried; between neighbours the best efficiency differs by little."""

MOST_CORRELATED = 0.99
"""Correlations are clipped to this size: a short block cannot tell larger ones apart."""


class Search(NamedTuple):
    """Sums over the draws of the search, deviations being from the first outputs seen."""

    origin: Float[Array, "n o"]
    last: Float[Array, "n o"]
    total: Float[Array, "n o"]
    squares: Float[Array, "n o"]
    jumps: Float[Array, " candidates"]
    draws: Float[Array, " candidates"]


def new_search(target: AbstractTarget, position: Float[Array, " dim"]) -> Search:
    """A search that has seen no outputs yet."""
    outputs = jax.eval_shape(target.fitted, position)
    empty = jnp.zeros(outputs.shape, outputs.dtype)
    none = jnp.zeros(len(CANDIDATES), outputs.dtype)
    return Search(empty, empty, empty, empty, none, none)


def record(
    target: AbstractTarget,
    search: Search,
    position: Float[Array, " dim"],
    candidate: Int[Array, ""],
) -> Search:
    """The search after a draw that ended at ``position``; the very first one is its origin."""
    fitted = target.fitted(position)
    first = jnp.sum(search.draws) == 0
    origin = jnp.where(first, fitted, search.origin)
    deviation = fitted - origin
    jump = jnp.where(first, 0.0, jnp.sum((fitted - search.last) ** 2))
    return Search(
        origin=origin,
        last=fitted,
        total=search.total + deviation,
        squares=search.squares + deviation**2,
        jumps=search.jumps.at[candidate].add(jump),
        draws=search.draws.at[candidate].add(1.0),
    )


def best_num_steps(search: Search, step_size: Float[Array, ""]) -> Int[Array, ""]:
    """The candidate of most effective draws a gradient.

    Never more than half a turn, beyond which positions of N(0, I) come back.
    """
    count = jnp.maximum(jnp.sum(search.draws), 2.0)
    variance = jnp.sum(search.squares - search.total**2 / count) / (count - 1)
    mean_jumps = search.jumps / jnp.maximum(search.draws, 1.0)
    correlation = jnp.clip(1 - mean_jumps / (2 * variance), -MOST_CORRELATED, MOST_CORRELATED)
    steps = jnp.asarray(CANDIDATES)
    efficiency = (1 - correlation) / (1 + correlation) / steps.astype(correlation.dtype)
    half_turn = jnp.maximum(jnp.ceil(math.pi / step_size), 1).astype(int)
    sensible = (steps <= half_turn) & (search.draws > 0)
    return steps[jnp.argmax(jnp.where(sensible, efficiency, -jnp.inf))]
