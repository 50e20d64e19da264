"""``bnnsample widths``: one posterior at several widths, under several targets."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bnnsample.cli.help import WithDefaults
from bnnsample.provenance import version_of
from bnnsample.reports.settings import WidthsSettings
from bnnsample.terminal import Display, warnings_in_one_line


def add_to(commands: Any) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "widths",
        help="compare samplers' targets over network widths, with each other and the NNGP limit",
        description="Sample one-hidden-layer networks of several widths on real data under several "
        "targets; compare effective sample sizes and the distance to the infinite-width limit. "
        "Writes report.html, table.csv, record.json and the draws to the output folder.",
        formatter_class=WithDefaults,
    )
    _add_options(command.add_argument)
    command.set_defaults(run=_run, left="the runs that had finished are whole")


def _add_options(add: Callable[..., object]) -> None:
    default = WidthsSettings()
    add("--data", default=default.data, help="digits or diabetes, bundled with scikit-learn")
    add("--widths", type=int, nargs="+", default=list(default.widths), help="hidden units")
    add("--target", nargs="+", default=list(default.targets),
        help="standard: the weights as they are; repriorised: weights and mapped readout; "
        "marginal: hidden weights alone, the readout drawn exactly")  # fmt: skip
    add("--train", type=int, default=default.train, help="training points")
    add("--test", type=int, default=default.test, help="test points to predict at")
    add("--noise-std", type=float, default=default.noise_std,
        help="known standard deviation of the targets")  # fmt: skip
    add("--activation", default=default.activation, help="such as relu, erf, gelu, tanh")
    add("--chains", type=int, default=default.chains, help="independent chains per run")
    add("--warmup", type=int, default=default.warmup,
        help="transitions at most that tune step sizes and numbers of steps")  # fmt: skip
    add("--draws", type=int, default=default.draws,
        help="draws kept per chain, of the standard target a third as many")  # fmt: skip
    add("--seed", type=int, default=default.seed, help="fixes data order, starts and draws")
    add("--workers", type=int, default=0,
        help="processes that make runs side by side; 0: one after another, so that their "
        "seconds compare")  # fmt: skip
    add("--scheduler", help="of a Dask cluster that makes the runs, as tcp://HOST:PORT")
    add("--out", type=Path, required=True, metavar="DIR", default=argparse.SUPPRESS,
        help="folder to write; its settings must match")  # fmt: skip


def _run(options: argparse.Namespace, console: Console) -> int:
    console.print(f"bnnsample {version_of()}: starting", markup=False)
    import jax

    jax.config.update("jax_enable_x64", True)
    from bnnsample.reports.table import COLUMNS, cells
    from bnnsample.reports.widths import compare_widths

    same = ("data", "train", "test", "noise_std", "activation", "chains", "warmup", "draws", "seed")
    settings = WidthsSettings(
        widths=tuple(options.widths),
        targets=tuple(options.target),
        **{name: getattr(options, name) for name in same},
    )
    with warnings_in_one_line(), Display(console, COLUMNS) as display:
        result = compare_widths(
            settings,
            options.out,
            scheduler=options.scheduler,
            workers=options.workers,
            on_progress=display.progress,
            on_summary=lambda summary: display.row(cells(summary)),
        )
    console.print()
    for statement in result.statements:
        mark = {True: "yes ", False: "no  ", None: "note"}[statement.good]
        console.print(f"{mark} {statement.question} {statement.text}", markup=False)
    console.print(f"\npage: {result.page}", markup=False)
    return 0
