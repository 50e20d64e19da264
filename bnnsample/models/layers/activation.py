"""Elementwise nonlinearities, whose limits are dual activations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import NoKnownLimit, bad_input
from bnnsample.models.duals.known import Elementwise, as_elementwise
from bnnsample.models.kernel import Kernel, Needs, Positions, Shape, beside, each
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.pytrees import as_pytree


@as_pytree()
@dataclass(frozen=True, init=False)
class Activation(AbstractLayer):
    """An elementwise nonlinearity: a known name with its parameters, or any elementwise function.

    Names and parameters are those of ``jax.nn`` where it has them, such as
    ``Activation("leaky_relu", negative_slope=0.1)``; ``gelu`` is the exact one. Many have closed
    dual forms. The others, and functions given as such, take their limit by a Hermite expansion,
    whose terms are chosen from their size, or as many as ``degree``; ``elementwise.error`` reports
    the share of the variance that it misses, of pre-activations of standard deviation 0.5 to 2, and
    ``elementwise.error_at(std)`` of others.
    """

    elementwise: Elementwise
    description: str

    def __init__(self, function: str | Callable[[Array], Array], **parameters: Any) -> None:
        object.__setattr__(self, "elementwise", as_elementwise(function, **parameters))
        name = repr(function) if isinstance(function, str) else getattr(function, "__name__", "?")
        given = [f"{parameter}={value!r}" for parameter, value in parameters.items()]
        object.__setattr__(self, "description", ", ".join([name, *given]))

    def __repr__(self) -> str:
        return f"Activation({self.description})"

    def output_shape(self, input_shape: Shape) -> Shape:
        batch = jax.ShapeDtypeStruct((2, *input_shape), jnp.result_type(float))
        out = jax.eval_shape(self.elementwise.function, batch)
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
        return self.elementwise.function(x)

    def kernel(self, kernel: Kernel) -> Kernel:
        if not kernel.gaussian:
            raise NoKnownLimit("an activation of units that are not centred Gaussian")
        assert kernel.cov1 is not None
        assert kernel.cov2 is not None
        dual = self.elementwise.dual
        variance1, variance2 = (each(cov, kernel.shape) for cov in (kernel.cov1, kernel.cov2))
        value, slope = dual(kernel.nngp, *beside(variance1, variance2, kernel.nngp))
        cov1, cov2 = (
            dual(cov, *beside(variance, variance, cov)).value
            for cov, variance in ((kernel.cov1, variance1), (kernel.cov2, variance2))
        )
        mapped = dataclasses.replace(
            kernel,
            nngp=value,
            ntk=None if kernel.ntk is None else kernel.ntk * slope,
            cov1=cov1,
            cov2=cov2,
            gaussian=False,
        )
        # or a compiler works ahead on the variances of all layers and holds the arrays of each
        return jax.lax.optimization_barrier(mapped)

    def needs(self, output: Needs) -> Needs:
        return output.union(Needs(output.cross, Positions.EACH))
