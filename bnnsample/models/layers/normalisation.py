"""Layer normalisation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import NoKnownLimit
from bnnsample.models.kernel import Covariance, Kernel, Needs, Positions, Shape, beside, each
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.pytrees import as_pytree

EPSILON = 1e-12
"""Added to variances before they divide; small enough not to show, as in neural-tangents."""


@as_pytree()
@dataclass(frozen=True)
class LayerNorm(AbstractLayer):
    """Channels of each position shifted and scaled to mean 0 and variance 1, without parameters.

    Its limit is known for centred Gaussian units, so before an activation and not after it.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> tuple[()]:
        return ()

    def apply(self, params: tuple[()], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return centred / jnp.sqrt(variance + EPSILON)

    def kernel(self, kernel: Kernel) -> Kernel:
        if not kernel.gaussian:
            raise NoKnownLimit("LayerNorm of units that are not centred Gaussian")
        assert kernel.cov1 is not None
        assert kernel.cov2 is not None
        std1, std2 = (
            jnp.sqrt(each(cov, kernel.shape) + EPSILON) for cov in (kernel.cov1, kernel.cov2)
        )

        def divided(covariance: Covariance, rows: Covariance, columns: Covariance) -> Covariance:
            rows, columns = beside(rows, columns, covariance)
            return covariance / (rows * columns)

        return dataclasses.replace(
            kernel,
            nngp=divided(kernel.nngp, std1, std2),
            ntk=None if kernel.ntk is None else divided(kernel.ntk, std1, std2),
            cov1=divided(kernel.cov1, std1, std1),
            cov2=divided(kernel.cov2, std2, std2),
        )

    def needs(self, output: Needs) -> Needs:
        return output.union(Needs(output.cross, Positions.EACH))
