"""How many steps a trajectory should take: a search by effective draws a gradient.

Each candidate makes a block of draws. What is estimated moves by ``E|v' - v|^2 = 2 Var(v) (1 - r)``
a draw, with ``r`` the correlation from one draw to the next; as for an autoregression, effective
draws a gradient are ``(1 - r) / (1 + r) / num_steps``. They are found for the outputs at the
training inputs, which short trajectories serve best, and for the position, which needs about a
quarter turn; the slower of the two counts, as a run has converged when both have.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bnnsample.repriorisation.base import AbstractTarget

CANDIDATES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of steps tried; between neighbours the best efficiency differs by little."""


def half_turn(step_size: Float[Array, ""]) -> Int[Array, ""]:
    """Steps that turn positions of N(0, I) by half a turn, beyond which they come back."""
    return jnp.maximum(jnp.ceil(math.pi / step_size), 1).astype(int)


class Search(NamedTuple):
    """Sums over the draws of the search, deviations being from the first outputs seen.

    ``jumps`` and ``moves``: squared distances from one draw to the next, of outputs and position.
    """

    origin: Float[Array, "n o"]
    last: Float[Array, "n o"]
    total: Float[Array, "n o"]
    squares: Float[Array, "n o"]
    jumps: Float[Array, " candidates"]
    moves: Float[Array, " candidates"]
    draws: Float[Array, " candidates"]


def new_search(target: AbstractTarget, position: Float[Array, " dim"]) -> Search:
    """A search that has seen no outputs yet."""
    outputs = jax.eval_shape(target.fitted, position)
    empty = jnp.zeros(outputs.shape, outputs.dtype)
    none = jnp.zeros(len(CANDIDATES), outputs.dtype)
    return Search(empty, empty, empty, empty, none, none, none)


def record(
    target: AbstractTarget,
    search: Search,
    before: Float[Array, " dim"],
    after: Float[Array, " dim"],
    candidate: Int[Array, ""],
) -> Search:
    """The search after a draw from one position to another; its very first one is the origin."""
    fitted = target.fitted(after)
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
        moves=search.moves.at[candidate].add(jnp.mean((after - before) ** 2)),
        draws=search.draws.at[candidate].add(1.0),
    )


def best_num_steps(search: Search, step_size: Float[Array, ""]) -> Int[Array, ""]:
    """The candidate of most effective draws a gradient, not longer than half a turn."""
    count = jnp.maximum(jnp.sum(search.draws), 2.0)
    variance = jnp.sum(search.squares - search.total**2 / count) / (count - 1)
    tried = jnp.maximum(search.draws, 1.0)
    steps = jnp.asarray(CANDIDATES)
    outputs = _effective(search.jumps / tried, variance)
    position = _effective(search.moves / tried, 1.0)
    efficiency = jnp.minimum(outputs, position) / steps.astype(variance.dtype)
    sensible = (steps <= half_turn(step_size)) & (search.draws > 0)
    return steps[jnp.argmax(jnp.where(sensible, efficiency, -jnp.inf))]


def _effective(
    squared_distance: Float[Array, " candidates"], variance: Float[Array, ""] | float
) -> Float[Array, " candidates"]:
    """Effective draws a draw, at most 1: what is antithetic for means is not so for variances."""
    correlation = jnp.maximum(1 - squared_distance / (2 * variance), 0.0)
    return (1 - correlation) / (1 + correlation)
