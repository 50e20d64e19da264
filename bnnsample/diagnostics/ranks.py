"""Ranks, normal scores and quantiles of many parameters at once, in float64 on the CPU."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import ndtri


def normal_scores(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-normalised draws (Vehtari et al. 2021, 1903.08008, eq. 14), and the draws sorted.

    ``draws`` (parameters, draws) are ranked within each parameter, ties taking their average
    rank; a parameter with a NaN has NaN for all of its scores. Both results have that shape.
    """
    n_parameters, n_draws = draws.shape
    order, ordered = _sorted(draws)
    changes = ordered[:, 1:] != ordered[:, :-1]
    scores = np.empty(draws.size)
    by_order = _score_of_rank(n_draws)[_twice_average_rank(changes)]
    scores[order.ravel()] = np.broadcast_to(by_order, draws.shape).ravel()
    scores = scores.reshape(n_parameters, n_draws)
    scores[np.isnan(ordered[:, 0]) | np.isnan(ordered[:, -1])] = np.nan
    return scores, ordered


def _sorted(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices that sort each row of ``draws``, and the rows sorted.

    One sort of whole numbers, which takes half the time of an argsort: the leading bits are the
    draw's, in an order that agrees with its own, the last ones its index. Rows with draws too near
    each other for the leading bits, which then come out of order, are sorted again.
    """
    n_parameters, n_draws = draws.shape
    index_bits = np.int64(2 ** n_draws.bit_length() - 1)
    keys = (draws + 0.0).view(np.int64)  # no negative zero: it equals zero
    negative = keys >> 63
    negative &= np.iinfo(np.int64).max
    keys ^= negative
    keys &= ~index_bits
    keys |= np.arange(n_draws)
    keys.sort(axis=1)
    keys &= index_bits
    keys += n_draws * np.arange(n_parameters)[:, None]
    ordered = draws.ravel().take(keys)
    again = np.flatnonzero((ordered[:, 1:] < ordered[:, :-1]).any(axis=1))
    if again.size:
        keys[again] = np.argsort(draws[again], axis=1) + n_draws * again[:, None]
        ordered[again] = draws.ravel().take(keys[again])
    return keys, ordered


def _twice_average_rank(changes: np.ndarray) -> np.ndarray:
    """Twice the rank of each sorted draw, from where a draw differs from the one before it.

    Where there is no tie at all, one row stands for every parameter.
    """
    n_parameters, n_draws = changes.shape[0], changes.shape[1] + 1
    position = np.arange(n_draws, dtype=np.int32)
    if changes.all():
        return 2 * (position + 1)
    first = np.zeros((n_parameters, n_draws), np.int32)
    first[:, 1:] = np.where(changes, position[1:], 0)
    last = np.full((n_parameters, n_draws), n_draws - 1, np.int32)
    last[:, :-1] = np.where(changes, position[:-1], n_draws - 1)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    return np.maximum.accumulate(first, axis=1) + last + 2


@lru_cache(maxsize=8)
def _score_of_rank(n_draws: int) -> np.ndarray:
    """Normal score at every half rank, by twice the rank: Blom's offsets of 3/8."""
    with np.errstate(invalid="ignore"):
        return ndtri((np.arange(2 * n_draws + 1) / 2 - 3 / 8) / (n_draws + 1 / 4))


def median(ordered: np.ndarray) -> np.ndarray:
    """Median of each row of ``ordered`` (parameters, draws), as a column."""
    n_draws = ordered.shape[1]
    return ordered[:, (n_draws - 1) // 2 : n_draws // 2 + 1].mean(axis=1, keepdims=True)


def quantile(ordered: np.ndarray, probability: float) -> np.ndarray:
    """Linearly interpolated quantile of each row of ``ordered``, as a column.

    The arithmetic is that of ``numpy.quantile``, to the last bit: draws are compared with it.
    """
    n_draws = ordered.shape[1]
    place = (n_draws - 1) * probability
    below = min(int(place), n_draws - 2)
    left, right = ordered[:, below : below + 1], ordered[:, below + 1 : below + 2]
    weight, gap = place - below, right - left
    return right - gap * (1 - weight) if weight >= 0.5 else left + gap * weight
