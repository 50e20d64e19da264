"""How a kernel matrix is cut into tiles: by the memory it may use, for any numbers of inputs.

A tile is a block of rows and columns computed at once; a symmetric matrix needs those on and above
its diagonal. Several tiles make a bundle, one compiled call that visits them in turn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
import psutil

from bnnsample.checks import bad_input, check_scale
from bnnsample.models.kernel import Needs, Shape, number_of_positions
from bnnsample.models.layers import serial
from bnnsample.models.network import Network

ENTRIES_PER_TILE = {"cpu": 2**16}
"""Entries of one covariance array of a tile, over all positions: half a megabyte in float64.

Measured on two CPU cores: a quarter pays for more calls, four times as many gain nothing and hold
more memory (experiments/README.md).
"""
ENTRIES_PER_TILE_ELSEWHERE = 2**24
"""For accelerators, which want large arrays; not tuned."""

ENTRIES_PER_BUNDLE = 2**23
"""Entries of a compiled call: below half a second on two cores, and little memory handed over."""

ARRAYS_PER_TILE = 8
"""Covariance arrays per kernel that a tile holds at once, as compiled for a CPU.

Measured: 2 to 7; a test holds it as a bound.
"""

ALLOCATED = 0.95
"""Share of the memory that is planned for; allocators keep some of what is returned to them."""


@dataclass(frozen=True)
class Plan:
    """Tiles of ``rows`` x ``columns`` that cover an (n1, n2) matrix, ``bundle`` of them a call."""

    shape: tuple[int, int]
    rows: int
    columns: int
    symmetric: bool
    bundle: int

    @property
    def bundles(self) -> list[np.ndarray]:
        """The starts in equal parts; the last one is repeated so that one program serves all."""
        starts = self.starts
        surplus = np.repeat(starts[-1:], -len(starts) % self.bundle, axis=0)
        full = np.concatenate([starts, surplus])
        return [full[i : i + self.bundle] for i in range(0, len(full), self.bundle)]

    @property
    def starts(self) -> np.ndarray:
        """First row and column of each tile, shape (tiles, 2)."""
        n1, n2 = self.shape
        return np.array(
            [
                (row, column)
                for row in range(0, n1, self.rows)
                for column in range(row if self.symmetric else 0, n2, self.columns)
            ],
            np.int32,
        )


def plan_tiles(
    network: Network,
    input_shape: Shape,
    shape: tuple[int, int],
    itemsize: int,
    *,
    symmetric: bool,
    memory: int,
    held_bytes: int,
    kinds: int,
) -> Plan:
    """The tiles that compute ``kinds`` kernels of ``shape`` within ``memory`` bytes.

    ``held_bytes`` of them are taken by results and copies of inputs. Raises ``ValueError`` if not
    one pair fits.
    """
    entries, heaviest = entries_per_pair(network, input_shape)
    # devices that share the host's memory share the budget; what a bundle returns exists twice,
    # on the device and handed over
    sharing = len(jax.local_devices()) if jax.default_backend() == "cpu" else 1
    affordable = (int(ALLOCATED * memory) - held_bytes) // (itemsize * kinds * sharing)
    per_pair = ARRAYS_PER_TILE * entries
    pairs_affordable = affordable // (per_pair + 2)
    if pairs_affordable < 1:
        least = held_bytes + itemsize * kinds * sharing * (per_pair + 2)
        raise bad_input(
            "memory",
            got=f"{memory} bytes, {held_bytes} of them for the result and copies of the inputs",
            expected=f"at least {math.ceil(least / ALLOCATED)}: one pair of examples has "
            f"{entries} entries before {heaviest}",
            probably="a larger memory budget is needed, or store_kernels for a result on disk"
            + (", or pooling replaced by Flatten" if entries > 1 else ""),
        )
    wanted = ENTRIES_PER_TILE.get(jax.default_backend(), ENTRIES_PER_TILE_ELSEWHERE)
    pairs = max(1, min(pairs_affordable, wanted // entries))
    n1, n2 = shape
    side = math.isqrt(pairs)
    rows = even_part(n1, side) if symmetric else even_part(n1, max(side, pairs // min(n2, side)))
    columns = rows if symmetric else even_part(n2, max(1, pairs // rows))
    count = math.ceil(n1 / rows) * math.ceil(n2 / columns)
    if symmetric:
        count = (count + math.ceil(n1 / rows)) // 2
    pairs = rows * columns
    bundle = min(
        ENTRIES_PER_BUNDLE // (pairs * entries), (affordable - per_pair * pairs) // (2 * pairs)
    )
    return Plan(shape, rows, columns, symmetric, even_part(count, max(1, bundle)))


def entries_per_pair(network: Network, input_shape: Shape) -> tuple[int, str]:
    """Entries of the largest covariance of one pair of examples, and the layer it goes into."""
    shapes = serial.shapes(network.layers, input_shape)
    needs = serial.needs(network.layers, Needs())
    fixed = len(network.fixed_layers(input_shape)[0])
    sizes = {
        index: number_of_positions(shapes[index]) ** int(max(needs[index]))
        for index in range(fixed, len(network.layers))
    }
    heaviest = max(sizes, key=sizes.__getitem__)
    place = serial.place(heaviest, network.layers[heaviest])
    return sizes[heaviest], f"{place}, whose input has shape {shapes[heaviest]}"


def memory_budget(memory: int | None) -> int:
    """``memory`` in bytes checked, or half of what the device has free."""
    if memory is not None:
        check_scale("memory", memory)
        return int(memory)
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" in statistics:
        return (statistics["bytes_limit"] - statistics.get("bytes_in_use", 0)) // 2
    return psutil.virtual_memory().available // 2


def even_part(count: int, largest: int) -> int:
    """The size of parts of ``count``, as few as ``largest`` allows, that wastes least."""
    return math.ceil(count / math.ceil(count / min(count, largest)))
