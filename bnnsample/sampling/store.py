"""Draws as they come, in a zarr store in memory or on disk, and finished runs as files.

The store is laid out as the ``DataTree`` that it becomes: a zarr group for each of its groups, with
the names of dimensions, so that xarray opens what there is at any time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr
from xarray import DataTree
from zarr.storage import MemoryStore

from bnnsample.checks import BadInput, bad_input
from bnnsample.files import CHECKSUM, CheckedStore, replacing
from bnnsample.sampling.integrity import (
    MANIFEST,
    check,
    digest,
    note,
    note_attributes,
)

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "f": ("test_point", "output"),
    "f_mean": ("test_point", "output"),
    "f_std": ("test_point", "output"),
    "hidden_projection": ("projection",),
    "readout_projection": ("projection",),
    "layer_norm": ("parameter",),
    "readout": ("feature", "output"),
}
"""Names of the dimensions of what is kept of a draw, after ``chain`` and ``draw``."""

CONSTANT_DIMENSIONS: dict[str, tuple[str, ...]] = {
    "x": ("point",),
    "x_test": ("test_point",),
    "nngp_mean": ("test_point", "output"),
    "nngp_std": ("test_point", "output"),
    "laplace_mean": ("test_point", "output"),
    "laplace_std": ("test_point", "output"),
}

GROUPS = (
    "posterior", "predictions", "sample_stats", "moments", "observed_data", "constant_data",
)  # fmt: skip
MOMENTS = ("mean", "std")
"""Along the dimension ``moment`` of what is in the group ``moments``."""

DRAWS = "draws.zarr"
"""The store's name in a run folder."""

DIGEST = "digest"
"""The attribute of a file that tells whether it is as it was saved."""

WRITES_ALL: Any = {"write_empty_chunks": True}
"""A chunk of zeros is written too, so that one that is missing was lost."""


class DrawStore:
    """Arrays (chain, draw, ...) in groups, written segment by segment."""

    def __init__(
        self, folder: Path | None = None, *, columns: str = "output", empty: bool = False
    ) -> None:
        """In memory without a folder; ``empty`` removes what a folder's store has.

        ``columns`` names the dimension of the columns of ``y``.
        """
        self._dimensions = DIMENSIONS | {"y": ("test_point", columns)}
        self._constant_dimensions = CONSTANT_DIMENSIONS | {"y": ("point", columns)}
        self._folder = folder
        self._store = MemoryStore() if folder is None else CheckedStore(folder / DRAWS)
        if folder is not None and empty:
            (folder / MANIFEST).unlink(missing_ok=True)
        self._root = zarr.open_group(self._store, mode="w" if empty else "a", zarr_format=3)

    def create(
        self, shapes: Mapping[str, Mapping[str, Any]], chains: int, draws: int, segment: int
    ) -> None:
        """Room for ``draws`` draws of each array: by group and name its shape without chain, draw.

        A segment of draws is a chunk, so that writing one leaves all others alone.
        """
        for group, arrays in shapes.items():
            for name, leaf in arrays.items():
                self._root.require_group(group).create_array(
                    name,
                    shape=(chains, draws, *leaf.shape),
                    chunks=(chains, segment, *(max(size, 1) for size in leaf.shape)),
                    dtype=leaf.dtype,
                    fill_value=np.nan if np.issubdtype(leaf.dtype, np.floating) else 0,
                    dimension_names=(
                        "chain",
                        "draw",
                        *_dimensions(self._dimensions, name, leaf.ndim),
                    ),
                    compressors=CHECKSUM,
                    overwrite=True,
                )
            self._note(group, arrays)

    def check(self, draws: int) -> None:
        """Raise ``ValueError`` unless ``draws`` draws and the data are on disk as written."""
        if self._folder is not None:
            check(self._folder, self._folder / DRAWS, draws=draws)

    def write(self, first: int, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Draws from number ``first`` on, given (draw, chain, ...) by group and name."""
        for group, named in arrays.items():
            for name, values in named.items():
                draws = slice(first, first + len(values))
                array: Any = self._root[f"{group}/{name}"]
                array = array.with_config(WRITES_ALL)
                array[:, draws] = np.swapaxes(values, 0, 1)

    def lengthen(self, draws: int) -> None:
        """Room for ``draws`` draws in all, of a run that is not finished any more."""
        self._root.attrs.clear()
        for _, member in self._root.members(max_depth=None):
            if isinstance(member, zarr.Array) and member.metadata.dimension_names[1:2] == ("draw",):  # pyright: ignore
                member.resize((member.shape[0], draws, *member.shape[2:]))

    def put(self, group: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Whole arrays that do not depend on the draw."""
        for name, values in arrays.items():
            dimensions = _dimensions(self._constant_dimensions, name, values.ndim)
            if group == "moments":
                dimensions = ("moment", "chain", *_dimensions(DIMENSIONS, name, values.ndim - 2))
            self._root.require_group(group).create_array(
                name,
                data=values,
                dimension_names=dimensions,
                compressors=CHECKSUM,
                config=WRITES_ALL,
                overwrite=True,
            )
        self._note(group, arrays)

    def put_attributes(self, attributes: Mapping[str, Any]) -> None:
        """The attributes of the run, which is finished then."""
        if self._folder is not None:
            note_attributes(self._folder, attributes)
        self._root.attrs.put(dict(attributes))

    def _note(self, group: str, arrays: Iterable[str]) -> None:
        if self._folder is not None:
            note(self._folder, self._folder / DRAWS, [f"{group}/{name}" for name in arrays])

    def tree(self) -> DataTree:
        """The run: in memory, or read from disk where it is used."""
        tree = xarray.open_datatree(
            self._store,  # pyright: ignore[reportArgumentType]
            engine="zarr",
            consolidated=False,
            chunks=None,
        )
        groups = {name: _in_order(tree[name].dataset) for name in GROUPS if name in tree.children}
        ordered = DataTree.from_dict(groups, name=None)
        ordered.attrs = tree.attrs
        return ordered.load() if isinstance(self._store, MemoryStore) else ordered


def _dimensions(known: Mapping[str, tuple[str, ...]], name: str, ndim: int) -> tuple[str, ...]:
    first = known.get(name, ())[:ndim]
    return (*first, *(f"{name}_dim_{axis}" for axis in range(len(first), ndim)))


def _in_order(dataset: xarray.Dataset) -> xarray.Dataset:
    """Variables by name, with an index along every dimension, as ArviZ makes them."""
    ordered = dataset.to_dataset() if hasattr(dataset, "to_dataset") else dataset
    ordered = ordered[sorted(map(str, ordered.data_vars))]
    known = {"moment": list(MOMENTS)}
    return ordered.assign_coords(
        {name: known.get(str(name), np.arange(size)) for name, size in ordered.sizes.items()}
    )


def save_run(run: DataTree, path: str | os.PathLike[str]) -> Path:
    """Write a run as one netCDF file, whole or not at all; missing folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    signed = run.copy()
    signed.attrs = run.attrs | {DIGEST: digest(run)}
    with replacing(path) as partial:
        signed.to_netcdf(partial, engine="h5netcdf")
    return path


def load_run(path: str | os.PathLike[str]) -> DataTree:
    """A run that ``save_run`` wrote to a file, or ``sample`` to a folder.

    Of a folder, arrays are read where they are used; an unfinished run has NaN where draws are
    still to be made. Nothing in either is executed. Raises ``FileNotFoundError``, or ``ValueError``
    naming the file that is not as it was written: at once where one is missing or cut off, and
    where an array is read if some of its bytes were altered.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no run at {path}")
    try:
        return _open_folder(path) if path.is_dir() else _open_file(path)
    except BadInput:
        raise
    except Exception as error:  # what a damaged file raises is not documented
        raise bad_input(
            "run",
            got=f"{path}, which cannot be read ({error})",
            expected="a netCDF file or a run folder written by bnnsample",
            probably="a truncated copy, another file, or another kind of folder",
        ) from error


def _open_folder(folder: Path) -> DataTree:
    if not (folder / DRAWS).is_dir():
        raise ValueError(f"it has no {DRAWS}")
    check(folder, folder / DRAWS)
    return DrawStore(folder).tree()


def _open_file(path: Path) -> DataTree:
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        run = tree.load()
    # numbers as they were, not as NumPy's
    run.attrs = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in run.attrs.items()
    }
    # a file that others wrote has none
    if DIGEST in run.attrs and run.attrs.pop(DIGEST) != digest(run):
        raise ValueError("its contents are not those that were saved")
    return run
