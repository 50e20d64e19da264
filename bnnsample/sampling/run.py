"""The run loop: compiled segments, with the host in between to report progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array
from threadpoolctl import threadpool_limits
from xarray import DataTree

from bnnsample.checks import bad_input, check_count
from bnnsample.models.posterior import as_test_inputs
from bnnsample.repriorisation.targets import AbstractTarget
from bnnsample.sampling.chains import ChainKeys, Chains, Transitions, advance, chain_keys, start
from bnnsample.sampling.draws import Timings, assemble, limit_at
from bnnsample.sampling.functionals import observe, random_projections, what_to_keep
from bnnsample.sampling.samplers import HMC, AbstractSampler

SEGMENT_DRAWS = 25
"""Draws between two reports of progress, fewer where positions are large."""

LAPACK_THREADS = 1
"""On CPU, LAPACK's own threads spin against XLA's: a gradient at n = 64, width 1024 took 1.8 times
as long with two of each, one at n = 2048 a tenth less, and 10 times under other load."""

SEGMENT_BYTES = 256 * 2**20
"""The positions of one segment take at most this much memory."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, handed to ``on_progress`` after every segment."""

    phase: Literal["compiling", "warm-up", "sampling"]
    done: int
    total: int
    acceptance: float
    divergences: int


def sample(
    target: AbstractTarget,
    sampler: AbstractSampler | None = None,
    *,
    chains: int = 4,
    warmup: int = 300,
    draws: int = 500,
    seed: int = 0,
    x_test: ArrayLike | None = None,
    keep: tuple[str, ...] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> DataTree:
    """Draws from a target's posterior, as an ArviZ ``DataTree``.

    Every chain adapts its own step size over ``warmup`` transitions and then makes ``draws``
    draws. One ``seed`` fixes everything; a chain's draws do not depend on how many chains there
    are. ``sampler`` defaults to ``HMC()``: four rotation-split steps.

    ``keep`` names what is stored: ``"projections"`` of the weights on random directions,
    ``"predictions"`` at ``x_test`` and ``"parameters"``; by default all of them for networks of up
    to 100 000 parameters, and all but the last for larger ones.

    Groups: ``posterior`` (chain, draw, ...), ``sample_stats``, ``predictions`` (``f`` the
    network's output, ``y`` with noise, and for the marginal target ``f_mean``, ``f_std`` given the
    hidden weights), ``constant_data`` (``x``, ``x_test``, and the NNGP posterior's ``nngp_mean``,
    ``nngp_std`` at ``x_test``), ``observed_data``. Attributes hold settings, seed, timings and
    versions.

    While it runs, BLAS libraries of the process use one thread (see ``LAPACK_THREADS``).

    Raises ``ValueError`` before anything is compiled if an argument is bad.
    """
    sampler = HMC() if sampler is None else sampler
    _check_arguments(target, sampler, chains=chains, warmup=warmup, draws=draws, seed=seed)
    posterior = target.posterior
    test = None if x_test is None else as_test_inputs(x_test, posterior.x)
    keep = what_to_keep(posterior.parameter_shapes, keep)
    limit = None if test is None else limit_at(posterior, test)
    projections = random_projections(posterior.parameter_shapes)
    report = on_progress or (lambda progress: None)
    keys = chain_keys(seed, target.name, chains)
    capacity = _segment_capacity(target, chains, max(warmup, draws))

    with threadpool_limits(LAPACK_THREADS, user_api="blas"):
        clock = _Clock()
        report(Progress("compiling", 0, 1, float("nan"), 0))
        state = start(target, sampler, keys.init)
        state, segment = _run_segment(target, sampler, state, keys, 0, 0, True, capacity)
        functional_keys = _functional_keys(keys, 0, capacity)
        jax.block_until_ready(
            observe(target, segment.positions, functional_keys, projections, test, keep=keep)
        )
        compile_seconds = clock.lap()

        for segment, done in _segments(warmup, capacity):
            state, transitions = _run_segment(
                target, sampler, state, keys, done, segment, True, capacity
            )
            report(_progress("warm-up", done + segment, warmup, transitions, segment))
        warmup_seconds = clock.lap()

        kept, stats = [], []
        for segment, done in _segments(draws, capacity):
            state, transitions = _run_segment(
                target, sampler, state, keys, warmup + done, segment, False, capacity
            )
            functional_keys = _functional_keys(keys, done, capacity)
            observed = observe(
                target, transitions.positions, functional_keys, projections, test, keep=keep
            )
            kept.append(_to_host(observed, segment))
            stats.append(_to_host(transitions.stats, segment))
            report(_progress("sampling", done + segment, draws, transitions, segment))
        timings = Timings(compile_seconds, warmup_seconds, clock.lap())

    return assemble(target, sampler, _join(kept), _join(stats), test, limit, timings, warmup, seed)


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last


def _run_segment(
    target: AbstractTarget,
    sampler: AbstractSampler,
    chains: Chains,
    keys: ChainKeys,
    first: int,
    count: int,
    adapting: bool,
    capacity: int,
) -> tuple[Chains, Transitions]:
    return jax.block_until_ready(
        advance(
            target,
            sampler,
            chains,
            keys.transitions,
            jnp.asarray(first),
            jnp.asarray(count),
            jnp.asarray(adapting),
            capacity=capacity,
        )
    )


def _segments(total: int, capacity: int) -> Iterator[tuple[int, int]]:
    """Lengths of the segments that make up ``total``, each with the number done before it."""
    for done in range(0, total, capacity):
        yield min(capacity, total - done), done


def _segment_capacity(target: AbstractTarget, chains: int, longest: int) -> int:
    draw_bytes = chains * max(1, target.dim) * target.posterior.x.dtype.itemsize
    return max(1, min(SEGMENT_DRAWS, longest, SEGMENT_BYTES // draw_bytes))


def _functional_keys(keys: ChainKeys, first: int, count: int) -> Array:
    indices = first + jnp.arange(count)
    fold_chain = jax.vmap(jax.random.fold_in, (0, None))
    return jax.vmap(fold_chain, (None, 0))(keys.functionals, indices)


def _to_host(arrays: dict[str, Array], count: int) -> dict[str, np.ndarray]:
    return {name: np.asarray(array[:count]) for name, array in arrays.items()}


def _join(segments: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Segments of (draws, chains, ...) as one array of (chains, draws, ...)."""
    return {
        name: np.swapaxes(np.concatenate([segment[name] for segment in segments]), 0, 1)
        for name in segments[0]
    }


def _progress(
    phase: Literal["warm-up", "sampling"],
    done: int,
    total: int,
    transitions: Transitions,
    count: int,
) -> Progress:
    stats = _to_host(transitions.stats, count)
    acceptance = float(np.mean(stats["acceptance_rate"]))
    return Progress(phase, done, total, acceptance, int(np.sum(stats["diverging"])))


def _check_arguments(
    target: object, sampler: object, *, chains: int, warmup: int, draws: int, seed: int
) -> None:
    if not isinstance(target, AbstractTarget):
        raise bad_input(
            "target",
            got=type(target).__name__,
            expected="a target: bnn.marginal(posterior), bnn.repriorised(...) or bnn.standard(...)",
            probably="the posterior itself was passed",
        )
    if not isinstance(sampler, AbstractSampler):
        raise bad_input(
            "sampler",
            got=repr(sampler),
            expected="settings such as bnn.HMC() or bnn.NUTS()",
            probably="the class was passed without parentheses",
        )
    check_count("chains", chains)
    check_count("warmup", warmup)
    check_count("draws", draws)
    check_count("seed", seed, minimum=0)
