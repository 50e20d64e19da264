"""How far a run is: what is reported between two segments."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

type Phase = Literal["compiling", "warm-up", "sampling"]

MOST_BATCHES = 64
"""Batch means that are remembered before neighbours are joined: memory that does not grow."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, handed to ``on_progress`` after every segment.

    ``acceptance`` (chains,) and ``divergences`` (chains,) are those of the segment; ``ess`` is the
    running effective sample size of the predictions, the median over them, by batch means, NaN
    while there are too few draws or none is predicted; ``seconds_left`` are those of this phase.
    """

    phase: Phase
    done: int
    total: int
    acceptance: np.ndarray
    divergences: np.ndarray
    ess: float = float("nan")
    seconds_left: float = float("nan")


class Clock:
    """Wall-clock seconds since the last lap."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def elapsed(self) -> float:
        return time.perf_counter() - self._last

    def lap(self) -> float:
        """Seconds since the last lap, and a new lap."""
        seconds = self.elapsed()
        self._last += seconds
        return seconds


@dataclass
class RunningESS:
    """Effective sample size by batch means, of arrays that come in segments.

    With draws in batches of equal length, ``ess = draws var(draws) / (length var(batch means))``;
    pairs of batches are joined whenever there are ``MOST_BATCHES``, so that batches grow with the
    run. Segments that are shorter than a batch are left out.
    """

    segment: int
    batches: list[np.ndarray] = field(default_factory=list)
    pending: list[np.ndarray] = field(default_factory=list)
    joined: int = 1

    def add(self, draws: np.ndarray) -> None:
        """A segment of draws (draws, chains, ...)."""
        if len(draws) < self.segment:
            return
        self.pending.append(np.stack([draws.mean(0), (draws**2).mean(0)]))
        if len(self.pending) == self.joined:
            self.batches.append(np.mean(self.pending, axis=0))
            self.pending = []
        if len(self.batches) == MOST_BATCHES:
            pairs = np.stack(self.batches).reshape(MOST_BATCHES // 2, 2, *self.batches[0].shape)
            self.batches = list(pairs.mean(axis=1))
            self.joined *= 2

    def median(self) -> float:
        """The median over components of all chains' ESS together; NaN with fewer than 4 batches."""
        if len(self.batches) < 4:
            return float("nan")
        mean, square = np.moveaxis(np.stack(self.batches), 1, 0)
        batches, length = len(mean), self.segment * self.joined
        variance = square.mean((0, 1)) - mean.mean((0, 1)) ** 2
        between = length * mean.var(axis=0, ddof=1).mean(axis=0)
        draws = batches * length * mean.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.median(draws * np.minimum(variance / between, 1.0)))
