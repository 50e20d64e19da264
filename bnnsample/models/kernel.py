"""The record that layers map in the infinite-width limit, for one pair of examples.

Layers are written for one pair; ``jax.vmap`` over both sets of inputs makes matrices of it, and
computes what depends on one input alone once per input. Positions are the pixels or tokens of
spatial activations; flat activations have none, and their covariances are scalars.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.pytrees import as_pytree

type Shape = tuple[int, ...]
type Covariance = Float[Array, "..."]
"""Per position, shape (h, w), or per pair of positions, (h, h', w, w'): rows' axes first."""


class Positions(IntEnum):
    """How much of a covariance over positions is kept, in increasing order."""

    NONE = 0
    EACH = 1
    PAIRS = 2


class Needs(NamedTuple):
    """What later layers need: of the covariance between the two inputs, and of each with itself."""

    cross: Positions = Positions.EACH
    own: Positions = Positions.NONE

    def union(self, other: Needs) -> Needs:
        """What serves both."""
        return Needs(max(self.cross, other.cross), max(self.own, other.own))


@as_pytree("nngp", "ntk", "cov1", "cov2")
@dataclass(frozen=True)
class Kernel:
    """Covariance of one unit's activations for one pair of inputs, and its tangent kernel.

    ``nngp`` and ``ntk`` are between the two inputs; ``ntk`` is None while no parameter has entered
    it or where it is not wanted. ``cov1`` and ``cov2`` are of each input with itself, None where no
    later layer asks for them. ``shape`` is that of one example's activations, channels last.
    ``gaussian``: the units are independent centred Gaussians. ``mixed``: random weights separate
    the units from the input of the residual block they belong to, so that they do not correlate.
    ``is_data``: the units are the channels of the examples, however wide the network.
    """

    nngp: Covariance
    ntk: Covariance | None
    cov1: Covariance | None
    cov2: Covariance | None
    shape: Shape
    wants_ntk: bool
    gaussian: bool = False
    mixed: bool = False
    is_data: bool = False

    def map(self, function: Callable[[Covariance], Covariance], **facts: object) -> Kernel:
        """Every covariance mapped by the same linear ``function``, with new static ``facts``."""
        mapped = {
            name: None if (value := getattr(self, name)) is None else function(value)
            for name in ("nngp", "ntk", "cov1", "cov2")
        }
        return dataclasses.replace(self, **mapped, **facts)  # pyright: ignore[reportArgumentType]

    def restricted(self, needs: Needs) -> Kernel:
        """Without what is not needed."""

        def keep(covariance: Covariance | None, positions: Positions) -> Covariance | None:
            if covariance is None or positions is Positions.NONE:
                return None
            return each(covariance, self.shape) if positions is Positions.EACH else covariance

        return dataclasses.replace(
            self,
            nngp=keep(self.nngp, needs.cross),
            ntk=keep(self.ntk, needs.cross),
            cov1=keep(self.cov1, needs.own),
            cov2=keep(self.cov2, needs.own),
        )


def has_pairs(covariance: Covariance, shape: Shape) -> bool:
    """Whether ``covariance`` is kept for pairs of the positions of ``shape``."""
    return covariance.ndim > len(shape) - 1


def each(covariance: Covariance, shape: Shape) -> Covariance:
    """The covariance at each position, from that of all pairs if need be."""
    if not has_pairs(covariance, shape):
        return covariance
    for axis in range(len(shape) - 1):
        diagonal = jnp.diagonal(covariance, axis1=axis, axis2=axis + 1)
        covariance = jnp.moveaxis(diagonal, -1, axis)
    return covariance


def beside(
    variance1: Covariance, variance2: Covariance, covariance: Covariance
) -> tuple[Covariance, Covariance]:
    """Variances per position, shaped to broadcast as rows and columns of ``covariance``."""
    if covariance.ndim == variance1.ndim:
        return variance1, variance2
    rows = tuple(size for n in variance1.shape for size in (n, 1))
    columns = tuple(size for n in variance2.shape for size in (1, n))
    return variance1.reshape(rows), variance2.reshape(columns)


def input_kernel(
    x1: Float[Array, ...], x2: Float[Array, ...], needs: Needs, wants_ntk: bool
) -> Kernel:
    """The inputs' own kernel ``x1 . x2 / channels``, which the first random layer scales."""

    def covariance(a: Array, b: Array, positions: Positions) -> Array | None:
        if positions is Positions.NONE:
            return None
        if positions is Positions.PAIRS and a.ndim > 1:
            spatial = a.ndim - 1
            product = jnp.tensordot(a, b, axes=(-1, -1))
            axes = tuple(axis for i in range(spatial) for axis in (i, spatial + i))
            return product.transpose(axes) / a.shape[-1]
        return (jnp.dot(a, b) if a.ndim == 1 else jnp.sum(a * b, axis=-1)) / a.shape[-1]

    cross = covariance(x1, x2, needs.cross)
    assert cross is not None
    return Kernel(
        nngp=cross,
        ntk=None,
        cov1=covariance(x1, x1, needs.own),
        cov2=covariance(x2, x2, needs.own),
        shape=x1.shape,
        wants_ntk=wants_ntk,
        is_data=True,
    )


def number_of_positions(shape: Shape) -> int:
    """How many positions activations of ``shape`` have; 1 for flat ones."""
    return math.prod(shape[:-1])
