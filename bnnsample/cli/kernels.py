"""``bnnsample kernel``: the infinite-width kernel of a table's rows, on disk."""

from __future__ import annotations

import argparse
import math
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

import bnnsample as bnn
from bnnsample.cli.help import WithDefaults
from bnnsample.files import METADATA, check_free
from bnnsample.tabular.learning import learn
from bnnsample.tabular.problem import inputs_of, row_number_advice
from bnnsample.tabular.reading import listed, read_table, told_of_marks
from bnnsample.terminal import HEARTBEAT_SECONDS

TIMED_ROWS = 256
"""Whose kernel is computed for an estimate of the time of all; arbitrary."""

type Kinds = tuple[Literal["nngp", "ntk"], ...]


def add_to(commands: Any) -> None:
    """The command and its options."""
    command = commands.add_parser(
        "kernel",
        help="compute the infinite-width kernel of a table's rows",
        description="Compute the covariance (NNGP) of an infinitely wide network between all rows "
        "of a table, encoded as by fit, and write it to a zarr group. A command that was stopped "
        "goes on when it is given again.",
        formatter_class=WithDefaults,
    )
    add, no_default = command.add_argument, argparse.SUPPRESS
    add("data", type=Path, metavar="DATA", default=no_default, help="CSV or Parquet, as of fit")
    add("--target", metavar="COLUMN", default=no_default, help="left out, as by --drop")
    add("--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="to be left out")
    add("--ntk", action="store_true", help="the tangent kernel too")
    add("--depth", type=int, default=1, help="hidden layers")
    add("--activation", default="gelu", help="such as relu, erf, gelu, tanh")
    for name, value, what in (
        ("w-std", 2**0.5, "weights"),
        ("b-std", 0.1, "biases"),
        ("w-std-out", 1.0, "weights of the readout"),
        ("b-std-out", 0.1, "biases of the readout"),
    ):
        add(f"--{name}", type=float, default=value, help=f"standard deviation of the {what}")
    add("--out", type=Path, required=True, default=no_default, metavar="DIR", help="the zarr group")
    add("--dry-run", action="store_true", help="estimate time and size, and write nothing")
    command.set_defaults(run=_run, left="the same command goes on")


def _run(options: argparse.Namespace, console: Console) -> int:
    if not (options.out / METADATA).is_file():
        check_free(options.out, (), "call")
    network = bnn.fcn(
        options.depth, 1, 1, options.activation, w_std=options.w_std, b_std=options.b_std,
        w_std_out=options.w_std_out, b_std_out=options.b_std_out,
    )  # fmt: skip
    left_out = (*([options.target] if "target" in options else []), *options.drop)
    table = read_table(options.data)
    inputs = inputs_of(table, left_out)
    encoding = learn(inputs)
    x = encoding.encoded(inputs)
    told = (*told_of_marks(table, inputs), *row_number_advice(inputs))
    for sentence in (*encoding.sentences(), *told):
        console.print(f"  {sentence}", markup=False)
    if left_out:
        console.print(f"  left out by option: {listed(left_out)}", markup=False)
    jax.config.update("jax_enable_x64", True)
    kinds: Kinds = ("nngp", "ntk") if options.ntk else ("nngp",)
    if options.dry_run:
        return _estimate(network, x, kinds, options.out, console)
    began = spoke = time.monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal spoke
        if time.monotonic() - spoke > HEARTBEAT_SECONDS:
            spoke = time.monotonic()
            console.print(f"  {done}/{total} blocks, {spoke - began:.0f} s", markup=False)

    group = bnn.store_kernels(options.out, network, x, kinds=kinds, on_progress=on_progress)
    shape = " x ".join(map(str, group["nngp"].shape))  # pyright: ignore[reportAttributeAccessIssue]
    console.print(
        f"{' and '.join(kinds)}: {shape}, {_size(len(x), kinds)} in float64, "
        f"{time.monotonic() - began:.1f} s\nopen: zarr.open_group({str(options.out)!r}, mode='r')"
        "['nngp'][:]",
        markup=False,
    )
    return 0


def _estimate(network: bnn.Network, x: Any, kinds: Kinds, out: Path, console: Console) -> int:
    """Time and size of all, from the kernel of a few rows; the exit status is 1 for a full disk."""
    rows = x[:TIMED_ROWS]
    kernel = jax.jit(bnn.nngp_and_ntk if "ntk" in kinds else bnn.nngp)
    jax.block_until_ready(kernel(network, rows))
    began = time.monotonic()
    jax.block_until_ready(kernel(network, rows))
    seconds = (time.monotonic() - began) * math.ceil(len(x) / len(rows)) ** 2
    free = shutil.disk_usage(next(p for p in (out, *out.absolute().parents) if p.exists())).free
    fits = _bytes(len(x), kinds) < free
    console.print(
        f"{'ok  ' if fits else 'FAIL'} size: {len(x)} x {len(x)} in float64, "
        f"{_size(len(x), kinds)} of {free / 2**30:.3g} GiB free\n"
        f"note time: about {seconds:.2g} seconds and compilation\nnothing was written",
        markup=False,
    )
    return 0 if fits else 1


def _bytes(rows: int, kinds: Kinds) -> int:
    return rows**2 * len(kinds) * np.dtype(np.float64).itemsize


def _size(rows: int, kinds: Kinds) -> str:
    size = _bytes(rows, kinds)
    return f"{size / 2**30:.3g} GiB" if size >= 2**29 else f"{size / 2**20:.3g} MiB"
