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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from bnnsample.checks import bad_input
from bnnsample.diagnostics.rank_statistics import (
    centre,
    ess_of,
    median,
    normal_scores,
    quantile,
    rhat_of,
    split,
)

BLOCK_BYTES = 2**20
"""Draws that a thread works on at a time, in float64. A choice: small enough for a core's cache,
large enough that calls of NumPy cost little. Some ten times this, per thread, is the memory."""

KEPT_BYTES = 31 * 2**20
"""Bytes allocated, and freed untouched, before the first block. glibc's malloc takes it as a hint
to keep freed memory up to twice this, where fresh memory for each block added a quarter to the
time; elsewhere it does nothing. Above 32 MiB the hint is not taken."""

TAIL_PROBABILITIES = (0.05, 0.95)
"""The quantiles of the tail ESS, as in the paper. ArviZ 1 takes by default those of the interval
that it is set to show, and these where they are given as ``prob``."""

MIN_DRAWS = 4
"""The fewest draws of a chain that two halves of at least two can be made of."""


@dataclass(frozen=True)
class Summary:
    """The three diagnostics of each parameter, as by the functions of their names."""

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray


def summarise(draws: Any) -> Summary:
    """R-hat, bulk and tail effective sample size together: 0.7 of the time of one by one."""
    values = _diagnostics(draws, "rhat", "ess_bulk", "ess_tail")
    return Summary(*(values[i, ...] for i in range(len(values))))


def ess_bulk(draws: Any) -> np.ndarray:
    """Bulk effective sample size: that of the mean of the rank-normalised split chains."""
    return _diagnostics(draws, "ess_bulk")[0, ...]


def ess_tail(draws: Any) -> np.ndarray:
    """Tail effective sample size: the smaller of those of the 5% and 95% quantiles."""
    return _diagnostics(draws, "ess_tail")[0, ...]


def ess_mean(draws: Any) -> np.ndarray:
    """Effective sample size for the mean of the draws as they are."""
    return _diagnostics(draws, "ess_mean")[0, ...]


def mcse_mean(draws: Any) -> np.ndarray:
    """Monte-Carlo standard error of the mean, by ``ess_mean``."""
    return _diagnostics(draws, "mcse_mean")[0, ...]


def rhat(draws: Any) -> np.ndarray:
    """Rank-normalised split R-hat: the worse of location (bulk) and of scale (folded)."""
    return _diagnostics(draws, "rhat")[0, ...]


def nested_rhat(draws: Any, superchains: Any) -> np.ndarray:
    """Nested R-hat of many short chains (Margossian et al. 2024, 2110.13017, eq. 8).

    ``superchains`` (chains,) names the superchain of each chain, by a whole number: the chains of
    a superchain start at the same point, and each superchain has as many. One draw per chain is
    enough where superchains have more chains than one. Neither split nor rank-normalised.
    """
    array = _as_draws(draws)
    members = _members(superchains, *array.shape[:2])
    return _by_blocks(lambda block: [_nested_rhat(block[:, members])], array, min_draws=1)[0, ...]


def moves(draws: Float[np.ndarray, "chains draws ..."]) -> Bool[np.ndarray, ...]:
    """Which components are finite and not constant. Ranks hide infinities and rank constants."""
    with np.errstate(invalid="ignore"):
        spread = draws.max(axis=(0, 1)).astype(float) - draws.min(axis=(0, 1))
    return (spread > 0) & (spread < np.inf)


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
    statistics: Callable[[np.ndarray], Sequence[np.ndarray]],
    draws: np.ndarray,
    *,
    n_statistics: int = 1,
    min_draws: int = MIN_DRAWS,
) -> np.ndarray:
    """``statistics`` of (parameters, chains, draws), by blocks of parameters in threads."""
    n_chains, n_draws, *shape = draws.shape
    columns = draws.reshape(n_chains, n_draws, -1)
    result = np.full((n_statistics, columns.shape[2]), np.nan)
    size = max(1, BLOCK_BYTES // (8 * n_chains * n_draws))
    n_threads = os.cpu_count() or 1
    np.empty(KEPT_BYTES, np.uint8)

    def fill(thread: int) -> None:
        for start in range(thread * size, columns.shape[2], n_threads * size):
            part = np.moveaxis(columns[:, :, start : start + size], 2, 0)
            block = np.ascontiguousarray(part, dtype=np.float64)
            with np.errstate(all="ignore"):
                values = statistics(block)
            missing = np.isnan(block).any(axis=(1, 2))
            result[:, start : start + size] = np.where(missing, np.nan, values)

    if n_draws >= min_draws:
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(fill, range(n_threads)))
    return result.reshape(n_statistics, *shape)


def _diagnostics(draws: Any, *names: str) -> np.ndarray:
    """The diagnostics of these names, (names, ...)."""

    def statistics(block: np.ndarray) -> list[np.ndarray]:
        shared = _Block(block, ranks=names != ("ess_tail",))
        return [getattr(shared, name)() for name in names]

    return _by_blocks(statistics, _as_draws(draws), n_statistics=len(names))


class _Block:
    """Diagnostics of draws (parameters, chains, draws), and what they share, worked out once."""

    def __init__(self, draws: np.ndarray, *, ranks: bool) -> None:
        self.draws = draws
        self.halves = split(draws)
        self.sort_alone = not ranks or draws.shape[2] % 2 == 1

    @cached_property
    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Normal scores of the half chains, in their shape, and the draws of these sorted."""
        scores, ordered = normal_scores(self.halves.reshape(len(self.halves), -1))
        return scores.reshape(self.halves.shape), ordered

    @cached_property
    def centred_scores(self) -> tuple[np.ndarray, np.ndarray]:
        return centre(self.ranked[0])

    def ess_bulk(self) -> np.ndarray:
        return ess_of(*self.centred_scores)

    def ess_tail(self) -> np.ndarray:
        draws = self.draws.reshape(len(self.draws), -1)
        ordered = np.sort(draws, axis=1) if self.sort_alone else self.ranked[1]
        low, high = (
            ess_of(*centre((self.halves <= quantile(ordered, p)[:, :, None]).astype(np.float64)))
            for p in TAIL_PROBABILITIES
        )
        return np.where(high < low, high, low)

    def ess_mean(self) -> np.ndarray:
        return ess_of(*centre(self.halves))

    def mcse_mean(self) -> np.ndarray:
        return self.draws.std(axis=(1, 2), ddof=1) / np.sqrt(self.ess_mean())

    def rhat(self) -> np.ndarray:
        if self.draws.shape[1] == 1:
            return np.full(len(self.draws), np.nan)
        folded = self.halves - median(self.ranked[1])[:, :, None]
        np.abs(folded, out=folded)
        scores, _ = normal_scores(folded.reshape(len(folded), -1))
        bulk, tail = rhat_of(*self.centred_scores), rhat_of(*centre(scores.reshape(folded.shape)))
        return np.where(tail > bulk, tail, bulk)


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
