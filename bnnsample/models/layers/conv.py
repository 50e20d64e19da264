"""The convolutional layer, over one or two spatial dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import check_count
from bnnsample.models.kernel import Kernel, Shape
from bnnsample.models.layers.affine import affine_init, affine_kernel, affine_learning_rates
from bnnsample.models.layers.base import (
    AbstractLayer,
    Parameterisation,
    check_parameterisation,
)
from bnnsample.models.layers.windows import (
    Padding,
    Sizes,
    amounts,
    as_window,
    check_padding,
    output_positions,
    pad,
    shifted,
    window_mean,
)
from bnnsample.models.scales import Std, as_bias_std, as_std
from bnnsample.pytrees import as_pytree

DIMENSION_NUMBERS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}

TILE_BYTES = 2**22
"""Patches that a CPU makes at a time, so that its cache holds them: four times as many take 1.4
times as long (64 images, 32 x 32 pixels, 16 channels)."""


@as_pytree("w_std", "b_std")
@dataclass(frozen=True)
class Conv(AbstractLayer):
    """Convolution with weights (*filter_shape, c, channels), scaled by ``w_std / sqrt(fan_in)``.

    ``fan_in`` is the size of the filter times the c input channels, at the border too. One or two
    spatial dimensions, by the length of ``filter_shape``; ``padding`` SAME (zeros), VALID or
    CIRCULAR. Limits: Novak et al. 2019 (1810.05148), eqs. 8 and 9. For ``b_std`` and
    ``parameterisation`` see ``Dense``.
    """

    channels: int
    filter_shape: Sizes
    strides: Sizes | None = None
    padding: Padding = "SAME"
    w_std: Std = 1.0
    b_std: Std | None = None
    parameterisation: Parameterisation = "ntk"

    def __post_init__(self) -> None:
        check_count("Conv channels", self.channels)
        check_padding("Conv", self.padding)
        check_parameterisation("Conv", self.parameterisation)
        window = as_window("Conv filter_shape", self.filter_shape)
        strides = (1,) * len(window) if self.strides is None else self.strides
        strides = as_window("Conv strides", strides, dimensions=len(window))
        object.__setattr__(self, "filter_shape", window)
        object.__setattr__(self, "strides", strides)
        object.__setattr__(self, "w_std", as_std("Conv w_std", self.w_std))
        object.__setattr__(self, "b_std", as_bias_std("Conv b_std", self.b_std))

    @property
    def _geometry(self) -> tuple[Shape, Shape, Padding]:
        assert isinstance(self.filter_shape, tuple)
        assert isinstance(self.strides, tuple)
        return self.filter_shape, self.strides, self.padding

    def fan_in(self, input_shape: Shape) -> int:
        """Number of weights that a unit sums over."""
        return math.prod(self._geometry[0]) * input_shape[-1]

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*output_positions("Conv", input_shape, *self._geometry), self.channels)

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> dict[str, Array]:
        weight_shape = (*self._geometry[0], input_shape[-1], self.channels)
        return affine_init(key, weight_shape, self.b_std is not None, dtype)

    def apply(self, params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        out = jax.lax.platform_dependent(
            x, params["weight"], cpu=self._by_products, default=self._by_convolution
        )
        out = out * (self.w_std / self.fan_in(x.shape[1:]) ** 0.5)
        if self.b_std is None:
            return out
        return out + self.b_std * params["bias"].reshape((1,) * (x.ndim - 1) + (-1,))

    def kernel(self, kernel: Kernel) -> Kernel:
        return affine_kernel(
            kernel,
            lambda covariance: window_mean(covariance, kernel.shape, *self._geometry, shared=True),
            self.output_shape(kernel.shape),
            fan_in=self.fan_in(kernel.shape),
            w_std=self.w_std,
            b_std=self.b_std,
            parameterisation=self.parameterisation,
        )

    def learning_rates(self, params: dict[str, Array], input_shape: Shape) -> dict[str, Std]:
        return affine_learning_rates(
            self.fan_in(input_shape), self.w_std, self.b_std, self.parameterisation
        )

    def patches(self, x: Float[Array, "n ..."]) -> Float[Array, "n ... fan_in"]:
        """What each output position sees of the input, so that the layer is linear in a matrix.

        In the order of the weights: (*filter_shape, c).
        """
        seen = self._padded(x)
        for axis in range(x.ndim - 2, 0, -1):
            extent, stride = (sizes[axis - 1] for sizes in self._geometry[:2])
            seen = jnp.concatenate(shifted(seen, (axis,), extent, stride), axis=-1)
        return seen

    def _by_products(
        self, x: Float[Array, "n ..."], weight: Float[Array, "*filter c channels"]
    ) -> Float[Array, "n ..."]:
        """Matrix products of tiles of patches, which are made again for derivatives.

        XLA's own convolutions are 14 to 24 times slower than these inside a compiled loop on a CPU,
        as all samplers are.
        """
        matrix = weight.reshape(-1, self.channels)

        @jax.checkpoint
        def convolved(x: Float[Array, "*space c"]) -> Float[Array, "*moved channels"]:
            patches = self.patches(x[None])[0]
            flat = patches.reshape(-1, patches.shape[-1]) @ matrix
            return flat.reshape(*patches.shape[:-1], self.channels)

        shape = x.shape[1:]
        patch_bytes = math.prod(self.output_shape(shape)[:-1]) * self.fan_in(shape) * x.itemsize
        tile = min(len(x), max(1, TILE_BYTES // patch_bytes))
        return jax.lax.map(convolved, x, batch_size=tile)

    def _by_convolution(
        self, x: Float[Array, "n ..."], weight: Float[Array, "*filter c channels"]
    ) -> Float[Array, "n ..."]:
        dimensions = DIMENSION_NUMBERS[weight.ndim - 2]
        return jax.lax.conv_general_dilated(
            self._padded(x), weight, self._geometry[1], "VALID", dimension_numbers=dimensions
        )

    def _padded(self, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        for axis, geometry in enumerate(
            zip(x.shape[1:-1], self._geometry[0], self._geometry[1], strict=True), start=1
        ):
            x = pad(x, axis, amounts(*geometry, self.padding), self.padding)
        return x
