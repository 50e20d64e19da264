"""The points of a sweep as tasks of ``dask.distributed``, on this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from dask import config
from distributed import Client, Future, KilledWorker, LocalCluster, WorkerPlugin, as_completed

from bnnsample.checks import bad_input
from bnnsample.sweeps.points import Measure, Outcome, Row, attempts, measured
from bnnsample.sweeps.shipped import Shipped, ship

TRIES = 4
"""How often a point may be begun, in one sweep, by workers that died with it."""

SUBMISSIONS = 5 * TRIES
"""How often a point may be submitted that was not begun that often: its workers died as they
started, or with others that were before it. A choice."""

ANSWER = 5
"""Seconds that a scheduler has to answer."""

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # we are told of each death, and count ourselves
    "distributed.scheduler.worker-ttl": None,  # a worker that compiles for minutes is not lost
    "distributed.worker.profile.enabled": False,
}
DEVICES = "CUDA_VISIBLE_DEVICES"


def outcomes(
    measure: Measure,
    points: dict[Path, Row],
    scheduler: str | None,
    workers: int | None,
    *,
    x64: bool,
) -> Iterator[tuple[Path, Outcome]]:
    """What came of each point, as they finish; when closed, nothing of them runs on."""
    shipped = ship(measure)
    begun = {folder: attempts(folder) for folder in points}
    futures: dict[Future, Path] = {}
    submitted = Counter[Path]()
    with _of_this_machine(workers) if scheduler is None else _at(scheduler) as client:

        def submit(folder: Path) -> Future:
            future = client.submit(_task, shipped, points[folder], folder, x64, pure=False)
            futures[future] = folder
            submitted[folder] += 1
            return future

        flow = as_completed([submit(folder) for folder in points], loop=client.loop)
        for future in flow:
            folder = futures[future]
            outcome = _outcome(future)
            if isinstance(outcome, KilledWorker):
                tries = attempts(folder) - begun[folder]
                if tries < TRIES and submitted[folder] < SUBMISSIONS:
                    flow.add(submit(folder))
                    continue
                outcome = f"its worker died, {submitted[folder]} times"
            yield folder, outcome


def _task(shipped: Shipped, point: Row, folder: Path, x64: bool) -> Outcome:
    return measured(lambda *given: shipped.unpack()(*given), point, folder, x64=x64)


def _outcome(future: Future) -> Outcome | KilledWorker:
    """Of a task that has ended; what is wrong with a worker or a scheduler is an outcome too."""
    try:
        return future.result()
    except KilledWorker as death:
        return death
    except Exception as error:  # a worker without this package, a scheduler that is gone
        return f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _at(scheduler: str) -> Iterator[Client]:
    """A client of a cluster that exists; its tasks are stopped where the sweep ends early."""
    try:
        client = Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise bad_input(
            "scheduler",
            got=f"{scheduler!r}, where none answered in {ANSWER} s ({error})",
            expected="the address of a Dask scheduler, as tcp://HOST:PORT",
            probably="a typing error, or a scheduler that has ended",
        ) from error
    with client:
        try:
            yield client
        except BaseException:
            with contextlib.suppress(OSError):  # a scheduler that is gone has nothing to stop
                _stop(client)
            raise


def _stop(client: Client) -> None:
    """Forget the client's tasks, and restart workers that are at one, which nothing else ends."""
    own, processing = set(client.futures), cast("dict[str, Any]", client.processing())
    busy = [worker for worker, keys in processing.items() if own & set(keys)]
    client.cancel([Future(key, client) for key in own])
    if busy:
        client.restart_workers(busy)


@contextlib.contextmanager
def _of_this_machine(workers: int | None) -> Iterator[Client]:
    """A client of workers on this machine that are there as long as it is."""
    gpus = _gpus()
    count = workers or len(gpus) or len(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="bnnsample-") as scratch,
        _same_environment(),
        config.set(SETTINGS),
        _started(count, scratch) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(_Share(count, gpus))
        yield client


def _started(workers: int, scratch: str) -> LocalCluster:
    """Workers of one thread each, that Dask neither limits nor reports on."""
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        raise bad_input(
            "sweep",
            got=f"workers that ended as they started ({error})",
            expected='a script whose work is under `if __name__ == "__main__":`',
            probably="workers import the script, and this one began the sweep again in each",
        ) from error


@contextlib.contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what Dask sets for its workers, which inherit it, when they are started."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class _Share(WorkerPlugin):
    """Gives each worker of this machine its own cores, and its GPU, before JAX starts there."""

    workers: int
    gpus: tuple[str, ...]

    def setup(self, worker: Any) -> None:
        number = int(worker.name)
        cores = sorted(os.sched_getaffinity(0))
        own = cores[number :: self.workers] or [cores[number % len(cores)]]
        os.sched_setaffinity(0, own)  # XLA starts as many threads as it is given cores
        if self.gpus:
            os.environ[DEVICES] = self.gpus[number % len(self.gpus)]
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's, which ends us


def _gpus() -> tuple[str, ...]:
    """GPUs of this machine that JAX would use; none without its plugin for them.

    Another process looks: this one would take most of their memory.
    """
    if find_spec("jax_plugins") is None:
        return ()
    look = "import jax; print(jax.default_backend(), len(jax.local_devices()))"
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    if found.returncode != 0:
        raise bad_input(
            "GPUs",
            got=f"a JAX that does not start: {found.stderr.strip().rpartition('\n')[-1]}",
            expected="one that finds them, or none of its plugins for GPUs",
            probably="a driver that does not fit the plugin; JAX_PLATFORMS=cpu leaves them alone",
        )
    backend, count = found.stdout.split()
    if backend != "gpu":
        return ()
    named = os.environ.get(DEVICES)
    return tuple(named.split(",") if named else map(str, range(int(count))))
