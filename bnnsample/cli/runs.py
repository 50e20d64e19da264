"""Commands on runs that exist: go on with one, judge it, make its page, compare several."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from xarray import DataTree

import bnnsample as bnn
from bnnsample.checks import BadInput, bad_input
from bnnsample.cli.finished import finished_run
from bnnsample.cli.tables import finish
from bnnsample.provenance import version_of
from bnnsample.sampling.folder import read_record
from bnnsample.sampling.progress import Progress
from bnnsample.tabular.fits import is_fit, read_fit, run_at
from bnnsample.tabular.page import about
from bnnsample.terminal import Display, warnings_in_one_line

THRESHOLDS = {
    "rhat": "largest R-hat",
    "ess_per_chain": "least effective draws of a chain",
    "mcse": "largest Monte-Carlo error, in posterior standard deviations",
    "chains_apart": "of predictive means, in posterior standard deviations",
    "divergences": "share of the draws",
    "acceptance": "shortfall below what warm-up aimed at",
    "bfmi": "least energy diagnostic",
    "distance": "to the NNGP posterior, in its standard deviations; not judged if not given",
}


def add_to(commands: Any) -> None:
    """The commands and their options."""
    a_run = "a folder of fit or of bnn.sample(..., out=FOLDER), or a file of bnn.save_run"
    resume = commands.add_parser(
        "resume",
        help="go on with a run that was stopped, or make a finished one longer",
        description="Go on with the run in a folder that fit or bnn.sample(..., out=FOLDER) was "
        "writing, as if it had not been stopped, and judge it by bnn.diagnose. Of a fit the page "
        "is written too, and the exit status is 1 where the verdict is not ok, as of fit.",
    )
    resume.add_argument("folder", type=Path, metavar="DIR", help="the folder of the run")
    resume.add_argument("--draws", metavar="+N", help="make the run longer by N draws per chain")
    resume.set_defaults(run=_resume, left="resume it to go on")
    judge = commands.add_parser(
        "diagnose",
        help="judge a run; the exit status is 1 where it does not pass",
        description="Judge a run by bnn.diagnose: a line for each finding. The exit status is 0 "
        "where no check failed and 1 otherwise.",
    )
    judge.add_argument("path", type=Path, metavar="RUN", help=a_run)
    for name, meaning in THRESHOLDS.items():
        option = f"--{name.replace('_', '-')}"
        judge.add_argument(option, type=float, default=argparse.SUPPRESS, help=meaning)
    judge.add_argument("--json", action="store_true", help="print the findings as JSON")
    judge.set_defaults(run=_diagnose, left="nothing was written")
    page = commands.add_parser(
        "report",
        help="write the page of a run",
        description="Write a run's page, one HTML file that needs no other: the verdict, what was "
        "run, efficiency, convergence, predictions, how to make it again.",
    )
    page.add_argument("path", type=Path, metavar="RUN", help=a_run)
    targets = "targets at the test inputs, .npy or .csv, by which predictions are judged"
    page.add_argument("--y-test", type=Path, metavar="FILE", help=targets)
    page.add_argument(
        "--baselines",
        action="store_true",
        help="score simpler methods too: NNGP, ensembles, MAP, Laplace",
    )
    default = "the page; by default report.html in the run's folder"
    page.add_argument("--out", type=Path, metavar="FILE", help=default)
    page.set_defaults(run=_report, left="no page was written")
    compare = commands.add_parser(
        "compare",
        help="write a page that compares runs",
        description="Write one page on several runs: verdicts, efficiency, distance to the limit, "
        "and whether their predictions agree with those of the first.",
    )
    compare.add_argument("paths", type=Path, nargs="+", metavar="RUN", help=a_run)
    compare.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page")
    compare.set_defaults(run=_compare, left="no page was written")


def _diagnose(options: argparse.Namespace, console: Console) -> int:
    chosen = {name: value for name, value in vars(options).items() if name in THRESHOLDS}
    verdict = bnn.diagnose(finished_run(options.path), **chosen)
    text = json.dumps(verdict.as_dict(), indent=2) if options.json else str(verdict)
    console.print(text, markup=False)
    return 0 if verdict.ok else 1


def _report(options: argparse.Namespace, console: Console) -> int:
    path, out, y_test, sections = run_at(options.path), options.out, None, []
    run = finished_run(options.path)
    _as_it_was_made(run)
    if is_fit(options.path):
        if options.y_test is not None:
            raise bad_input(
                "--y-test",
                got=f"{options.y_test}, and {options.path}, which is a fit",
                expected="no such option for a fit, which has the targets of the rows held out",
                probably="targets of new rows: compare them with what predict says",
            )
        fit, out = read_fit(options.path), out or options.path
        y_test = fit.y_test
        found = None if y_test is None else bnn.quality(run, y_test)
        sections = [about(fit, found)]
    if options.y_test is not None:
        y_test = _numbers(options.y_test)
    with warnings_in_one_line():
        baselines = _baselines(run) if options.baselines else None
        page = bnn.report(path, out, y_test=y_test, baselines=baselines, about=sections)
    console.print(f"page: {page}", markup=False)
    return 0


def _compare(options: argparse.Namespace, console: Console) -> int:
    if len(set(options.paths)) < len(options.paths):
        raise bad_input(
            "RUN",
            got=" ".join(map(str, options.paths)),
            expected="runs that differ",
            probably="the same path was given twice",
        )
    with warnings_in_one_line():
        page = bnn.compare(_by_short_name(options.paths), options.out)
    console.print(f"page: {page}", markup=False)
    return 0


def _by_short_name(paths: list[Path]) -> dict[str, DataTree]:
    """The runs, named by their paths without what all of them begin with."""
    places = [path.absolute() for path in paths]
    shared = os.path.commonpath([place.parent for place in places])
    return {str(place.relative_to(shared)): finished_run(place) for place in places}


def _baselines(run: DataTree) -> bnn.Baselines:
    data = run["constant_data"].to_dataset()
    if "x_test" not in data:
        raise bad_input(
            "--baselines",
            got="a run without test inputs",
            expected="one that predicts: sample(..., x_test=...)",
            probably="another run",
        )
    return bnn.baselines(bnn.posterior_of(run), data["x_test"].values)


def _as_it_was_made(run: DataTree) -> None:
    """Compute in the precision of the run."""
    import jax

    jax.config.update("jax_enable_x64", run.attrs.get("dtype") == "float64")


def _numbers(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        return np.loadtxt(path, delimiter=",", ndmin=1)
    except (ValueError, EOFError) as error:
        raise bad_input(
            "--y-test",
            got=f"{path}, which cannot be read ({error})",
            expected="a .npy file, or a .csv file of numbers without a heading",
            probably="a heading or a text column, or another kind of file",
        ) from error


def _resume(options: argparse.Namespace, console: Console) -> int:
    extra = _extra_draws(options.draws)
    console.print(f"bnnsample {version_of()}: starting", markup=False)
    import jax

    folder = run_at(options.folder)
    record = read_record(folder)
    jax.config.update("jax_enable_x64", bool(record.get("x64")))
    phases: list[str] = []
    with warnings_in_one_line(), Display(console, ()) as display:

        def on_progress(progress: Progress) -> None:
            phases.append(progress.phase)
            display.progress(str(options.folder), progress)

        try:
            run = bnn.resume(folder, extra_draws=extra, on_progress=on_progress)
        except KeyboardInterrupt:
            if read_record(folder)["draws"] != record["draws"]:
                options.left = "resume it, without --draws, to go on"
            raise
    done = "finished" if "sampling" in phases else "had been finished"
    console.print(
        f"{options.folder}: {done}, {run.attrs['draws']} draws in each of {run.attrs['chains']} "
        f"chains, {run.attrs['target']} target, {run.attrs['sampler']}",
        markup=False,
    )
    if is_fit(options.folder):
        return finish(options.folder, run, console)
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
