"""The command line: parses, calls the library, prints."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console

import bnnsample as bnn
from bnnsample.checks import BadInput, bad_input
from bnnsample.reports.settings import WidthsSettings
from bnnsample.sampling.folder import read_record
from bnnsample.sampling.progress import Progress
from bnnsample.sampling.steadiness import NoUsableStepSize
from bnnsample.terminal import Display, warnings_in_one_line


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
    resume.set_defaults(run=_run_resume, left="resume it to go on")
    return parser


def _add_widths(add: Callable[..., object]) -> None:
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
    add("--activation", default=default.activation, help="relu, erf, gelu, tanh or identity")
    add("--chains", type=int, default=default.chains, help="independent chains per run")
    add("--warmup", type=int, default=default.warmup, help="transitions that tune the step size")
    add("--draws", type=int, default=default.draws,
        help="draws kept per chain, of the standard target a third as many")  # fmt: skip
    add("--seed", type=int, default=default.seed, help="fixes data order, starts and draws")
    add("--out", type=Path, required=True, default=argparse.SUPPRESS,
        help="folder to write; its settings must match")  # fmt: skip


def _run_widths(options: argparse.Namespace, console: Console) -> int:
    console.print(f"bnnsample {metadata.version('bnnsample')}: starting", markup=False)
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
    with Display(console, COLUMNS) as display:
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

    record = read_record(options.folder)
    jax.config.update("jax_enable_x64", bool(record.get("x64")))
    phases: list[str] = []
    with warnings_in_one_line(), Display(console, ()) as display:

        def on_progress(progress: Progress) -> None:
            phases.append(progress.phase)
            display.progress(str(options.folder), progress)

        try:
            run = bnn.resume(options.folder, extra_draws=extra, on_progress=on_progress)
        except KeyboardInterrupt:
            if read_record(options.folder)["draws"] != record["draws"]:
                options.left = "resume it, without --draws, to go on"
            raise
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


if __name__ == "__main__":
    sys.exit(main())
