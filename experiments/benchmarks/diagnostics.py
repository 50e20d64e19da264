"""What ESS and R-hat of many parameters cost: ArviZ on a few, scaled to all, and the library.

Rounds alternate between the two, so that a drift of the machine falls on both; seconds are medians
over rounds, and the ratio is the median of the ratio within a round. The parameters' chains are
autoregressive, with correlations from none to 0.95.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
from arviz_stats.base.array import array_stats

from bnnsample.diagnostics.vectorised import ess_bulk, ess_tail, rhat, summarise

CORRELATIONS = (0.0, 0.5, 0.9, 0.95)
Diagnostic = Callable[[np.ndarray], Any]
DIAGNOSTICS: dict[str, tuple[Diagnostic, Diagnostic]] = {
    "bulk ESS": (lambda draws: array_stats.ess(draws, method="bulk"), ess_bulk),
    "tail ESS": (lambda draws: array_stats.ess(draws, method="tail", prob=(0.05, 0.95)), ess_tail),
    "R-hat": (lambda draws: array_stats.rhat(draws, method="rank"), rhat),
}


def all_three(draws: np.ndarray) -> np.ndarray:
    """The library's three together, in the order of ``DIAGNOSTICS``."""
    summary = summarise(draws)
    return np.stack((summary.ess_bulk, summary.ess_tail, summary.rhat))


DIAGNOSTICS["together"] = (
    lambda draws: [theirs(draws) for theirs, _ in list(DIAGNOSTICS.values())[:3]],
    all_three,
)


def chains(n_parameters: int, n_draws: int) -> np.ndarray:
    """Four stationary chains of each parameter, (chains, draws, parameters), in float32."""
    rng = np.random.default_rng(0)
    correlation = np.resize(np.array(CORRELATIONS, "float32"), n_parameters)
    draws = rng.standard_normal((4, n_draws, n_parameters), dtype=np.float32)
    for t in range(1, n_draws):
        draws[:, t] *= np.sqrt(1 - correlation**2)
        draws[:, t] += correlation * draws[:, t - 1]
    return draws


def timed(call: Callable[[], Any]) -> tuple[float, float, np.ndarray]:
    """Seconds of a call, by how many MiB it raised the process's memory at most, and its value."""
    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    value = call()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    return seconds, (peak - before) / 2**20, np.asarray(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--parameters", type=int, default=100_000)
    parser.add_argument("--subset", type=int, default=2000, help="parameters given to ArviZ")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    n_parameters, subset, n_draws, rounds = (
        (60, 8, 50, 1)
        if options.smoke
        else (options.parameters, options.subset, 1000, options.rounds)
    )
    draws = chains(n_parameters, n_draws)
    few = np.ascontiguousarray(np.moveaxis(draws[:, :, :subset], 2, 0), dtype=float)
    print(
        f"{n_parameters} parameters, 4 chains of {n_draws} float32 draws, {os.cpu_count()} cores;"
    )
    print(f"ArviZ measured on {subset} parameters and scaled; {rounds} alternating rounds")
    print(f"{'':8}  {'ArviZ':>9}  {'ours':>9}  {'ratio':>6}  {'difference':>10}  {'memory':>10}")
    for name, (theirs, ours) in DIAGNOSTICS.items():
        times = np.empty((rounds, 2))
        difference = memory = 0.0
        for i in range(rounds):
            seconds, _, expected = timed(lambda f=theirs: f(few))
            times[i, 0] = seconds * n_parameters / subset
            times[i, 1], growth, value = timed(lambda f=ours: f(draws))
            difference = max(difference, float(np.max(np.abs(value[..., :subset] / expected - 1))))
            memory = max(memory, growth)
        print(
            f"{name:8}  {np.median(times[:, 0]):7.1f} s  {np.median(times[:, 1]):7.1f} s"
            f"  {np.median(times[:, 0] / times[:, 1]):6.1f}  {difference:10.1e}"
            f"  {memory:6.1f} MiB",
            flush=True,
        )
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
