"""Kernel matrices too large for memory, written to disk in blocks and resumed after a stop."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import zarr
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array

from bnnsample.checks import BadInput, bad_input
from bnnsample.files import CHECKSUM, CheckedStore, damaged
from bnnsample.limits.kernels import as_input_pair, compute
from bnnsample.limits.plan import Plan, entries_per_pair, even_part, memory_budget
from bnnsample.limits.tiles import Kind
from bnnsample.models.network import Network

type OnProgress = Callable[[int, int], None]

ENTRIES_PER_BLOCK = 2**27
"""Entries of covariances, over all positions, between two writes: seconds on two cores."""

LARGEST_SIDE = 1024
"""Rows of the largest block: eight megabytes a chunk in float64."""

PROBES = 4
"""Examples, evenly spaced, whose kernels tell whether a store belongs to a network; arbitrary."""


def store_kernels(
    path: str | Path,
    network: Network,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kinds: tuple[Kind, ...] = ("nngp", "ntk"),
    memory: int | None = None,
    on_progress: OnProgress | None = None,
) -> zarr.Group:
    """Kernels of ``network`` as arrays (n1, n2) of a zarr group at ``path``, named by ``kinds``.

    Blocks are written as they are done. A call that was interrupted continues when made again with
    the same arguments, and one that is finished returns at once. ``memory`` bounds the bytes in
    use beside the inputs; ``on_progress`` is called with the blocks done and the blocks in all.
    Inputs and errors as ``nngp``.

    Raises ``ValueError`` also where ``path`` holds kernels of another network or other inputs, and,
    naming the file, where a block is missing, or is read and is not as it was written.
    """
    first, second = as_input_pair(network, x1, x2)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((network, first, second))):
        raise bad_input(
            "store_kernels",
            got="values that JAX is tracing",
            expected="concrete inputs and scales",
            probably="a call inside jit or grad, where nothing can be written to disk",
        )
    if isinstance(kinds, str) or not kinds or not {*kinds} <= {"nngp", "ntk"}:
        raise bad_input(
            "store_kernels kinds",
            got=repr(kinds),
            expected="('nngp',), ('ntk',) or both",
            probably="a typing error",
        )
    budget = memory_budget(memory)
    blocks = _blocks(network, first, second, len(kinds), budget)
    group = _open(path)
    identity = _identity(network, first, second, kinds)
    if "identity" in group.attrs:
        _check_same(path, group, identity)
        blocks = _with_chunks(blocks, _array(group, kinds[0]).chunks)
    else:
        _create(group, blocks, kinds, first.dtype, identity)
    finished = _array(group, "done")
    done = np.asarray(finished[:])
    _check_whole(Path(path), blocks, blocks.starts[done], kinds)
    for index in map(int, np.flatnonzero(~done)):
        _write_block(group, network, first, second, kinds, blocks, blocks.starts[index], budget)
        finished[index] = done[index] = True
        if on_progress is not None:
            on_progress(int(done.sum()), len(done))
    return zarr.open_group(CheckedStore(Path(path), read_only=True), mode="r")


def _blocks(network: Network, x1: Array, x2: Array | None, kinds: int, budget: int) -> Plan:
    """Blocks that are computed in memory and written as one chunk each."""
    entries, _ = entries_per_pair(network, x1.shape[1:])
    affordable = budget // (4 * kinds * x1.dtype.itemsize)
    side = max(1, math.isqrt(min(ENTRIES_PER_BLOCK // entries, LARGEST_SIDE**2, affordable)))
    shape = (len(x1), len(x1 if x2 is None else x2))
    rows, columns = (even_part(count, side) for count in shape)
    return Plan(shape, rows, columns, symmetric=x2 is None, bundle=1)


def _write_block(
    group: zarr.Group,
    network: Network,
    x1: Array,
    x2: Array | None,
    kinds: tuple[Kind, ...],
    blocks: Plan,
    start: np.ndarray,
    budget: int,
) -> None:
    """Compute one block of each kind, write it, and its mirror image if the matrix is symmetric."""
    row, column = map(int, start)
    # blocks at the end are computed whole, so that one program serves all, and cut in front
    whole_row, whole_column = (
        min(first, count - size)
        for first, count, size in zip(
            (row, column), blocks.shape, (blocks.rows, blocks.columns), strict=True
        )
    )
    rows = x1[whole_row : whole_row + blocks.rows]
    columns = (x1 if x2 is None else x2)[whole_column : whole_column + blocks.columns]
    on_diagonal = blocks.symmetric and row == column
    found = compute(network, rows, None if on_diagonal else columns, kinds, memory=budget)
    for kind, kernel in zip(kinds, found, strict=True):
        block = np.asarray(kernel)[row - whole_row :, column - whole_column :]
        at = slice(row, row + len(block)), slice(column, column + block.shape[1])
        array = _array(group, kind)
        array[at] = block
        if blocks.symmetric and not on_diagonal:
            array[at[::-1]] = block.T


def _open(path: str | Path) -> zarr.Group:
    """The group at ``path``, new or written by ``store_kernels`` before."""
    group = zarr.open_group(CheckedStore(Path(path)), mode="a")
    if "writer" not in group.attrs:
        if names := sorted(group.keys()):
            raise _bad_folder(path, f"a zarr group of others, with {', '.join(names)}")
        group.attrs["writer"] = "bnnsample.store_kernels"
    return group


def _create(
    group: zarr.Group,
    blocks: Plan,
    kinds: tuple[Kind, ...],
    dtype: np.dtype,
    identity: dict[str, Any],
) -> None:
    chunks = (blocks.rows, blocks.columns)
    for kind in kinds:
        group.create_array(
            kind, shape=blocks.shape, dtype=dtype, chunks=chunks, fill_value=np.nan,
            compressors=CHECKSUM, overwrite=True,
        )  # fmt: skip
    count = len(blocks.starts)
    group.create_array(
        "done", shape=(count,), dtype=bool, chunks=(1,), compressors=CHECKSUM, overwrite=True
    )
    # last, so that a group that has it has its arrays
    group.attrs["identity"] = identity


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    assert isinstance(found, zarr.Array)
    return found


def _identity(
    network: Network, x1: Array, x2: Array | None, kinds: tuple[Kind, ...]
) -> dict[str, Any]:
    """What must agree for two calls to be about the same kernels."""
    inputs = hashlib.sha256()
    for x in (x1, x2):
        inputs.update(b"none" if x is None else np.ascontiguousarray(x).tobytes())
        inputs.update(str(None if x is None else (x.shape, x.dtype)).encode())
    # not variances alone: depth does not change those of a relu network that keeps them
    few1, few2 = (x[:: max(1, len(x) // PROBES)][:PROBES] for x in (x1, x1 if x2 is None else x2))
    covariances = compute(network, few1, few2, kinds)
    return {
        "kinds": list(kinds),
        "inputs": inputs.hexdigest(),
        "covariances": [np.asarray(values, float).tolist() for values in covariances],
    }


def _check_same(path: str | Path, group: zarr.Group, identity: dict[str, Any]) -> None:
    stored: dict[str, Any] = group.attrs["identity"]  # pyright: ignore[reportAssignmentType]
    rounding = 1e4 * np.finfo(_array(group, stored["kinds"][0]).dtype).eps
    differing = [name for name in ("kinds", "inputs") if stored[name] != identity[name]]
    if not differing:
        before, now = (np.asarray(of["covariances"]) for of in (stored, identity))
        if np.max(np.abs(before - now)) > rounding * np.max(np.abs(before)):
            differing = ["network"]
    if differing:
        raise _bad_folder(path, f"kernels of another call: its {' and '.join(differing)} differ")


def _check_whole(path: Path, blocks: Plan, starts: np.ndarray, kinds: tuple[Kind, ...]) -> None:
    for kind in kinds:
        for row, column in starts // (blocks.rows, blocks.columns):
            chunk = path / kind / "c" / str(row) / str(column)
            if not chunk.is_file():
                raise damaged(chunk, "no such file")


def _bad_folder(path: str | Path, got: str) -> BadInput:
    return bad_input(
        f"store_kernels path {str(path)!r}",
        got=got,
        expected="an empty or new folder, or the one of an interrupted equal call",
        probably="a folder used before; give another",
    )


def _with_chunks(blocks: Plan, chunks: tuple[int, ...]) -> Plan:
    """The blocks of a store that was begun with another memory budget."""
    rows, columns = chunks
    return dataclasses.replace(blocks, rows=rows, columns=columns)
