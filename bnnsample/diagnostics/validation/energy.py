"""The energy distance of two samples, and whether it is more than chance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

PERMUTATIONS_PER_ALARM = 5
"""Over the level of the test: its smallest p-value is then a fifth of that level."""

AT_ONCE = 1000
"""Permutations that are computed together."""


def energy_test(
    first: Float[np.ndarray, "n dim"],
    second: Float[np.ndarray, "m dim"],
    *,
    seed: int,
    level: float,
) -> tuple[float, float]:
    """Energy distance of two independent samples, and its p-value by permutation.

    ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` (Székely and Rizzo 2004), 0 for equal laws alone, of
    quantities that are divided by the standard deviations of the second sample, but for constants.
    As many permutations are drawn as a test at ``level`` needs. Both are NaN where a quantity is.
    """
    spread = second.std(axis=0)
    pooled = np.concatenate([first, second]) / np.where(spread > 0, spread, 1.0)
    if not np.all(np.isfinite(pooled)):
        return float("nan"), float("nan")
    distances = cdist(pooled, pooled)
    n, m = len(first), len(second)
    signs = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    generator = np.random.default_rng(seed)
    observed = -float(signs @ distances @ signs)
    larger, total = 0, 0
    while total < PERMUTATIONS_PER_ALARM / level:
        permuted = generator.permuted(np.tile(signs, (AT_ONCE, 1)), axis=1)
        found = -np.sum((permuted @ distances) * permuted, axis=1)
        larger += int(np.sum(found >= observed))
        total += AT_ONCE
    return observed, (larger + 1) / (total + 1)
