"""Windows that slide over positions: padding, output sizes, and sums of covariances under them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.checks import bad_input, check_count
from bnnsample.models.kernel import Covariance, Shape, has_pairs

type Padding = Literal["SAME", "VALID", "CIRCULAR"]
type Sizes = Sequence[int] | SupportsIndex  # one per spatial dimension, or one for all
PADDINGS = ("SAME", "VALID", "CIRCULAR")


def as_window(name: str, value: Sizes, *, dimensions: int | None = None) -> Shape:
    """``value`` as one size per spatial dimension, of which there are one or two.

    One number serves all ``dimensions`` where these are known.
    """
    if isinstance(value, numbers.Integral):
        value = (int(value),) * (dimensions or 1)
    sizes = tuple(value) if isinstance(value, Iterable) else ()
    if len(sizes) not in (1, 2) or (dimensions is not None and len(sizes) != dimensions):
        expected = f"{dimensions}" if dimensions is not None else "one or two"
        raise bad_input(
            name,
            got=repr(value),
            expected=f"{expected} whole numbers, one per spatial dimension",
            probably="a window of another dimension",
        )
    for size in sizes:
        check_count(name, size)
    return tuple(int(size) for size in sizes)


def check_padding(layer: str, padding: object) -> None:
    """Raise unless ``padding`` is one that is known."""
    if padding not in PADDINGS:
        raise bad_input(
            f"{layer} padding",
            got=repr(padding),
            expected=f"one of {', '.join(PADDINGS)}",
            probably="a typing error",
        )


def amounts(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """Positions added before and after an axis; ``ceil(size / stride)`` come out but for VALID."""
    if padding == "VALID":
        return 0, 0
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def output_positions(
    layer: str, input_shape: Shape, window: Shape, strides: Shape, padding: Padding
) -> Shape:
    """Sizes of the spatial axes that come out; raises where the input does not fit."""
    if len(input_shape) != len(window) + 1:
        axes = "(length, channels)" if len(window) == 1 else "(height, width, channels)"
        raise bad_input(
            f"{layer} input",
            got=f"examples of shape {input_shape}",
            expected=f"examples of shape {axes}",
            probably="flat inputs, or a window of another dimension",
        )
    sizes = []
    for size, extent, stride in zip(input_shape[:-1], window, strides, strict=True):
        padded = size + sum(amounts(size, extent, stride, padding))
        if padded < extent:
            raise bad_input(
                f"{layer} input",
                got=f"examples of shape {input_shape}, with a window of {window}",
                expected="at least one window that fits",
                probably="too many strides or pools before it; padding 'SAME' keeps the size",
            )
        sizes.append((padded - extent) // stride + 1)
    return tuple(sizes)


def pad(
    x: Float[Array, ...], axis: int, before_after: tuple[int, int], padding: Padding
) -> Float[Array, ...]:
    """``x`` with zeros, or for CIRCULAR its other end, added to an axis."""
    if before_after == (0, 0):
        return x
    widths = [(0, 0)] * x.ndim
    widths[axis] = before_after
    return jnp.pad(x, widths, mode="wrap" if padding == "CIRCULAR" else "constant")


def window_mean(
    covariance: Covariance,
    shape: Shape,
    window: Shape,
    strides: Shape,
    padding: Padding,
    *,
    shared: bool,
) -> Covariance:
    """Mean of a covariance over windows of positions, padding included.

    With ``shared`` both positions of a pair move through their windows together, as when the
    weights are independent between offsets (convolution); otherwise each on its own (pooling), for
    which pairs are needed. ``shape`` is that of the activations.
    """
    pairs = has_pairs(covariance, shape)
    for dimension, (size, extent, stride) in enumerate(
        zip(shape[:-1], window, strides, strict=True)
    ):
        axes = (2 * dimension, 2 * dimension + 1) if pairs else (dimension,)
        before_after = amounts(size, extent, stride, padding)
        for axis in axes:
            covariance = pad(covariance, axis, before_after, padding)
        for moving in [axes] if shared else [(axis,) for axis in axes]:
            covariance = _sliding_sum(covariance, moving, extent, stride)
    return covariance / math.prod(window) ** (1 if shared else 2)


def _sliding_sum(x: Covariance, axes: tuple[int, ...], extent: int, stride: int) -> Covariance:
    """Sum of ``extent`` shifted copies, shifted along all ``axes`` at once."""
    first, *others = shifted(x, axes, extent, stride)
    return sum(others, start=first)


def shifted(
    x: Float[Array, ...], axes: tuple[int, ...], extent: int, stride: int
) -> list[Float[Array, ...]]:
    """What each offset of a window of ``extent`` sees of ``x``, moved along all ``axes``."""
    steps = tuple(stride if axis in axes else 1 for axis in range(x.ndim))

    def at(offset: int) -> Float[Array, ...]:
        starts = tuple(offset if axis in axes else 0 for axis in range(x.ndim))
        limits = tuple(
            offset + (size - extent) // stride * stride + 1 if axis in axes else size
            for axis, size in enumerate(x.shape)
        )
        return jax.lax.slice(x, starts, limits, steps)

    return [at(offset) for offset in range(extent)]
