"""``bnnsample fit`` and ``bnnsample predict``: a table in, a run, its page and predictions out."""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from xarray import DataTree

import bnnsample as bnn
from bnnsample.checks import bad_input, check_count
from bnnsample.cli.finished import finished_run
from bnnsample.cli.help import WithDefaults
from bnnsample.files import check_file
from bnnsample.provenance import version_of
from bnnsample.sampling.folder import read_record
from bnnsample.sampling.functionals import KEPT
from bnnsample.sampling.progress import Progress
from bnnsample.tabular.fits import (
    RUN,
    check_belongs,
    check_free_for,
    claimed_for,
    fit_of,
    has_begun,
    read_fit,
    run_at,
)
from bnnsample.tabular.page import about
from bnnsample.tabular.predictions import predictions, write_table
from bnnsample.tabular.problem import Problem, Settings, pose
from bnnsample.tabular.reading import check_pyarrow, digest, listed, read_table, told_of_marks
from bnnsample.terminal import Display, warnings_in_one_line

DRAWS = 300


def add_to(commands: Any) -> None:
    """The commands and their options."""
    _add_fit(commands)
    predict = commands.add_parser(
        "predict",
        help="predict the target of new rows by a fit",
        description="Predict the target at each row of a table. Of numbers: mean, standard "
        "deviation, 5 % and 95 % quantiles of new targets, noise included, in the target's units. "
        "Of labels: the likeliest, and the probability of each.",
    )
    predict.add_argument("folder", type=Path, metavar="DIR", help="what fit --out wrote")
    predict.add_argument("data", type=Path, metavar="DATA", help="CSV or Parquet, the same columns")
    predict.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="predictions, .csv or .parquet"
    )
    predict.set_defaults(run=_predict, left="no predictions were written")


def _add_fit(commands: Any) -> None:
    default = Settings(target="")
    fit = commands.add_parser(
        "fit",
        help="fit a Bayesian network to a table: a run, its scores and its page",
        description="Sample the posterior of a Bayesian network given a table, and predict rows "
        "that were held out. Numbers are standardised, their missing values filled with the median "
        "and marked; text of at most 20 different values gets a column of 0 and 1 for each. Writes "
        "table.json, report.html and the run to the output folder. A fit that was stopped goes on "
        "by the same command. The exit status is 1 where bnn.diagnose does not pass the run.",
        formatter_class=WithDefaults,
    )
    add, no_default = fit.add_argument, argparse.SUPPRESS
    add("data", type=Path, metavar="DATA", default=no_default,
        help="CSV (commas, UTF-8, names in the first line) or Parquet")  # fmt: skip
    add("--target", required=True, default=no_default, metavar="COLUMN", help="to be predicted")
    add("--classes", action="store_true", help="the target has labels, not numbers")
    add("--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="to be left out")
    add("--test", type=float, default=default.test, help="share of the rows that are held out")
    add("--depth", type=int, default=default.depth, help="hidden layers")
    add("--width", type=int, default=default.width, help="hidden units of each")
    add("--activation", default=default.activation, help="such as relu, erf, gelu, tanh")
    add("--chains", type=int, default=default.chains, help="independent chains")
    add("--warmup", type=int, default=default.warmup, help="transitions that tune, at most")
    add("--draws", type=int, default=DRAWS, help="draws of each chain; more make a fit longer")
    add("--seed", type=int, default=default.seed, help="fixes the split and the draws")
    add("--out", type=Path, required=True, default=no_default, metavar="DIR", help="the fit")
    add("--dry-run", action="store_true", help="check, estimate time and memory, write nothing")
    fit.set_defaults(run=_fit, left="nothing was written")


def _fit(options: argparse.Namespace, console: Console) -> int:
    check_count("draws", options.draws)
    settings = Settings(
        target=options.target,
        classes=options.classes,
        drop=tuple(options.drop),
        test=options.test,
        depth=options.depth,
        width=options.width,
        activation=options.activation,
        chains=options.chains,
        warmup=options.warmup,
        seed=options.seed,
    )
    table = read_table(options.data, text=[options.target] if options.classes else [])
    problem = pose(table, settings)
    fit = fit_of(problem, digest(options.data))
    check_free_for(options.out, fit)
    console.print(f"bnnsample {version_of()}: {options.data}", markup=False)
    for sentence in problem.sentences:
        console.print(f"  {sentence}", markup=False)
    import jax

    jax.config.update("jax_enable_x64", True)
    if has_begun(options.out) and not options.dry_run:
        with claimed_for(options.out, fit):
            return finish(options.out, _go_on(options, console), console)
    console.print("fitting scales to the evidence of the infinitely wide network")
    with warnings_in_one_line():
        posterior = problem.posterior()
    if options.dry_run:
        return _preflight(posterior, problem, options.draws, console)
    with claimed_for(options.out, fit):
        return finish(options.out, _begin(posterior, problem, options, console), console)


def _preflight(posterior: bnn.Posterior, problem: Problem, draws: int, console: Console) -> int:
    chosen, began = problem.settings, time.monotonic()
    verdict = bnn.preflight(
        posterior, chains=chosen.chains, warmup=chosen.warmup, draws=draws,
        x_test=problem.x_test, seed=chosen.seed,
    )  # fmt: skip
    console.print(
        f"{verdict}\nnote compilation: these checks took {time.monotonic() - began:.2g} seconds, "
        "mostly to compile; a fit compiles about as long, beside that time\nnothing was written",
        markup=False,
    )
    return 0 if verdict.ok else 1


def _begin(
    posterior: bnn.Posterior, problem: Problem, options: argparse.Namespace, console: Console
) -> DataTree:
    options.left = f"the same command, or bnnsample resume {options.out}, goes on"
    chosen = problem.settings
    with _shown(options.out, console) as on_progress:
        return bnn.sample(
            posterior, chains=chosen.chains, warmup=chosen.warmup, draws=options.draws,
            seed=chosen.seed, x_test=problem.x_test, keep=KEPT, on_progress=on_progress,
            out=options.out / RUN,
        )  # fmt: skip


def _go_on(options: argparse.Namespace, console: Console) -> DataTree:
    draws = read_record(options.out / RUN)["draws"]
    if options.draws < draws:
        raise bad_input(
            "draws",
            got=f"{options.draws}, and a fit in {options.out} of {draws}",
            expected=f"{draws} or more",
            probably="a fit that was made longer since; bnnsample resume goes on with it",
        )
    options.left = f"bnnsample resume {options.out} goes on"
    with _shown(options.out, console) as on_progress:
        extra = options.draws - draws
        return bnn.resume(options.out / RUN, extra_draws=extra, on_progress=on_progress)


@contextlib.contextmanager
def _shown(folder: Path, console: Console) -> Iterator[Callable[[Progress], None]]:
    """Where progress is to be reported to."""
    with warnings_in_one_line(), Display(console, ()) as display:
        yield partial(display.progress, str(folder))


def finish(folder: Path, run: DataTree, console: Console) -> int:
    """Scores, verdict, page and what to do next; the exit status is 1 where the verdict is bad."""
    fit = read_fit(folder)
    check_belongs(folder, fit, run)
    verdict = bnn.diagnose(run)
    console.print(str(verdict), markup=False)
    if doubts := bnn.posterior_predictive_check(run).failed:
        console.print("training targets, standardised, are not such as the model makes:")
        console.print("\n".join(map(str, doubts)), markup=False)
    found = None if fit.y_test is None else bnn.quality(run, fit.y_test)
    if found is not None:
        units = "" if fit.settings.classes else f", in the units of {fit.target.name}"
        console.print(f"at the {len(fit.held_out)} rows held out{units}:", markup=False)
        console.print(str(fit.target.in_units(found)), markup=False)
    with warnings_in_one_line():
        page = bnn.report(run_at(folder), folder, y_test=fit.y_test, about=[about(fit, found)])
    console.print(f"page: {page}", markup=False)
    times = [finding.more_draws for finding in verdict.failed]
    if times and all(map(math.isfinite, times)):  # nothing but draws is wanting
        more = math.ceil((max(times) - 1) * run.attrs["draws"])
        console.print(f"more draws: bnnsample resume {folder} --draws +{more}", markup=False)
    console.print(
        f"predict: bnnsample predict {folder} NEW.csv --out predictions.csv", markup=False
    )
    return 0 if verdict.ok else 1


def _predict(options: argparse.Namespace, console: Console) -> int:
    fit = read_fit(options.folder)
    if options.out.exists() and options.out.samefile(options.data):
        raise bad_input(
            "--out",
            got=f"{options.out}, the table itself",
            expected="another file",
            probably="the same path was given twice",
        )
    check_file("--out", options.out)
    check_pyarrow(options.out)
    run = finished_run(options.folder)
    table = read_table(options.data, text=fit.encoding.text_columns)
    known = [column.name for column in fit.encoding.columns]
    unused = [name for name in table if name not in known]
    import jax

    jax.config.update("jax_enable_x64", True)
    found = predictions(fit, run, table)
    write_table(found, options.out)
    for sentence in (*told_of_marks(table, known), *fit.encoding.told(table)):
        console.print(f"  {sentence}", markup=False)
    if unused:
        console.print(f"  columns not used: {listed(unused)}", markup=False)
    console.print(f"{len(found)} predictions: {options.out}", markup=False)
    return 0
