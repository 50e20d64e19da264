"""Ranks, quantiles, R-hat and ESS of one block of parameters, in float64 on the CPU.

The parts that ``vectorised`` puts together; the definitions are there.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.fftpack import next_fast_len
from scipy.special import ndtri

FIRST_LAGS = 128
"""Lags of the autocorrelation tried first; a parameter that needs more has all of them. A choice:
it is enough for 70% of parameters of autocorrelation time 40 (halves of 500 draws, 4 chains), for
nearly all of 20, and costs two thirds of all lags or less."""


def normal_scores(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank-normalised draws (Vehtari et al. 2021, 1903.08008, eq. 14), and the draws sorted.

    ``draws`` (parameters, draws) are ranked within each parameter, ties taking their average
    rank; a parameter with a NaN has NaN for all of its scores. Both results have that shape.
    """
    n_draws = draws.shape[1]
    order, ordered = _sorted(draws)
    by_order = np.empty_like(ordered)
    by_order[:] = _score_of_rank(n_draws)[2::2]
    _average_ties(by_order, ordered)
    scores = np.empty(draws.size)
    scores[order] = by_order
    scores = scores.reshape(draws.shape)
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


def _average_ties(by_order: np.ndarray, ordered: np.ndarray) -> None:
    """Overwrites the scores ``by_order`` where draws are tied, by that of their average rank.

    The cost is in proportion to the ties; chains that reject proposals have many.
    """
    n_draws = ordered.shape[1]
    tied = np.zeros(ordered.shape, bool)  # with the next one
    np.equal(ordered[:, 1:], ordered[:, :-1], out=tied[:, :-1])
    places = np.flatnonzero(tied)
    gaps = np.diff(places) != 1
    first = places[np.concatenate(([True], gaps))[: places.size]]
    last = places[np.concatenate((gaps, [True]))[: places.size]] + 1
    lengths = last - first + 1
    scores = _score_of_rank(n_draws)[first % n_draws + last % n_draws + 2]
    starts = np.cumsum(lengths) - lengths
    members = np.arange(lengths.sum()) + np.repeat(first - starts, lengths)
    by_order.reshape(-1)[members] = np.repeat(scores, lengths)


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


def split(block: np.ndarray) -> np.ndarray:
    """Half chains (parameters, 2 chains, draws // 2); an odd number loses its middle draw."""
    n_parameters, n_chains, n_draws = block.shape
    half = n_draws // 2
    if n_draws % 2:
        block = np.concatenate((block[:, :, :half], block[:, :, -half:]), axis=2)
    return block.reshape(n_parameters, 2 * n_chains, half)


def centre(chains: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each of (parameters, chains, draws) less its mean, and these means."""
    means = chains.mean(axis=2)
    return chains - means[:, :, None], means


def rhat_of(centred: np.ndarray, means: np.ndarray) -> np.ndarray:
    """R-hat of (parameters, chains, draws), ranked, split and by ``centre``."""
    n_draws = centred.shape[2]
    between = n_draws * means.var(axis=1, ddof=1)
    within = np.einsum("pcd,pcd->p", centred, centred) / (means.shape[1] * (n_draws - 1))
    return np.sqrt((between / within + n_draws - 1) / n_draws)


def ess_of(centred: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Effective sample size of (parameters, chains, draws), ranked, split and by ``centre``.

    Autocorrelations of all chains together, summed in pairs up to the first that is not positive,
    as Geyer's initial monotone sequence (the paper, eqs. 10 to 13).
    """
    n_draws = centred.shape[2]
    n_total = means.shape[1] * n_draws
    tau, ended = _autocorrelation_time(centred, means, min(FIRST_LAGS, n_draws))
    if not ended.all():
        tau[~ended], _ = _autocorrelation_time(centred[~ended], means[~ended], n_draws)
    ess = n_total / np.maximum(tau, 1 / np.log10(n_total))
    lowest, highest = ((f(centred, axis=2) + means) for f in (np.min, np.max))
    constant = highest.max(axis=1) - lowest.min(axis=1) < np.finfo(float).resolution
    return np.where(constant, n_total, ess)


def _autocorrelation_time(
    centred: np.ndarray, means: np.ndarray, n_lags: int
) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation time of each parameter, and whether its sum ended within ``n_lags``."""
    n_draws = centred.shape[2]
    covariance = _autocovariance(centred, n_lags)
    within = covariance[:, :1]
    variance = within + means.var(axis=1, ddof=1)[:, None]
    correlation = 1 - (within * n_draws / (n_draws - 1) - covariance) / variance
    correlation[:, 0] = 1
    tau, ended = _geyer_sum(correlation, n_draws)
    return np.where(np.isnan(correlation[:, 1]), np.nan, tau), ended


def _autocovariance(centred: np.ndarray, n_lags: int) -> np.ndarray:
    """Autocovariance at each lag below ``n_lags``, averaged over chains: (parameters, lags)."""
    n_parameters, n_chains, n_draws = centred.shape
    length = next_fast_len(n_draws + n_lags)
    padded = np.zeros((n_parameters, n_chains, length))
    padded[:, :, :n_draws] = centred
    parts = np.fft.rfft(padded).view(np.float64)
    power = np.square(parts, out=parts).sum(axis=1)
    sums = np.fft.irfft(power[:, ::2] + power[:, 1::2], length)[:, :n_lags]
    return sums / (n_chains * n_draws)


def _geyer_sum(correlation: np.ndarray, n_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation time, from correlations (parameters, lags), and whether it is the whole one.

    Positive pairs before the first that is not count, each at most the one before it; of the
    next pair, the even lag alone, where it is positive or its pair not negative. As in ArviZ,
    the last lags never begin a pair.
    """
    all_pairs = max((n_draws - 3) // 2, 0)
    n_pairs = min(all_pairs, correlation.shape[1] // 2 - 1)
    even, odd = (correlation[:, start : 2 * n_pairs + 2 : 2] for start in (0, 1))
    pairs = even + odd
    positive = np.logical_and.accumulate(pairs[:, :n_pairs] > 0, axis=1)
    monotone = np.minimum.accumulate(pairs[:, :n_pairs], axis=1)
    stop = positive.sum(axis=1)
    next_even, next_pair = (a[np.arange(len(a)), stop] for a in (even, pairs))
    next_even = np.where((next_even > 0) | (next_pair >= 0), next_even, 0)
    tau = 2 * np.sum(monotone, axis=1, where=positive) + next_even - 1
    return tau, (stop < n_pairs) | (n_pairs == all_pairs)
