"""Sampling: a target and a sampler make a run, which can be stopped, resumed and extended."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from jax.sharding import Mesh
from jax.typing import ArrayLike
from threadpoolctl import threadpool_limits
from xarray import DataTree

from bnnsample.checks import check_count
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import AbstractTarget
from bnnsample.sampling.checkpoints import Checkpoints
from bnnsample.sampling.choice import choose
from bnnsample.sampling.draws import attributes, constant_data, warn_of_stuck_chains
from bnnsample.sampling.engine import Engine
from bnnsample.sampling.folder import (
    SETTINGS,
    claimed,
    find_begun,
    guarded,
    read_record,
    write_record,
)
from bnnsample.sampling.functionals import what_to_keep
from bnnsample.sampling.loop import Loop
from bnnsample.sampling.mesh import (
    check_mesh,
    first_process_first,
    wait_for_all,
    writes_to,
)
from bnnsample.sampling.progress import Progress
from bnnsample.sampling.samplers.base import AbstractSampler
from bnnsample.sampling.settings import (
    Settings,
    check_arguments,
    segment_length,
    settings_from,
)
from bnnsample.sampling.store import DrawStore, load_run

LAPACK_THREADS = 1
"""On CPU, LAPACK's own threads spin against XLA's: a gradient at n = 64, width 1024 took 1.8 times
as long with two of each, one at n = 2048 a tenth less, and 10 times under other load."""


@full_precision
def sample(
    target: AbstractTarget | Posterior,
    sampler: AbstractSampler | None = None,
    *,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 500,
    seed: int = 0,
    x_test: ArrayLike | None = None,
    keep: tuple[str, ...] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
    out: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
) -> DataTree:
    """Draws from a posterior, as an ArviZ ``DataTree``.

    Of a posterior without a target, or without a sampler, those are taken that were the fastest in
    measurements (``experiments/README.md``); the attributes of the run name them. Every chain tunes
    itself in at most ``warmup`` transitions, fewer where it has converged, and then makes ``draws``
    draws. One ``seed`` fixes everything. A chain's random numbers do not depend on how many chains
    there are, nor do its draws but for rounding: one chain alone may round otherwise than several.

    ``keep`` names what is stored of a draw: ``"predictions"`` at ``x_test``, ``"projections"`` of
    the sampled weights on random directions, ``"layer_norms"`` (root mean squares of the arrays of
    weights, 1 under the prior), ``"moments"`` (streaming mean and standard deviation of every
    parameter and prediction, by chain) and ``"parameters"``; by default all of them for networks of
    up to 100 000 parameters, and all but the last for larger ones.

    With ``out``, a folder, draws go to disk as they are made, so that memory does not grow with
    their number, and the state is saved every minute, less often where that would take more than a
    twentieth of the time, and with ``checkpoint_every`` after every so many segments besides: a run
    that was killed goes on with ``resume`` or by the same call, bit for bit as if it had not been;
    the same call with more ``draws`` makes it longer. ``mesh``, from ``device_mesh``, spreads
    chains and data over devices.

    Groups: ``posterior`` (chain, draw, ...), ``sample_stats``, ``predictions`` (``f`` the network's
    output, ``y`` with noise, and for the marginal target ``f_mean``, ``f_std`` given the hidden
    weights), ``moments``, ``constant_data`` (``x``, ``x_test``, and the NNGP posterior's
    ``nngp_mean``, ``nngp_std`` at ``x_test``, or ``laplace_mean``, ``laplace_std`` where the
    likelihood is not Gaussian), ``observed_data``. Hyperparameters are in ``posterior`` by name.

    While it runs, BLAS libraries of the process use one thread (see ``LAPACK_THREADS``).

    Raises ``ValueError`` before anything is compiled if an argument is bad, ``NoUsableStepSize``
    if warm-up finds none, ``CannotWrite`` if the folder cannot be written to.
    """
    check_arguments(
        target,
        sampler,
        chains=chains,
        warmup=warmup,
        draws=draws,
        seed=seed,
        on_progress=on_progress,
        out=out,
    )
    if checkpoint_every is not None:
        check_count("checkpoint_every", checkpoint_every)
    chains, warmup, draws, seed = map(int, (chains, warmup, draws, seed))
    target, sampler = choose(target, sampler)
    posterior = target.posterior
    keep = what_to_keep(posterior.parameter_shapes, keep, predicts=x_test is not None)
    settings = Settings(
        target=target,
        sampler=sampler,
        chains=chains,
        warmup=warmup,
        draws=draws,
        seed=seed,
        keep=keep,
        x_test=None if x_test is None else as_test_inputs(x_test, posterior.x),
        segment=segment_length(target, keep, chains, max(warmup, draws)),
    )
    folder = None if out is None else Path(out)
    check_mesh(mesh, chains, len(posterior.x), folder)
    with claimed(folder), threadpool_limits(LAPACK_THREADS, user_api="blas"):
        with first_process_first("create folder"):
            settings, store = _begin(settings, folder)
        return _run(settings, store, folder, on_progress, mesh, checkpoint_every)


@full_precision
def resume(
    folder: str | os.PathLike[str],
    *,
    extra_draws: int = 0,
    on_progress: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
    checkpoint_every: int | None = None,
) -> DataTree:
    """Go on with the run in a folder that ``sample(..., out=folder)`` was writing.

    The draws are bit for bit those of a run that was never interrupted. ``extra_draws`` makes a
    run longer by as many, finished or not. Raises ``FileNotFoundError`` where there is no run.
    """
    check_count("extra_draws", extra_draws, minimum=0)
    if checkpoint_every is not None:
        check_count("checkpoint_every", checkpoint_every)
    folder = Path(folder)
    read_record(folder)  # a folder without a run is not made into one
    with claimed(folder), threadpool_limits(LAPACK_THREADS, user_api="blas"):
        settings = settings_from(read_record(folder), load_run(folder), folder / SETTINGS)
        settings = replace(settings, draws=settings.draws + int(extra_draws))
        check_mesh(mesh, settings.chains, len(settings.target.posterior.x), folder)
        with first_process_first("open store"):
            store = DrawStore(folder, columns=settings.columns)
        return _run(settings, store, folder, on_progress, mesh, checkpoint_every)


def _begin(settings: Settings, folder: Path | None) -> tuple[Settings, DrawStore]:
    """Settings and store of a run that begins, or of the same run begun earlier.

    A folder gets its settings last: without them it holds no run, and one may begin in it again.
    """
    begun = None if folder is None else find_begun(folder, settings.record)
    if begun is not None:
        # a run made longer keeps the chunks that its store has
        return replace(settings, segment=begun["segment"]), DrawStore(
            folder, columns=settings.columns
        )
    data = constant_data(settings)
    with guarded(folder):
        store = DrawStore(folder, columns=settings.columns, empty=True)
        for group, arrays in data.items():
            store.put(group, arrays)
    if folder is not None:
        write_record(folder, settings.record)
    return settings, store


def _run(
    settings: Settings,
    store: DrawStore,
    folder: Path | None,
    on_progress: Callable[[Progress], None] | None,
    mesh: Mesh | None,
    checkpoint_every: int | None,
) -> DataTree:
    report = on_progress or (lambda progress: None)
    with guarded(folder):
        checkpoints = None if folder is None else Checkpoints(folder, settings.fixed)
    engine = Engine.place(settings, mesh)
    try:
        cursor = Loop(engine, store, folder, checkpoints, checkpoint_every, report).run()
    finally:
        if checkpoints is not None:
            checkpoints.close()
    with guarded(folder):
        if writes_to(folder):
            store.put_attributes(attributes(settings, cursor))
    wait_for_all("run written")
    run = store.tree()
    warn_of_stuck_chains(run)
    return run
