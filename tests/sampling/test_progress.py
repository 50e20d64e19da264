"""The running effective sample size: near the truth for chains of known correlation, and small."""

from __future__ import annotations

import math
import time

import arviz
import numpy as np
import pytest

from bnnsample.sampling.progress import MOST_BATCHES, Clock, RunningESS

SEGMENT, CHAINS, COMPONENTS = 25, 4, 40


def autoregression(rng: np.random.Generator, r: float, draws: int) -> np.ndarray:
    """Chains (draws, chains, components) of N(0, 1) with correlation ``r`` a draw, stationary."""
    noise = rng.standard_normal((draws, CHAINS, COMPONENTS))
    chain = [noise[0]]
    for row in noise[1:]:
        chain.append(r * chain[-1] + math.sqrt(1 - r**2) * row)
    return np.stack(chain)


def fed(draws: np.ndarray) -> RunningESS:
    running = RunningESS(SEGMENT)
    for first in range(0, len(draws), SEGMENT):
        running.add(draws[first : first + SEGMENT])
    return running


@pytest.mark.parametrize(("r", "draws"), [(0.0, 1000), (0.5, 1000), (0.9, 2500), (0.9, 7500)])
def test_it_is_near_the_truth_and_arviz_for_autoregressions(rng, r, draws):
    """Within a factor 1.3: batches of 25 draws or more are not independent at r = 0.9."""
    chains = autoregression(rng, r, draws)
    truth = draws * CHAINS * (1 - r) / (1 + r)
    others = np.median([
        float(arviz.ess(chains[:, :, component].T, method="mean")) for component in range(10)
    ])  # fmt: skip
    found = fed(chains).median()
    assert truth / 1.3 < found < truth * 1.3
    assert others / 1.4 < found < others * 1.4


def test_independent_draws_are_not_counted_more_than_once(rng):
    draws = rng.standard_normal((400, CHAINS, COMPONENTS))
    alternating = draws * np.where(np.arange(400) % 2, 1.0, -1.0)[:, None, None]
    alternating[1::2] = -alternating[::2]  # negatively correlated: batch means vanish
    assert fed(alternating).median() <= 400 * CHAINS * (1 + 1e-12)


def test_a_larger_correlation_has_fewer_effective_draws(rng):
    found = [fed(autoregression(rng, r, 2000)).median() for r in (0.0, 0.6, 0.9, 0.97)]
    assert found == sorted(found, reverse=True)


def test_it_says_nothing_of_fewer_than_four_batches(rng):
    draws = autoregression(rng, 0.5, 4 * SEGMENT)
    assert math.isnan(fed(draws[: 3 * SEGMENT]).median())
    assert math.isnan(fed(draws[:-1]).median()), "a short segment is left out"
    assert math.isfinite(fed(draws).median())


def test_memory_does_not_grow_with_the_draws(rng):
    segment = rng.standard_normal((SEGMENT, 2, 3))
    running, most = RunningESS(SEGMENT), 0
    for _ in range(20 * MOST_BATCHES):
        running.add(segment)
        most = max(most, len(running.batches) + len(running.pending))
    assert most <= MOST_BATCHES + running.joined
    assert len(running.batches) < MOST_BATCHES
    assert running.joined == 32


def test_joined_batches_keep_mean_and_mean_square(rng):
    draws = autoregression(rng, 0.3, SEGMENT * MOST_BATCHES)
    running = fed(draws)
    assert running.joined == 2
    mean, square = np.stack(running.batches).mean(axis=0)
    np.testing.assert_allclose(mean, draws.mean(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(square, (draws**2).mean(0), rtol=1e-12)


def test_a_clock_measures_laps():
    clock = Clock()
    time.sleep(0.02)
    first = clock.lap()
    assert 0.02 <= first < 5
    assert clock.elapsed() < first + 5
    assert clock.lap() < first + 5
