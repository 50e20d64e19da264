"""ESS, R-hat and MCSE of millions of parameters: ArviZ's numbers, many parameters at a time.

Everything runs in NumPy, in float64 whatever JAX's precision, on blocks of parameters that fit in
the cache, one block to a thread. It is not in JAX because of ranking: on a CPU, XLA takes 1.0 ms to
argsort the 4000 draws of a parameter, NumPy 0.1 ms, and the Fourier transforms cost about as much.

Definitions are those of Vehtari et al. 2021 (1903.08008), conventions those of ArviZ 1.3: half
chains without the middle draw of an odd number, NaN for a parameter with a NaN draw or for less
than 4 draws (R-hat: 2 chains), and all draws effective where they are equal. Infinite draws are
only the largest and the smallest to whatever ranks them, and make NaN of the rest. Draws become
float64 first, so ArviZ agrees exactly with the same draws in float64.

Arrays are NumPy or JAX, (chains, draws, ...), and results have the trailing shape.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from scipy.fftpack import next_fast_len

from bnnsample.checks import bad_input
from bnnsample.diagnostics.ranks import median, normal_scores, quantile

BLOCK_BYTES = 2**19
"""Draws that a thread works on at a time, in float64. A choice: small enough for a core's cache,
large enough that calls of NumPy cost little. Some twenty times this, per thread, is the memory."""

TRANSFORM_BYTES = 2**18
"""Bytes of chains transformed at once. A choice, so that fresh memory is not paid for each time."""

TAIL_PROBABILITIES = (0.05, 0.95)
"""The quantiles of the tail ESS, as in the paper and in ArviZ."""

MIN_DRAWS = 4
"""The fewest draws of a chain that two halves of at least two can be made of."""


def ess_bulk(draws: Any) -> np.ndarray:
    """Bulk effective sample size: that of the mean of the rank-normalised split chains."""
    return _by_blocks(lambda block: _ess(_split_scores(block)[0]), _as_draws(draws))


def ess_tail(draws: Any) -> np.ndarray:
    """Tail effective sample size: the smaller of those of the 5% and 95% quantiles."""
    return _by_blocks(_ess_tail, _as_draws(draws))


def ess_mean(draws: Any) -> np.ndarray:
    """Effective sample size for the mean of the draws as they are."""
    return _by_blocks(lambda block: _ess(_split(block)), _as_draws(draws))


def mcse_mean(draws: Any) -> np.ndarray:
    """Monte-Carlo standard error of the mean, by ``ess_mean``."""
    return _by_blocks(
        lambda block: block.std(axis=(1, 2), ddof=1) / np.sqrt(_ess(_split(block))),
        _as_draws(draws),
    )


def rhat(draws: Any) -> np.ndarray:
    """Rank-normalised split R-hat: the worse of location (bulk) and of scale (folded)."""
    return _by_blocks(_rhat_rank, _as_draws(draws), min_chains=2)


def nested_rhat(draws: Any, superchains: Any) -> np.ndarray:
    """Nested R-hat of many short chains (Margossian et al. 2024, 2110.13017, eq. 8).

    ``superchains`` (chains,) names the superchain of each chain, by a whole number: the chains of
    a superchain start at the same point, and each superchain has as many. One draw per chain is
    enough where superchains have more chains than one. Neither split nor rank-normalised.
    """
    array = _as_draws(draws)
    members = _members(superchains, *array.shape[:2])
    return _by_blocks(lambda block: _nested_rhat(block[:, members]), array, min_draws=1)


def _as_draws(draws: Any) -> np.ndarray:
    array = np.asarray(draws)
    real = np.issubdtype(array.dtype, np.number) or array.dtype == bool
    if not real or np.iscomplexobj(array) or array.ndim < 2 or 0 in array.shape[:2]:
        raise bad_input(
            "draws",
            got=f"dtype {array.dtype} and shape {array.shape}",
            expected="real numbers of shape (chains, draws, ...), at least one chain and draw",
            probably="a single chain without its axis, draws[None], or no draws kept",
        )
    return array


def _members(superchains: Any, n_chains: int, n_draws: int) -> np.ndarray:
    """Indices of the chains of each superchain, (superchains, chains of each)."""
    ids = np.asarray(superchains)
    if ids.shape != (n_chains,):
        raise bad_input(
            "superchains",
            got=f"shape {ids.shape}",
            expected=f"the superchain of each of the {n_chains} chains",
            probably="the number of superchains; give np.repeat(np.arange(k), chains_of_each)",
        )
    _, counts = np.unique(ids, return_counts=True)
    if len(counts) < 2 or counts.min() != counts.max() or counts[0] * n_draws < 2:
        raise bad_input(
            "superchains",
            got=f"superchains of {counts.tolist()} chains, with {n_draws} draws of each",
            expected="two superchains or more, equally large, of more draws than one each",
            probably="chains that were dropped, or every chain named as its own superchain",
        )
    return np.argsort(ids, kind="stable").reshape(len(counts), -1)


def _by_blocks(
    statistic: Callable[[np.ndarray], np.ndarray],
    draws: np.ndarray,
    *,
    min_chains: int = 1,
    min_draws: int = MIN_DRAWS,
) -> np.ndarray:
    """``statistic`` of (parameters, chains, draws), by blocks of parameters in threads."""
    n_chains, n_draws, *shape = draws.shape
    columns = draws.reshape(n_chains, n_draws, -1)
    result = np.full(columns.shape[2], np.nan)
    size = max(1, BLOCK_BYTES // (8 * n_chains * n_draws))

    n_threads = os.cpu_count() or 1

    def fill(thread: int) -> None:
        for start in range(thread * size, len(result), n_threads * size):
            part = np.moveaxis(columns[:, :, start : start + size], 2, 0)
            block = np.ascontiguousarray(part, dtype=np.float64)
            with np.errstate(all="ignore"):
                value = statistic(block)
            missing = np.isnan(block).any(axis=(1, 2))
            result[start : start + size] = np.where(missing, np.nan, value)

    if n_chains >= min_chains and n_draws >= min_draws:
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(fill, range(n_threads)))
    return result.reshape(shape)


def _split(block: np.ndarray) -> np.ndarray:
    """Half chains (parameters, 2 chains, draws // 2); an odd number loses its middle draw."""
    half = block.shape[2] // 2
    return np.concatenate((block[:, :, :half], block[:, :, -half:]), axis=1)


def _split_scores(block: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal scores of the half chains, in their shape, the half chains, and their median."""
    halves = _split(block)
    scores, ordered = normal_scores(halves.reshape(len(halves), -1))
    return scores.reshape(halves.shape), halves, median(ordered)


def _ess_tail(block: np.ndarray) -> np.ndarray:
    ordered = np.sort(block.reshape(len(block), -1), axis=1)
    low, high = (
        _ess(_split(block <= quantile(ordered, probability)[:, :, None]).astype(np.float64))
        for probability in TAIL_PROBABILITIES
    )
    return np.where(high < low, high, low)


def _rhat_rank(block: np.ndarray) -> np.ndarray:
    scores, halves, middle = _split_scores(block)
    folded = np.abs(halves - middle[:, :, None])
    folded_scores, _ = normal_scores(folded.reshape(len(folded), -1))
    bulk, tail = _rhat(scores), _rhat(folded_scores.reshape(folded.shape))
    return np.where(tail > bulk, tail, bulk)


def _rhat(chains: np.ndarray) -> np.ndarray:
    n_draws = chains.shape[2]
    between = n_draws * chains.mean(axis=2).var(axis=1, ddof=1)
    within = chains.var(axis=2, ddof=1).mean(axis=1)
    return np.sqrt((between / within + n_draws - 1) / n_draws)


def _nested_rhat(chains: np.ndarray) -> np.ndarray:
    """Nested R-hat of (parameters, superchains, chains, draws)."""
    n_chains, n_draws = chains.shape[2:]
    means = chains.mean(axis=3)
    within = np.zeros(chains.shape[:2])
    if n_chains > 1:
        within += means.var(axis=2, ddof=1)
    if n_draws > 1:
        within += chains.var(axis=3, ddof=1).mean(axis=2)
    return np.sqrt(1 + means.mean(axis=2).var(axis=1, ddof=1) / within.mean(axis=1))


def _ess(chains: np.ndarray) -> np.ndarray:
    """Effective sample size of (parameters, chains, draws), ranked or split before.

    Autocorrelations of all chains together, summed in pairs up to the first that is not positive,
    as Geyer's initial monotone sequence (the paper, eqs. 10 to 13).
    """
    _, n_chains, n_draws = chains.shape
    n_total = n_chains * n_draws
    covariance = _autocovariance(chains)
    mean_variance = covariance[:, :1] * n_draws / (n_draws - 1)
    variance = covariance[:, :1]
    if n_chains > 1:
        variance = variance + chains.mean(axis=2).var(axis=1, ddof=1, keepdims=True)
    correlation = 1 - (mean_variance - covariance) / variance
    correlation[:, 0] = 1
    tau = np.maximum(_geyer_sum(correlation), 1 / np.log10(n_total))
    ess = np.where(np.isnan(correlation[:, 1]), np.nan, n_total / tau)
    constant = chains.max(axis=(1, 2)) - chains.min(axis=(1, 2)) < np.finfo(float).resolution
    return np.where(constant, n_total, ess)


def _autocovariance(chains: np.ndarray) -> np.ndarray:
    """Autocovariance at each lag, averaged over chains: (parameters, draws)."""
    n_parameters, n_chains, n_draws = chains.shape
    length = next_fast_len(2 * n_draws)
    size = max(1, TRANSFORM_BYTES // (8 * n_parameters * length))
    power = np.zeros((n_parameters, 2 * (length // 2 + 1)))
    for start in range(0, n_chains, size):
        some = chains[:, start : start + size]
        padded = np.zeros((*some.shape[:2], length))
        np.subtract(some, some.mean(axis=2, keepdims=True), out=padded[:, :, :n_draws])
        parts = np.fft.rfft(padded).view(np.float64)
        power += np.square(parts, out=parts).sum(axis=1)
    power = power.reshape(n_parameters, -1, 2).sum(axis=2) / n_chains
    return np.fft.irfft(power, length)[:, :n_draws] / n_draws


def _geyer_sum(correlation: np.ndarray) -> np.ndarray:
    """Autocorrelation time, from correlations (parameters, lags).

    Positive pairs before the first that is not count, each at most the one before it; of the
    next pair, the even lag alone, where it is positive or its pair not negative. As in ArviZ,
    the last lags never begin a pair.
    """
    n_lags = correlation.shape[1]
    n_pairs = max((n_lags - 3) // 2, 0)
    even, odd = (correlation[:, start : 2 * n_pairs + 2 : 2] for start in (0, 1))
    pairs = even + odd
    positive = np.logical_and.accumulate(pairs[:, :n_pairs] > 0, axis=1)
    monotone = np.minimum.accumulate(pairs[:, :n_pairs], axis=1)
    stop = positive.sum(axis=1)[:, None]
    next_even, next_pair = (np.take_along_axis(a, stop, axis=1)[:, 0] for a in (even, pairs))
    next_even = np.where((next_even > 0) | (next_pair >= 0), next_even, 0)
    return 2 * np.sum(monotone, axis=1, where=positive) + next_even - 1
