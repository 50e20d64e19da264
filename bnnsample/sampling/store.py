"""Runs on disk: one netCDF file each."""

from __future__ import annotations

import os
from pathlib import Path

import xarray
from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.files import replacing


def save_run(run: DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a run as one netCDF file, whole or not at all; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        run.to_netcdf(partial, engine="h5netcdf")
    return path


def load_run(path: str | os.PathLike[str]) -> DataTree:
    """A run written by ``save_run``.

    Raises ``FileNotFoundError``, or ``ValueError`` naming a file that is not a run.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no run at {path}")
    try:
        with xarray.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except (OSError, KeyError, ValueError) as error:
        raise bad_input(
            "run",
            got=f"{path}, which cannot be read ({error})",
            expected="a netCDF file written by bnnsample",
            probably="a truncated copy or another file",
        ) from error
