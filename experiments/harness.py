"""What the experiments share: scales to run at, points measured side by side, rows, figures.

An experiment has settings at three scales: "smoke" for the tests, "two cores" for what this
repository keeps, "paper" for a GPU. Each setting is an option of the command too. A row is known by
what it is about, so that a run which was stopped goes on, and one made longer adds to it. Points
are measured by ``bnn.sweep``, on this machine or where ``--scheduler`` says.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator
from xarray import DataTree

import bnnsample as bnn
from bnnsample.files import write_whole
from bnnsample.reports.figures import RC, as_svg
from bnnsample.sweeps.points import Measure, Row
from bnnsample.terminal import compile_quickly_on_gpus

type Settings = dict[str, Any]

RATES = ("ess_per_draw", "ess_per_gradient", "ess_per_second")


def begin(
    about: str, name: str, scales: Mapping[str, Settings], *, data: str = ""
) -> tuple[argparse.Namespace, Settings]:
    """The command's options, and its settings: a scale's, but for those that were given.

    With ``data`` there is ``--data-dir``, a folder that has it. Ends the process where the scale
    needs a GPU that is not there.
    """
    parser = argparse.ArgumentParser(description=about)
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    scale.add_argument("--paper-scale", action="store_true", help="a size for a GPU")
    parser.add_argument("--out", type=Path, default=Path("results") / name)
    add_where(parser)
    if data:
        parser.add_argument(
            "--data-dir", type=Path, default=data_folder(), help=f"with {data} (%(default)s)"
        )
    for key, value in scales["two cores"].items():
        parser.add_argument(f"--{key.replace('_', '-')}", **_option(value))
    options = parser.parse_args()
    if data:
        options.data_dir = options.data_dir.absolute()
    # on a GPU the workers need the memory that this process would take beforehand
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    compile_quickly_on_gpus()
    if options.paper_scale and options.scheduler is None and jax.default_backend() == "cpu":
        parser.exit(2, "error: --paper-scale: got a CPU; expected a GPU, on which it takes hours; "
                    "probably the run without that option was meant\n")  # fmt: skip
    chosen = "smoke" if options.smoke else "paper" if options.paper_scale else "two cores"
    given = {key: getattr(options, key) for key in scales[chosen]}
    return options, scales[chosen] | {k: v for k, v in given.items() if v is not None}


def data_folder() -> Path:
    """Where data are that no package brings."""
    return Path(os.environ.get("BNNSAMPLE_DATA", "../shared/data"))


def add_where(parser: argparse.ArgumentParser) -> None:
    """The options that say where points are measured."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", help="of a Dask cluster, as tcp://HOST:PORT")
    where.add_argument(
        "--workers", type=int, help="processes (one for each core or GPU); 0: this one alone"
    )


def _option(default: Any) -> dict[str, Any]:
    """How argparse reads a setting like ``default``; of names, those of the default are all."""
    if not isinstance(default, tuple):
        return {"type": type(default), "help": f"({default})"}
    names = default if isinstance(default[0], str) else None
    shown = f"({' '.join(map(str, default))})"
    return {
        "type": type(default[0]),
        "nargs": "*" if names else "+",
        "choices": names,
        "help": shown,
    }


@dataclass
class Record:
    """The rows of an output folder, in its ``record.json``."""

    folder: Path
    rows: list[Row] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = json.loads(self.path.read_text())["rows"] if self.path.exists() else []

    @property
    def path(self) -> Path:
        """The file of the record."""
        return self.folder / "record.json"

    def known(self, about: Row) -> Row | None:
        """The row ``about`` this, if there is one."""
        return next((row for row in self.rows if about.items() <= row.items()), None)

    def add(self, about: Row, row: Row) -> None:
        """Store a row ``about`` this."""
        self.rows.append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, json.dumps({"rows": self.rows}, indent=1) + "\n")
        print(json.dumps(about), f"{row['seconds']:.0f} s", flush=True)

    def swept(
        self, measure: Measure, points: Iterable[Row], options: argparse.Namespace
    ) -> list[Row]:
        """The rows of all ``points``, in their order, each measured unless it was before.

        ``measure(point, folder)`` keeps its runs in the folder it is given, under ``points``. Ends
        the process where some points fail, when all others are measured.
        """
        points = list(points)
        new = [point for point in points if self.known(point) is None]

        def add(row: Row) -> None:
            self.add(next(point for point in new if point.items() <= row.items()), row)

        try:
            bnn.sweep(
                measure, new, self.folder / "points",
                scheduler=options.scheduler, workers=options.workers, on_row=add,
            )  # fmt: skip
        except (bnn.BadInput, bnn.PointsFailed) as error:
            raise SystemExit(f"error: {error}") from None
        return [row for point in points if (row := self.known(point)) is not None]

    def draw(self, name: str, figure: Figure) -> None:
        """Store a figure beside the record."""
        write_whole(self.folder / f"{name}.svg", as_svg(figure))


def cifar10(options: argparse.Namespace, train: int, test: int) -> bnn.Dataset:
    """The first images of CIFAR-10, or a clear end where there are none."""
    try:
        return bnn.load_cifar10(options.data_dir, train=train, test=test)
    except bnn.BadInput as error:
        raise SystemExit(f"error: {error}") from None


def efficiency(run: DataTree) -> Row:
    """What a run achieved: acceptance, steps, costs, and for each quantity R-hat, ESS and rates."""
    stats = {str(name): array.values for name, array in run["sample_stats"].to_dataset().items()}
    gradients = float(stats["n_gradients"].sum())
    row: Row = {
        "acceptance": float(stats["acceptance_rate"].mean()),
        "divergent": float(stats["diverging"].mean()),
        "step_size": float(stats["step_size"].mean()),
        "steps": float(stats["n_steps"].mean()),
        "gradients": gradients,
        "sampling_seconds": run.attrs["sampling_seconds"],
        "warmup_transitions": int(run.attrs["warmup"]),
        "warmup_seconds": run.attrs["warmup_seconds"],
        "milliseconds_per_gradient": 1e3 * run.attrs["sampling_seconds"] / gradients,
        "dtype": run.attrs["dtype"],
    }
    for quantity, found in bnn.convergence(run).items():
        shown = {key: asdict(found)[key] for key in ("rhat_max", "ess_bulk", *RATES)}
        row[quantity] = shown
    return row


def table[T](rows: Iterable[T], columns: Mapping[str, Callable[[T], object]]) -> str:
    """Rows as Markdown; a column is a title and what it shows of a row."""
    cells = [columns, *([three_digits(show(row)) for show in columns.values()] for row in rows)]
    heading, *lines = (f"| {' | '.join(line)} |" for line in cells)
    return "\n".join([heading, "|" + "---|" * len(columns), *lines])


def three_digits(value: object) -> str:
    """A broken number to three digits, without an exponent if it is large; all else as it is."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.3g}"
    return f"{float(short):.0f}" if "e+" in short else short


def panels(rows: int, columns: int, *, height: float = 3.4, **shared: Any) -> tuple[Figure, Any]:
    """A figure and its panels (rows, columns), in the style of the reports."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def logarithmic(axis: Axes, ticks: Sequence[float] | None = None, *, which: str = "x") -> None:
    """A logarithmic axis with plain numbers, at ``ticks`` where they are given."""
    getattr(axis, f"set_{which}scale")("log")
    own = getattr(axis, f"{which}axis")
    low, high = getattr(axis, f"get_{which}lim")()
    dense = LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,))
    own.set_major_locator(dense if ticks is None else FixedLocator(list(ticks)))
    own.set_major_formatter("{x:.4g}")
    own.set_minor_locator(NullLocator())
    own.set_minor_formatter(NullFormatter())
