"""The fully connected layer, which as a network's last is its linear readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.models.kernel import Kernel, Shape
from bnnsample.models.layers.affine import affine_init, affine_kernel, affine_learning_rates
from bnnsample.models.layers.base import (
    AbstractLayer,
    Parameterisation,
    check_parameterisation,
)
from bnnsample.models.scales import Std, as_bias_std, as_std
from bnnsample.pytrees import as_pytree


@as_pytree("w_std", "b_std")
@dataclass(frozen=True)
class Dense(AbstractLayer):
    r"""Every unit a weighted sum of all: ``W`` (d, width) and ``b`` (width,) from N(0, 1).

    $$x \mapsto \frac{\sigma_w}{\sqrt d} x W + \sigma_b b$$

    ``w_std`` and ``b_std`` are standard deviations, not variances, or priors of them: NumPyro
    distributions, which make them hyperparameters of a posterior. With ``b_std`` 0 or None there
    is no bias parameter. As a network's last layer it is the linear readout.

    ``parameterisation="standard"`` is the same function with the same prior, but its tangent kernel
    is that of training ``w_std W / sqrt(d)`` and ``b_std b`` themselves (2001.07301); it then
    depends on the width of the layer before.
    """

    width: int
    w_std: Std = 1.0
    b_std: Std | None = None
    parameterisation: Parameterisation = "ntk"

    def __post_init__(self) -> None:
        check_count("Dense width", self.width)
        check_parameterisation("Dense", self.parameterisation)
        object.__setattr__(self, "w_std", as_std("Dense w_std", self.w_std))
        object.__setattr__(self, "b_std", as_bias_std("Dense b_std", self.b_std))

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias parameter."""
        return self.b_std is not None

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise bad_input(
                "Dense input",
                got=f"examples of shape {input_shape}",
                expected="flat examples of shape (d,)",
                probably="spatial activations that need Flatten() or GlobalAvgPool() before it, or "
                "Conv with a filter of one position in its place",
            )
        return (self.width,)

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> dict[str, Array]:
        return affine_init(key, (*input_shape, self.width), self.has_bias, dtype)

    def apply(self, params: dict[str, Array], x: Float[Array, "n d"]) -> Float[Array, "n width"]:
        out = x @ params["weight"] * (self.w_std / x.shape[-1] ** 0.5)
        return out if self.b_std is None else out + self.b_std * params["bias"][None, :]

    def kernel(self, kernel: Kernel) -> Kernel:
        return affine_kernel(
            kernel,
            lambda covariance: covariance,
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

    def fan_in(self, input_shape: Shape) -> int:
        """Number of weights that a unit sums over."""
        return input_shape[-1]

    def patches(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """What the output is a linear function of: the input itself."""
        return x

    def readout_features(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """The scaled features ``Psi`` for which this layer is ``Psi @ readout``.

        ``p = d + 1``, the last column being ``b_std``; ``p = d`` without a bias.
        """
        scaled = x * (self.w_std / x.shape[-1] ** 0.5)
        if self.b_std is None:
            return scaled
        return jnp.concatenate([scaled, jnp.full_like(scaled[:, :1], self.b_std)], axis=1)

    def readout_shape(self, input_shape: Shape) -> tuple[int, int]:
        """Shape (p, o) of the readout weights, the bias being their last row."""
        self.output_shape(input_shape)
        return (input_shape[0] + self.has_bias, self.width)
