"""Streaming mean and variance of every parameter and prediction: two arrays, however many draws."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int


class Moments(NamedTuple):
    """Draws seen, their mean, and the sum of their squared deviations from it (Welford)."""

    draws: Int[Array, ""]
    mean: dict[str, Array]
    squares: dict[str, Array]


def no_moments(draw: dict[str, Array]) -> Moments:
    """The moments of no draws yet, of arrays like those of ``draw``."""
    zeros = jax.tree.map(jnp.zeros_like, draw)
    return Moments(jnp.zeros((), int), zeros, jax.tree.map(jnp.zeros_like, draw))


def add_draw(moments: Moments, draw: dict[str, Array]) -> Moments:
    """The moments with one more draw."""
    count = moments.draws + 1
    mean = {
        name: old + (draw[name] - old) / count.astype(old.dtype)
        for name, old in moments.mean.items()
    }
    squares = {
        name: old + (draw[name] - moments.mean[name]) * (draw[name] - mean[name])
        for name, old in moments.squares.items()
    }
    return Moments(count, mean, squares)


def as_variables(moments: Moments) -> dict[str, np.ndarray]:
    """Mean and standard deviation of each array, (2, chain, ...)."""
    count = np.maximum(np.asarray(moments.draws), 2)
    variables = {}
    for name, mean in moments.mean.items():
        degrees = (count - 1).reshape(-1, *(1,) * (mean.ndim - 1)).astype(mean.dtype)
        std = np.sqrt(np.asarray(moments.squares[name]) / degrees)
        variables[name] = np.stack([np.asarray(mean), std])
    return variables
