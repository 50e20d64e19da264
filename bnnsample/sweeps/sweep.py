"""A sweep: one function measured at many points, which can be stopped and taken up again."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import jax

from bnnsample.checks import bad_input, check_count, warn
from bnnsample.files import check_no_file
from bnnsample.sweeps.points import (
    FAILURE,
    Measure,
    Outcome,
    Row,
    checked,
    finished,
    folder_name,
    measured,
)


class PointsFailed(RuntimeError):
    """Points of a sweep that could not be measured; the rows of all others are stored."""


def sweep(
    measure: Measure,
    points: Iterable[Row],
    out: str | os.PathLike[str],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    on_row: Callable[[Row], object] | None = None,
) -> list[Row]:
    """The rows of all ``points``, in their order, measured side by side by ``dask.distributed``.

    ``measure(point, folder)`` gets a point's settings (JSON) and its folder in ``out``, and returns
    what it measured (JSON). Workers import it: it is a function at the top level of a module or of
    a script whose work is under ``if __name__ == "__main__":``, or a ``functools.partial`` of one;
    in a notebook any function. Where it passes ``out=folder / "run"`` to ``bnn.sample``, a point
    whose worker dies is taken up by another from its last checkpoint.

    By default there is a worker for each core of this machine, or for each GPU, with one point at
    a time; ``workers`` is their number, and 0 measures one point after another in this process.
    ``scheduler``, the address of a Dask scheduler, takes the workers of a cluster instead, which
    must see the same files. Workers take over this process's precision, and on this machine share
    its cores evenly. They need GPUs of which this process has not taken the memory: one that has
    used JAX sets ``XLA_PYTHON_CLIENT_PREALLOCATE=false`` beforehand.

    A row is the settings, what was measured, and ``attempts``, ``seconds`` (of the last attempt),
    ``device`` and ``cores``. It is stored in its folder as soon as it is there: after a stop, the
    same call goes on, and measures nothing twice. ``on_row`` is called with each row as it comes,
    with those that were there at once; of each point that fails a warning tells as it does.

    Raises ``ValueError`` before anything starts if an argument is bad, and ``PointsFailed`` after
    all other points are measured, if some raised an error or killed their workers again and again.
    """
    if workers is not None:
        check_count("workers", workers, minimum=0)
    if workers is not None and scheduler is not None:
        raise bad_input(
            "workers",
            got=f"{workers}, beside scheduler {scheduler!r}",
            expected="one of the two",
            probably="a cluster has the workers that it was started with",
        )
    out = Path(out).absolute()
    check_no_file("out", out, "the name of a file for the rows, which sweep() returns")
    order = [(out / folder_name(checked(point)), point) for point in points]
    folders = dict(order)
    known = {folder: row for folder in folders if (row := finished(folder)) is not None}
    todo = {folder: point for folder, point in folders.items() if folder not in known}
    rows: dict[Path, Row] = {}
    failures: dict[Path, str] = {}
    with contextlib.closing(_outcomes(measure, todo, scheduler, workers)) as outcomes:
        for folder, outcome in itertools.chain(known.items(), outcomes):
            if isinstance(outcome, str):
                failures[folder] = outcome
                warn(f"{json.dumps(folders[folder])} failed, other points go on: {outcome}")
                continue
            rows[folder] = outcome
            if on_row is not None:
                on_row(outcome)
    if failures:
        raise PointsFailed(_told(failures, folders))
    return [rows[folder] for folder, _ in order]


def _outcomes(
    measure: Measure, points: dict[Path, Row], scheduler: str | None, workers: int | None
) -> Generator[tuple[Path, Outcome]]:
    """What came of each point, as they finish."""
    x64 = bool(jax.config.jax_enable_x64)
    if workers == 0:
        for folder, point in points.items():
            yield folder, measured(measure, point, folder, x64=x64)
    elif points:
        from bnnsample.sweeps.cluster import outcomes  # half a second, and only sweeps need it

        yield from outcomes(measure, points, scheduler, workers, x64=x64)


def _told(failures: dict[Path, str], points: dict[Path, Row]) -> str:
    """Which points failed, why, and what to do."""
    lines = [
        f"  {json.dumps(points[folder])}: {reason} ({folder / FAILURE})"
        if (folder / FAILURE).exists()
        else f"  {json.dumps(points[folder])}: {reason}"
        for folder, reason in failures.items()
    ]
    head = f"{len(failures)} of {len(points)} points failed; the others are stored, and the same "
    return "\n".join([f"{head}call tries these again:", *lines])
