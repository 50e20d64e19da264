"""Layers that bring positions together: average pooling, and flattening."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.kernel import Kernel, Needs, Positions, Shape, each, number_of_positions
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.models.layers.windows import (
    Padding,
    Sizes,
    amounts,
    as_window,
    check_padding,
    output_positions,
    pad,
    window_mean,
)
from bnnsample.pytrees import as_pytree


def _pooling_needs(output: Needs) -> Needs:
    own = Positions.NONE if output.own is Positions.NONE else Positions.PAIRS
    return Needs(Positions.PAIRS, own)


@as_pytree()
@dataclass(frozen=True)
class AvgPool(AbstractLayer):
    """Mean over windows of positions, next to each other unless ``strides`` says otherwise.

    ``padding`` VALID, SAME (zeros, which count in the mean) or CIRCULAR.
    """

    window: Sizes
    strides: Sizes | None = None
    padding: Padding = "VALID"

    def __post_init__(self) -> None:
        check_padding("AvgPool", self.padding)
        window = as_window("AvgPool window", self.window)
        strides = window if self.strides is None else self.strides
        strides = as_window("AvgPool strides", strides, dimensions=len(window))
        object.__setattr__(self, "window", window)
        object.__setattr__(self, "strides", strides)

    @property
    def _geometry(self) -> tuple[Shape, Shape, Padding]:
        assert isinstance(self.window, tuple)
        assert isinstance(self.strides, tuple)
        return self.window, self.strides, self.padding

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*output_positions("AvgPool", input_shape, *self._geometry), input_shape[-1])

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        window, strides, padding = self._geometry
        for axis, geometry in enumerate(zip(x.shape[1:-1], window, strides, strict=True), start=1):
            x = pad(x, axis, amounts(*geometry, padding), padding)
        # not a JAX array: under jit only a known 0 makes this a sum, which can be differentiated
        zero = np.zeros((), x.dtype)
        total = jax.lax.reduce_window(
            x, zero, jax.lax.add, (1, *window, 1), (1, *strides, 1), "VALID"
        )
        return total / math.prod(window)

    def kernel(self, kernel: Kernel) -> Kernel:
        return kernel.map(
            lambda covariance: window_mean(covariance, kernel.shape, *self._geometry, shared=False),
            shape=self.output_shape(kernel.shape),
        )

    def needs(self, output: Needs) -> Needs:
        return _pooling_needs(output)


@as_pytree()
@dataclass(frozen=True)
class GlobalAvgPool(AbstractLayer):
    """Mean over all positions."""

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) < 2:
            raise bad_input(
                "GlobalAvgPool input",
                got=f"examples of shape {input_shape}",
                expected="spatial examples: (length, channels) or (height, width, channels)",
                probably="flat inputs, which have no positions to pool",
            )
        return input_shape[-1:]

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n c"]:
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))

    def kernel(self, kernel: Kernel) -> Kernel:
        return kernel.map(jnp.mean, shape=self.output_shape(kernel.shape))

    def needs(self, output: Needs) -> Needs:
        return _pooling_needs(output)


@as_pytree()
@dataclass(frozen=True)
class Flatten(AbstractLayer):
    """All positions' channels as one axis, to be weighted independently by a ``Dense`` layer."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n d"]:
        return x.reshape(x.shape[0], -1)

    def kernel(self, kernel: Kernel) -> Kernel:
        return kernel.map(
            lambda covariance: jnp.mean(each(covariance, kernel.shape)),
            shape=self.output_shape(kernel.shape),
            # units of different positions have different variances
            gaussian=kernel.gaussian and number_of_positions(kernel.shape) == 1,
        )

    def needs(self, output: Needs) -> Needs:
        own = Positions.NONE if output.own is Positions.NONE else Positions.EACH
        return Needs(Positions.EACH, own)
