"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import bnnsample as bnn
from bnnsample.checks import BadInput, bad_input
from bnnsample.sampling.folder import read_record
from bnnsample.sampling.steadiness import NoUsableStepSize

if TYPE_CHECKING:
    from bnnsample.reports.table import Column
    from bnnsample.sampling.run import Progress as RunProgress

HEARTBEAT_SECONDS = 8.0
"""Between two lines of progress where the output is no terminal."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        return options.run(options, console)
    except (BadInput, NoUsableStepSize, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"error: {error}", markup=False)
        return 2
    except KeyboardInterrupt:
        console.print(f"interrupted; {options.left}", markup=False)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bnnsample",
        description="Exact posterior samples of wide Bayesian neural networks.",
    )
    parser.add_argument("--version", action="version", version=metadata.version("bnnsample"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    widths = commands.add_parser(
        "widths",
        help="compare samplers' targets over network widths, with each other and the NNGP limit",
        description="Sample one-hidden-layer networks of several widths on real data under several "
        "targets; compare effective sample sizes and the distance to the infinite-width limit. "
        "Writes report.html, table.csv, record.json and the draws to the output folder.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_widths(widths.add_argument)
    widths.set_defaults(run=_run_widths, left="the runs that had finished are whole")
    resume = commands.add_parser(
        "resume",
        help="go on with a run that was stopped, or make a finished one longer",
        description="Go on with the run in a folder that bnn.sample(..., out=FOLDER) was writing, "
        "as if it had not been stopped, and judge it by bnn.diagnose.",
    )
    resume.add_argument("folder", type=Path, metavar="DIR", help="the folder of the run")
    resume.add_argument("--draws", metavar="+N", help="make the run longer by N draws per chain")
    resume.set_defaults(run=_run_resume, left="resume it, without --draws, to go on")
    return parser


def _add_widths(add: Callable[..., object]) -> None:
    add("--data", default="digits", help="digits or diabetes, bundled with scikit-learn")
    add("--widths", type=int, nargs="+", default=[64, 256, 1024], help="hidden units")
    add("--target", nargs="+", default=["standard", "repriorised", "marginal"],
        help="standard: the weights as they are; repriorised: weights and mapped readout; "
        "marginal: hidden weights alone, the readout drawn exactly")  # fmt: skip
    add("--train", type=int, default=64, help="training points")
    add("--test", type=int, default=20, help="test points to predict at")
    add("--noise-std", type=float, default=0.1, help="known standard deviation of the targets")
    add("--activation", default="gelu", help="relu, erf, gelu, tanh or identity")
    add("--chains", type=int, default=4, help="independent chains per run")
    add("--warmup", type=int, default=100, help="transitions that tune the step size")
    add("--draws", type=int, default=300, help="draws kept per chain")
    add("--seed", type=int, default=0, help="fixes data order, starts and draws")
    add("--out", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder to write; its settings must match")  # fmt: skip


def _run_widths(options: argparse.Namespace, console: Console) -> int:
    console.print(f"bnnsample {metadata.version('bnnsample')}: starting", markup=False)
    import jax

    jax.config.update("jax_enable_x64", True)
    from bnnsample.reports.settings import WidthsSettings
    from bnnsample.reports.table import COLUMNS, cells
    from bnnsample.reports.widths import compare_widths

    same = ("data", "train", "test", "noise_std", "activation", "chains", "warmup", "draws", "seed")
    settings = WidthsSettings(
        widths=tuple(options.widths),
        targets=tuple(options.target),
        **{name: getattr(options, name) for name in same},
    )
    with _Display(console, COLUMNS) as display:
        result = compare_widths(
            settings,
            options.out,
            on_progress=display.progress,
            on_summary=lambda summary: display.row(cells(summary)),
        )
    console.print()
    for statement in result.statements:
        mark = {True: "yes ", False: "no  ", None: "note"}[statement.good]
        console.print(f"{mark} {statement.question} {statement.text}", markup=False)
    console.print(f"\npage: {result.page}", markup=False)
    return 0


def _run_resume(options: argparse.Namespace, console: Console) -> int:
    extra = _extra_draws(options.draws)
    console.print(f"bnnsample {metadata.version('bnnsample')}: starting", markup=False)
    import jax

    jax.config.update("jax_enable_x64", bool(read_record(options.folder).get("x64")))
    phases: list[str] = []
    with _warnings_in_one_line(), _Display(console, ()) as display:

        def on_progress(progress: RunProgress) -> None:
            phases.append(progress.phase)
            display.progress(str(options.folder), progress)

        run = bnn.resume(options.folder, extra_draws=extra, on_progress=on_progress)
    done = "finished" if "sampling" in phases else "had been finished"
    console.print(
        f"{options.folder}: {done}, {run.attrs['draws']} draws in each of {run.attrs['chains']} "
        f"chains, {run.attrs['target']} target, {run.attrs['sampler']}",
        markup=False,
    )
    try:
        console.print(str(bnn.diagnose(run)), markup=False)
    except BadInput as error:
        console.print(f"not judged: {error}", markup=False)
    return 0


def _extra_draws(text: str | None) -> int:
    """N of ``+N``, 0 if nothing was asked for."""
    if text is None:
        return 0
    if not re.fullmatch(r"\+[0-9]+", text):
        raise bad_input(
            "--draws",
            got=repr(text),
            expected="+N, the number of draws to add to each chain, such as +500",
            probably="the total that is wanted; give what is missing",
        )
    return int(text)


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    console = Console(stderr=True, highlight=False, soft_wrap=True)

    def show(message: Warning | str, *_: object) -> None:
        console.print("warning: " + " ".join(str(message).split()), markup=False)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show  # pyright: ignore[reportAttributeAccessIssue]
        yield


class _Display:
    """The table as it grows, with a bar on a terminal and a line now and then elsewhere."""

    def __init__(self, console: Console, columns: Sequence[Column]) -> None:
        self._console = console
        self._columns = columns
        self._bar = Progress(
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
        self._last_line = time.monotonic()
        self._status = "preparing"
        self._over = threading.Event()
        self._has_heading = False

    def __enter__(self) -> _Display:
        self._bar.start()
        if not self._console.is_terminal:
            threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._bar.stop()

    def progress(self, label: str, progress: RunProgress) -> None:
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
                self._say(f"  {self._status}")

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


def _note(progress: RunProgress) -> str:
    """Acceptance of each chain, divergences and the running ESS where there are any, time left."""
    parts = ["acceptance " + " ".join(f"{rate:.2f}" for rate in progress.acceptance)]
    if progress.divergences.any():
        parts.append(f"{progress.divergences.sum()} divergences")
    if math.isfinite(progress.ess):
        parts.append(f"ESS {progress.ess:.0f}")
    if math.isfinite(progress.seconds_left):
        parts.append(f"{progress.seconds_left:.0f} s left")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
