"""What commands share: a growing table, a bar, warnings in one line, quick compilation."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from bnnsample.reports.table import Column
    from bnnsample.sampling.progress import Progress

TRITON = "--xla_gpu_enable_triton_gemm"
"""XLA's flag for trying kernels of its own for products on a GPU. Of products in full float32
each takes long to compile: on an H100 a loop of gradients takes 10.4 s (standard target) and more
than 30 s (marginal) with it, 0.9 and 0.5 s without; it runs 1.25 and 1.06 times as long then
(n = 128, d = 3072, width 1024, 4 chains)."""

HEARTBEAT_SECONDS = 8.0
"""Between two lines of progress where the output is no terminal."""


class Display:
    """The table as it grows, with a bar on a terminal and a line now and then elsewhere."""

    def __init__(self, console: Console, columns: Sequence[Column]) -> None:
        self._console = console
        self._columns = columns
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} draws"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = None
        self._began = self._last_line = time.monotonic()
        self._status = "preparing"
        self._over = threading.Event()
        self._has_heading = False

    def __enter__(self) -> Display:
        self._bar.start()
        if not self._console.is_terminal:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._bar.stop()

    def progress(self, label: str, progress: Progress) -> None:
        note = "" if progress.phase == "compiling" else _note(progress)
        self._status = f"{label}: {progress.phase}"
        if self._task is None:
            self._task = self._bar.add_task(self._status, total=progress.total, note=note)
        done, total = progress.done, progress.total
        self._bar.update(
            self._task, description=self._status, completed=done, total=total, note=note
        )
        if progress.phase != "compiling":
            self._status += f" {progress.done}/{progress.total} {note}"

    def _beat(self) -> None:
        """Say where the job is when nothing was said for a while, compilation included."""
        while not self._over.wait(1.0):
            if time.monotonic() - self._last_line > HEARTBEAT_SECONDS:
                self._say(f"  {self._status} ({time.monotonic() - self._began:.0f} s)")

    def row(self, row: Sequence[str]) -> None:
        if not self._has_heading:
            self._aligned([column.heading for column in self._columns])
            self._has_heading = True
        self._aligned(row)

    def _aligned(self, row: Sequence[str]) -> None:
        pairs = zip(row, self._columns, strict=True)
        self._say("  ".join(cell.rjust(column.size) for cell, column in pairs))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)
        self._last_line = time.monotonic()


def _note(progress: Progress) -> str:
    """Acceptance of each chain, divergences and the running ESS where there are any, time left."""
    parts = ["acceptance " + " ".join(f"{rate:.2f}" for rate in progress.acceptance)]
    if progress.divergences.any():
        parts.append(f"{progress.divergences.sum()} divergences")
    if math.isfinite(progress.ess):
        parts.append(f"ESS {progress.ess:.0f}")
    if math.isfinite(progress.seconds_left):
        parts.append(f"{progress.seconds_left:.0f} s left")
    return ", ".join(parts)


def plain_console(*, stderr: bool = False) -> Console:
    """A console that changes nothing of what is printed: no breaks, colours, or ``:100:``."""
    return Console(stderr=stderr, highlight=False, emoji=False, soft_wrap=True)


@contextlib.contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Warnings of the block go to standard error, each as one line."""
    console = plain_console(stderr=True)

    def show(message: Warning | str, *_: object) -> None:
        console.print("warning: " + " ".join(str(message).split()), markup=False)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show  # pyright: ignore[reportAttributeAccessIssue]
        yield


def compile_quickly_on_gpus() -> None:
    """Have XLA leave out what takes it minutes on a GPU, for a process that has not used JAX yet.

    Flags that the user has set in ``XLA_FLAGS`` stay.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if TRITON not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {TRITON}=false".strip()
