"""Whether a run folder is what was written: whole, unchanged, and nothing but numbers.

A folder may come from anywhere. Nothing in it is executed; what its arrays are is written down
beside them, and every chunk of draws ends in its checksum, so that what was cut off, altered or
put in from elsewhere is an error that names the file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from xarray import DataTree

from bnnsample.files import CHECKSUM_BYTES, METADATA, PARTIAL, damaged, write_whole

MANIFEST = "draws.json"
"""What the store's arrays are, and the attributes of a finished run."""


def note(folder: Path, store: Path, names: Iterable[str]) -> None:
    """Write down what the arrays ``names`` of the ``store`` are, which have just been made."""
    manifest = _manifest(folder) if (folder / MANIFEST).exists() else {"arrays": {}}
    for name in names:
        manifest["arrays"][name] = _description(_read(store / name / METADATA))
    _write(folder, manifest)


def note_attributes(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Write down the attributes that the store is about to get."""
    _write(folder, _manifest(folder) | {"attributes": attributes})


def check(folder: Path, store: Path, *, draws: int = 0) -> None:
    """Raise ``ValueError`` unless the ``store`` in a run ``folder`` is what was written.

    All of its chunks must be there if the run is finished, and those of the first ``draws`` draws
    otherwise; of their contents none is read.
    """
    check_links(folder)
    manifest = _manifest(folder)
    attributes = _attributes(store)
    if attributes and attributes != manifest.get("attributes"):
        raise damaged(store / METADATA, f"other attributes than {MANIFEST} has")
    for group in {name.split("/")[0] for name in manifest["arrays"]}:
        if _attributes(store / group):
            raise damaged(store / group / METADATA, "a group with attributes")
    for name, description in manifest["arrays"].items():
        if attributes or not name.startswith("moments/"):  # these come last, and then again
            _check_array(store / name, description, attributes.get("draws"), draws)
    found = {str(path.parent.relative_to(store)) for path in store.glob(f"*/*/{METADATA}")}
    if attributes and (others := sorted(found - set(manifest["arrays"]))):
        raise damaged(store / others[0], f"another array than {MANIFEST} has")


def check_links(folder: Path) -> None:
    """Raise ``ValueError`` for a link in ``folder``: it may lead to files of others."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise damaged(path, "a symbolic link")


def digest(run: DataTree) -> str:
    """A hash of a run's arrays, their indices, and its attributes."""
    attributes = {name: np.asarray(value).tolist() for name, value in run.attrs.items()}
    found = hashlib.sha256(json.dumps(attributes, sort_keys=True).encode())
    for group in sorted(run.children):
        variables = run.children[group].dataset.variables
        for name in sorted(variables, key=str):
            values = variables[name].values
            numbers = values if values.dtype.kind in "biuf" else values.astype(str)
            found.update(f"{group}/{name} {variables[name].dims} {values.shape}".encode())
            found.update(np.ascontiguousarray(numbers).tobytes())
    return found.hexdigest()


def _check_array(path: Path, description: dict[str, Any], finished: int | None, draws: int) -> None:
    metadata = _read(path / METADATA)
    if _description(metadata) != description:
        raise damaged(path / METADATA, f"another kind of array than {MANIFEST} has")
    shape, chunks = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    by_draw = _is_by_draw(metadata)
    if by_draw and finished is not None and shape[1] != finished:
        raise damaged(path / METADATA, f"{shape[1]} draws of {finished}")
    size = math.prod(chunks) * np.dtype(metadata["data_type"]).itemsize + CHECKSUM_BYTES
    found = dict(_chunks(path))
    for file in found.values():
        if file.stat().st_size != size:
            raise damaged(file, f"{file.stat().st_size} bytes of {size}")
    grid = [math.ceil(length / chunk) for length, chunk in zip(shape, chunks, strict=True)]
    least = math.prod(grid)
    if by_draw and finished is None:
        least = min(least, math.ceil(draws / chunks[1]))
    # no longer than what is there: metadata may claim anything
    wanted = itertools.product(*map(range, grid))
    for index in itertools.islice(wanted, max(least, len(found))):
        if found.pop("/".join(["c", *map(str, index)]), None) is None:
            raise damaged(path.joinpath("c", *map(str, index)), "no such file")
    for file in found.values():
        raise damaged(file, "a chunk beyond the array's end")


def _chunks(array: Path) -> Iterator[tuple[str, Path]]:
    for path in array.rglob("*"):
        if path.is_file() and path.name != METADATA and not path.name.endswith(PARTIAL):
            yield path.relative_to(array).as_posix(), path


def _is_by_draw(metadata: dict[str, Any]) -> bool:
    return metadata["dimension_names"][1:2] == ["draw"]


def _description(metadata: dict[str, Any]) -> dict[str, Any]:
    """What of an array's metadata never changes: all but the number of draws."""
    try:
        shape = list(metadata["shape"])
        return metadata | {
            "shape": [*shape[:1], None, *shape[2:]] if _is_by_draw(metadata) else shape
        }
    except (KeyError, TypeError, IndexError):
        return {}


def _attributes(group: Path) -> dict[str, Any]:
    metadata = _read(group / METADATA)
    if set(metadata) != {"attributes", "zarr_format", "node_type"}:
        raise damaged(group / METADATA, "metadata that are not those of a group")
    return metadata["attributes"]


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = _read(folder / MANIFEST)
    if not isinstance(manifest.get("arrays"), dict):
        raise damaged(folder / MANIFEST, "no list of arrays")
    return manifest


def _write(folder: Path, manifest: dict[str, Any]) -> None:
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object in a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise damaged(path, "no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, f"what is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise damaged(path, f"a {type(found).__name__} in place of an object")
    return found
