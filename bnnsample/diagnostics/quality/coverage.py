"""Where targets lie under a predictive, beside where sets of targets drawn from it lie.

Test points share what is not known of the function, so that a predictive that is right may miss
them all on one side: tests that take points for independent call it wrong too often.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

TOO_SURE, NOT_SURE_ENOUGH = "too sure", "not sure enough"
AS_SURE = "as sure as they should be"

HISTOGRAM_BINS = 10
"""Of the PIT."""

BAND = 0.025, 0.975
"""What lies in a band were the predictive right: 95 % of sets of targets."""


LEAST_P = 0.025
"""Of predictions that are as sure as they should be; 1 time of 40 that they are, theirs is less."""

REPLICATES = 1000
"""Sets of targets drawn from the predictive, that the targets are held against: a p-value of 0.025
is then known to a fifth; arbitrary."""

LEVELS = 0.5, 0.9, 0.95
"""Probabilities of the central intervals."""

ONE_SIDED = 4
"""As many times as many targets on one side of the intervals as on the other, that it is their
place and not their width that is wrong; arbitrary."""


class Interval(NamedTuple):
    """The central predictive intervals of a probability: how often targets lay inside, how wide.

    ``low`` and ``high``: what 95 % of the coverages of sets of targets that are drawn from the
    predictive lie in. ``width``: the mean, in the units of ``y``.
    """

    level: float
    coverage: float
    low: float
    high: float
    width: float


def interval(
    level: float,
    pit: Float[np.ndarray, "m columns"],
    replicated_pit: Float[np.ndarray, "m columns replicates"],
    width: float,
) -> Interval:
    """The intervals of this ``level``, by the targets' PIT and that of replicated targets."""
    low, high = np.quantile(_coverage(level, replicated_pit), BAND)
    return Interval(level, float(_coverage(level, pit)), float(low), float(high), width)


def histogram(pit: Float[np.ndarray, "m columns ..."]) -> Float[np.ndarray, "bins ..."]:
    """Shares of the PIT values in bins of equal width."""
    cells = np.minimum(pit * HISTOGRAM_BINS, HISTOGRAM_BINS - 1).astype(np.int8)
    return np.stack([np.mean(cells == own, axis=(0, 1)) for own in range(HISTOGRAM_BINS)])


def uniformity(
    pit: Float[np.ndarray, "m columns"],
    replicated_pit: Float[np.ndarray, "m columns replicates"],
) -> float:
    """P-value of the PIT being uniform, against predictives off centre, too narrow or too wide.

    By the distances from uniform (Kolmogorov and Smirnov's) of the PIT, which a predictive off
    centre has, and of how far it is from the middle, which one of another width has, and by the
    coverage of the intervals of ``LEVELS``, where it is the tails that differ. Each is ranked among
    those of the sets, the targets counted as one of them, and the p-value is the share of sets with
    a distance of as high a rank.
    """
    replicated = replicated_pit.reshape(pit.size, -1).T
    # one set at a time, which takes no memory for all of them
    distances = np.array([_distances(own) for own in (pit.ravel(), *replicated)])
    return rank_p_value(distances)


def rank_p_value(distances: Float[np.ndarray, "sets kinds"]) -> float:
    """The share of sets that are as far from right as the first, by any kind of distance.

    Of each set that distance counts by which it has the highest rank; the first are the targets.
    """
    rank = rankdata(-distances, method="max", axis=0).min(axis=1)
    return float(np.mean(rank <= rank[0]))


def _coverage(level: float, pit: np.ndarray) -> np.ndarray:
    return np.mean(np.abs(pit - 0.5) <= level / 2, axis=(0, 1))


def _distances(pit: Float[np.ndarray, " values"]) -> list[float]:
    from_the_middle = np.abs(2 * pit - 1)
    coverages = [abs(np.mean(from_the_middle <= level) - level) for level in LEVELS]
    return [_distance(pit), _distance(from_the_middle), *coverages]


def _distance(values: Float[np.ndarray, " values"]) -> float:
    ordered, below = np.sort(values), np.arange(len(values)) / len(values)
    return float(np.max(np.maximum(below + 1 / len(values) - ordered, ordered - below)))
