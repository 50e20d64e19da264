"""The runs that commands judge, show and predict by: finished, and of the fit that they are in."""

from __future__ import annotations

from pathlib import Path

from xarray import DataTree

import bnnsample as bnn
from bnnsample.checks import bad_input
from bnnsample.tabular.fits import check_belongs, has_begun, is_fit, read_fit, run_at


def finished_run(path: Path) -> DataTree:
    """The run in a file, in a folder, or in the folder of a fit.

    Raises ``ValueError`` for one that is not finished, and for one of another fit.
    """
    if is_fit(path) and not has_begun(path):
        raise bad_input(
            str(path),
            got="a fit without draws, not finished",
            expected="one that is",
            probably="a fit that was stopped early: the same `bnnsample fit` command goes on",
        )
    run = bnn.load_run(run_at(path))
    if path.is_dir() and "network" not in run.attrs:
        raise bad_input(
            str(path),
            got="a run that is not finished",
            expected="one that is",
            probably=f"it was stopped, or still goes on: `bnnsample resume {path}` goes on",
        )
    if is_fit(path):
        check_belongs(path, read_fit(path), run)
    return run
