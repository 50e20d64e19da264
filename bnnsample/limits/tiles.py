"""Computing the tiles of a kernel matrix: on all local devices, or inside a traced function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bnnsample.limits.plan import Plan
from bnnsample.models.network import Network

type Kind = Literal["nngp", "ntk"]

EXAMPLES_PER_BATCH = 128
"""Examples whose variances are computed at once; arbitrary."""


class Tile(NamedTuple):
    """One block of each kernel, and where it goes."""

    start: tuple[int, int]
    blocks: tuple[np.ndarray, ...]
    symmetric: bool

    def write(self, results: Sequence[Any]) -> None:
        """Put the blocks into arrays in memory or on disk, and their mirror images too."""
        for result, block in zip(results, self.blocks, strict=True):
            rows, columns = (
                slice(start, min(start + size, total))
                for start, size, total in zip(self.start, block.shape, result.shape, strict=True)
            )
            kept = block[: rows.stop - rows.start, : columns.stop - columns.start]
            result[rows, columns] = kept
            if self.symmetric and self.start[0] != self.start[1]:
                result[columns, rows] = kept.T


def computed_tiles(
    network: Network,
    x1: Array,
    x2: Array | None,
    plan: Plan,
    kinds: tuple[Kind, ...],
    starts: Int[np.ndarray, "tiles 2"],
) -> Iterator[Tile]:
    """The tiles that begin at ``starts``, in their order; each device works one bundle ahead."""
    devices = jax.local_devices()
    inputs = (network, *whole_tiles(x1, x2, plan))
    copies = [jax.device_put(inputs, device) for device in devices]
    bundles = [starts[i : i + plan.bundle] for i in range(0, len(starts), plan.bundle)]

    def launch(index: int) -> tuple[Array, ...]:
        # a bundle that is not full repeats its last tile, so that one program serves all
        own = bundles[index]
        full = np.concatenate([own, np.repeat(own[-1:], plan.bundle - len(own), axis=0)])
        return _bundle(*copies[index % len(devices)], full, (plan.rows, plan.columns), kinds)

    running = [launch(index) for index in range(min(len(devices), len(bundles)))]
    for index, bundle in enumerate(bundles):
        blocks = [np.asarray(block) for block in running.pop(0)]
        if index + len(devices) < len(bundles):
            running.append(launch(index + len(devices)))
        for i, (row, column) in enumerate(bundle):
            own = tuple(block[i] for block in blocks)
            yield Tile((int(row), int(column)), own, plan.symmetric)


def traced_matrices(
    network: Network, x1: Array, x2: Array | None, plan: Plan, kinds: tuple[Kind, ...]
) -> tuple[Float[Array, "n1 n2"], ...]:
    """The whole matrices as one traced computation, to be compiled or differentiated by JAX.

    Tiles are recomputed on the way back, so a gradient holds one of them at a time too.
    """
    tile = (plan.rows, plan.columns)
    first, second = whole_tiles(x1, x2, plan)
    stacks = _bundle(network, first, second, plan.starts, tile, kinds)
    shape = (len(first), len(first if second is None else second))

    def assembled(stack: Float[Array, "tiles rows columns"]) -> Float[Array, "n1 n2"]:
        def put(result: Array, item: tuple[Array, Array]) -> tuple[Array, None]:
            start, block = item
            result = jax.lax.dynamic_update_slice(result, block, (start[0], start[1]))
            if plan.symmetric:
                result = jax.lax.dynamic_update_slice(result, block.T, (start[1], start[0]))
            return result, None

        start = jnp.zeros(shape, stack.dtype)
        result, _ = jax.lax.scan(put, start, (jnp.asarray(plan.starts), stack))
        return result[: plan.shape[0], : plan.shape[1]]

    return tuple(assembled(stack) for stack in stacks)


def diagonals(
    network: Network, x: Array, kinds: tuple[Kind, ...]
) -> tuple[Float[Array, " n"], ...]:
    """The kernels of each example with itself."""
    return jax.lax.map(
        lambda example: _pair(network, example, example, kinds),
        x,
        batch_size=min(len(x), EXAMPLES_PER_BATCH),
    )


def whole_tiles(x1: Array, x2: Array | None, plan: Plan) -> tuple[Array, Array | None]:
    """Inputs, the last one repeated to make whole tiles; the surplus is cut off the result."""

    def whole(x: Array, tile: int) -> Array:
        surplus = -len(x) % tile
        return jnp.concatenate([x, jnp.repeat(x[-1:], surplus, axis=0)]) if surplus else x

    return whole(x1, plan.rows), None if x2 is None else whole(x2, plan.columns)


@partial(jax.jit, static_argnames=("tile", "kinds"))
def _bundle(
    network: Network,
    x1: Array,
    x2: Array | None,
    starts: Int[Array, "tiles 2"],
    tile: tuple[int, int],
    kinds: tuple[Kind, ...],
) -> tuple[Float[Array, "tiles rows columns"], ...]:
    """Tiles one after the other; ``x2`` None for a symmetric matrix."""

    def one(start: Int[Array, 2]) -> tuple[Array, ...]:
        rows = jax.lax.dynamic_slice_in_dim(x1, start[0], tile[0])
        columns = jax.lax.dynamic_slice_in_dim(x1 if x2 is None else x2, start[1], tile[1])
        blocks = jax.vmap(lambda a: jax.vmap(lambda b: _pair(network, a, b, kinds))(columns))(rows)
        if x2 is not None:
            return blocks
        on_diagonal = start[0] == start[1]
        return tuple(jnp.where(on_diagonal, 0.5 * (b + b.T), b) for b in blocks)

    return jax.lax.map(jax.checkpoint(one), starts)


def _pair(
    network: Network, x1: Float[Array, ...], x2: Float[Array, ...], kinds: tuple[Kind, ...]
) -> tuple[Float[Array, ""], ...]:
    kernel = network.kernel(x1, x2, wants_ntk="ntk" in kinds)
    return tuple(getattr(kernel, kind) for kind in kinds)
