"""The tiles of a kernel matrix: computed on all local devices, and put in their places."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bnnsample.limits.plan import Plan
from bnnsample.models.network import Network

type Kind = Literal["nngp", "ntk"]
type Stacks = tuple[Float[Array, "tiles rows columns"], ...]


def computed_tiles(
    network: Network, x1: Array, x2: Array | None, plan: Plan, kinds: tuple[Kind, ...]
) -> Iterator[tuple[Int[np.ndarray, "tiles 2"], Stacks]]:
    """Bundles of tiles and where they begin, in order; devices work at once, each on its own."""
    devices = jax.local_devices()
    copies = [jax.device_put((network, x1, x2), device) for device in devices]
    tile = (plan.rows, plan.columns)
    bundles = plan.bundles

    def launch(index: int) -> Stacks:
        return stacked_tiles(*copies[index % len(devices)], bundles[index], tile, kinds)

    running = [launch(index) for index in range(min(len(devices), len(bundles)))]
    for index, starts in enumerate(bundles):
        stacks = jax.device_put(running.pop(0), devices[0])
        yield starts, stacks
        if index + len(devices) < len(bundles):
            running.append(launch(index + len(devices)))


@partial(jax.jit, static_argnames=("kinds", "batch"))
def diagonals(
    network: Network, x: Array, kinds: tuple[Kind, ...], batch: int
) -> tuple[Float[Array, " n"], ...]:
    """The kernels of each example with itself, ``batch`` examples at once."""
    return jax.lax.map(lambda example: _pair(network, example, example, kinds), x, batch_size=batch)


@partial(jax.jit, static_argnames=("tile", "kinds"))
def stacked_tiles(
    network: Network,
    x1: Array,
    x2: Array | None,
    starts: Int[Array | np.ndarray, "tiles 2"],
    tile: tuple[int, int],
    kinds: tuple[Kind, ...],
) -> Stacks:
    """Tiles one after the other; ``x2`` None for a symmetric matrix.

    A tile that would reach beyond the matrix is moved back and overlaps its neighbours. Tiles are
    recomputed on the way back, so a gradient holds one of them at a time too.
    """

    def one(start: Int[Array, 2]) -> tuple[Array, ...]:
        rows = jax.lax.dynamic_slice_in_dim(x1, start[0], tile[0])
        columns = jax.lax.dynamic_slice_in_dim(x1 if x2 is None else x2, start[1], tile[1])
        blocks = jax.vmap(lambda a: jax.vmap(lambda b: _pair(network, a, b, kinds))(columns))(rows)
        if x2 is not None:
            return blocks
        on_diagonal = start[0] == start[1]
        return tuple(jnp.where(on_diagonal, 0.5 * (b + b.T), b) for b in blocks)

    return jax.lax.map(jax.checkpoint(one), starts)


def with_tiles(
    results: tuple[Float[Array, "n1 n2"], ...],
    stacks: Stacks,
    starts: Int[Array | np.ndarray, "tiles 2"],
    symmetric: bool,
) -> tuple[Float[Array, "n1 n2"], ...]:
    """``results`` with tiles, and their mirror images if ``symmetric``, in their places."""

    def put(result: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
        start, block = item
        result = jax.lax.dynamic_update_slice(result, block, (start[0], start[1]))
        if symmetric:
            result = jax.lax.dynamic_update_slice(result, block.T, (start[1], start[0]))
        return result, None

    return tuple(
        jax.lax.scan(put, result, (jnp.asarray(starts), stack))[0]
        for result, stack in zip(results, stacks, strict=True)
    )


with_tiles_in_place = jax.jit(with_tiles, static_argnames="symmetric", donate_argnames="results")
"""The same, which leaves no ``results`` behind."""


def _pair(
    network: Network, x1: Float[Array, ...], x2: Float[Array, ...], kinds: tuple[Kind, ...]
) -> tuple[Float[Array, ""], ...]:
    kernel = network.kernel(x1, x2, wants_ntk="ntk" in kinds)
    return tuple(getattr(kernel, kind) for kind in kinds)
