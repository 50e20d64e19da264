"""Layers, each the triple (init, apply, kernel): draw, act at finite width, take the limit.

All parameters are N(0, 1) a priori (NTK parameterisation): every scale lives in the forward pass.
"""

from __future__ import annotations

import difflib
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, check_count, check_scale
from bnnsample.models import duals
from bnnsample.models.kernel import Kernel

type Shape = tuple[int, ...]
type Params = Any  # a pytree of arrays
type Scale = float | Array  # an array where one differentiates in it


class AbstractLayer(ABC):
    """One layer. Shapes are those of a single example, without the batch axis."""

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output; raises ``ValueError`` for inputs that do not fit."""

    @abstractmethod
    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> Params:
        """Parameters drawn from the N(0, 1) prior."""

    @abstractmethod
    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The layer at finite width, for a batch."""

    @abstractmethod
    def kernel(self, kernel: Kernel) -> Kernel:
        """The layer's action on the prior covariance as widths go to infinity."""


@dataclass(frozen=True)
class Dense(AbstractLayer):
    """``x -> w_std / sqrt(d) x W + b_std b`` with ``W`` (d, width) and ``b`` (width,) from N(0, 1).

    ``w_std`` and ``b_std`` are standard deviations, not variances. Without a bias scale there is
    no bias parameter. As a network's last layer it is the linear readout.
    """

    width: int
    w_std: Scale = 1.0
    b_std: Scale = 0.0

    def __post_init__(self) -> None:
        check_count("Dense width", self.width)
        check_scale("Dense w_std", self.w_std)
        check_scale("Dense b_std", self.b_std, zero_allowed=True)
        for name in ("w_std", "b_std"):
            if isinstance(value := getattr(self, name), numbers.Real):
                # a NumPy scalar would drag float32 data to float64
                object.__setattr__(self, name, float(value))

    @property
    def has_bias(self) -> bool:
        """Whether the layer has a bias parameter: only the plain number 0 says it has none."""
        return not isinstance(self.b_std, numbers.Real) or float(self.b_std) != 0

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise bad_input(
                "Dense input",
                got=f"examples of shape {input_shape}",
                expected="flat examples of shape (d,)",
                probably="images that need x.reshape(len(x), -1) first",
            )
        return (self.width,)

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> dict[str, Array]:
        weight_key, bias_key = jax.random.split(key)
        params = {"weight": jax.random.normal(weight_key, (*input_shape, self.width), dtype)}
        if self.has_bias:
            params["bias"] = jax.random.normal(bias_key, (self.width,), dtype)
        return params

    def apply(self, params: dict[str, Array], x: Float[Array, "n d"]) -> Float[Array, "n width"]:
        out = x @ params["weight"] * (self.w_std / x.shape[-1] ** 0.5)
        return out + self.b_std * params["bias"][None, :] if self.has_bias else out

    def kernel(self, kernel: Kernel) -> Kernel:
        return jax.tree.map(lambda k: self.w_std**2 * k + self.b_std**2, kernel)

    def readout_features(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """The scaled features ``Psi`` for which this layer is ``Psi @ readout``.

        ``p = d + 1``, the last column being ``b_std``; ``p = d`` without a bias.
        """
        scaled = x * (self.w_std / x.shape[-1] ** 0.5)
        if not self.has_bias:
            return scaled
        return jnp.concatenate([scaled, jnp.full_like(scaled[:, :1], self.b_std)], axis=1)

    def readout_shape(self, input_shape: Shape) -> tuple[int, int]:
        """Shape (p, o) of the readout weights, the bias being their last row."""
        self.output_shape(input_shape)
        return (input_shape[0] + self.has_bias, self.width)


def _gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=False)


KNOWN_ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], duals.Dual]] = {
    "identity": (lambda x: x, duals.identity_dual),
    "relu": (jax.nn.relu, duals.relu_dual),
    "erf": (jax.lax.erf, duals.erf_dual),
    "gelu": (_gelu, duals.gelu_dual),
    "tanh": (jnp.tanh, duals.quadrature_dual(jnp.tanh)),
}


@dataclass(frozen=True)
class Activation(AbstractLayer):
    """An elementwise nonlinearity: a known name, or any elementwise JAX function.

    Known: identity, relu, erf, gelu (exact) with closed dual forms, tanh by quadrature. A function
    given as such takes its limit by quadrature too, which is only of first order at kinks.
    """

    function: str | Callable[[Array], Array]

    def __post_init__(self) -> None:
        for name, (function, _) in KNOWN_ACTIVATIONS.items():
            if self.function is function:
                object.__setattr__(self, "function", name)
        if isinstance(self.function, str) and self.function not in KNOWN_ACTIVATIONS:
            near = difflib.get_close_matches(self.function, KNOWN_ACTIVATIONS, n=1)
            raise bad_input(
                "Activation",
                got=repr(self.function),
                expected=f"one of {', '.join(KNOWN_ACTIVATIONS)} or an elementwise function",
                probably=f"{near[0]!r} was meant" if near else "its function can be passed instead",
            )
        if not isinstance(self.function, str) and not callable(self.function):
            raise bad_input(
                "Activation",
                got=repr(self.function),
                expected="a name or an elementwise function",
                probably="the function was called instead of passed",
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        batch = jax.ShapeDtypeStruct((2, *input_shape), jnp.result_type(float))
        out = jax.eval_shape(lambda x: self.apply((), x), batch)
        if out.shape != (2, *input_shape):
            raise bad_input(
                "Activation",
                got=f"a function that maps shape {(2, *input_shape)} to {out.shape}",
                expected="an elementwise function",
                probably="a reduction or a layer was passed",
            )
        return input_shape

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        if isinstance(self.function, str):
            return KNOWN_ACTIVATIONS[self.function][0](x)
        return self.function(x)

    def kernel(self, kernel: Kernel) -> Kernel:
        dual = (
            KNOWN_ACTIVATIONS[self.function][1]
            if isinstance(self.function, str)
            else duals.quadrature_dual(self.function)
        )
        return Kernel(
            cross=dual(kernel.cross, kernel.diag1[:, None], kernel.diag2[None, :]),
            diag1=dual(kernel.diag1, kernel.diag1, kernel.diag1),
            diag2=dual(kernel.diag2, kernel.diag2, kernel.diag2),
        )
