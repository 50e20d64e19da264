"""Self-attention whose limit is closed: queries tied to keys, scores divided by the channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from bnnsample.checks import NoKnownLimit, bad_input, check_count
from bnnsample.models.kernel import Covariance, Kernel, Needs, Positions, Shape, has_pairs
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.models.scales import Std, as_bias_std, as_std
from bnnsample.numerics import cholesky
from bnnsample.pytrees import as_pytree


@as_pytree(
    "w_query_std",
    "w_key_std",
    "w_value_std",
    "w_out_std",
    "b_std",
    "position_std",
    "position_length",
)
@dataclass(frozen=True)
class SelfAttention(AbstractLayer):
    """Attention of every position to all, ``G V W_out`` with ``G = softmax(scores)``.

    ``scores = w_query_std w_key_std K K' / channels`` with keys ``K = X W / sqrt(c)``, queries tied
    to the keys: with this linear scaling the scores converge, and one head has a closed limit (Hron
    et al. 2020, 2006.10540, section 3.2). ``scores="identity"`` leaves the softmax out.

    With ``position_std`` above 0, keys and queries see ``X`` plus a random embedding of the
    positions, with covariance ``position_std^2 exp(-distance / position_length)`` between
    positions, or independent for each if ``position_length`` is None. Its limit is known where
    ``X`` are units behind random weights, not the examples themselves.
    """

    channels: int
    scores: Literal["softmax", "identity"] = "softmax"
    w_query_std: Std = 1.0
    w_key_std: Std = 1.0
    w_value_std: Std = 1.0
    w_out_std: Std = 1.0
    b_std: Std | None = None
    position_std: Std | None = None
    position_length: Std | None = None

    def __post_init__(self) -> None:
        check_count("SelfAttention channels", self.channels)
        if self.scores not in ("softmax", "identity"):
            raise bad_input(
                "SelfAttention scores",
                got=repr(self.scores),
                expected="'softmax' or 'identity'",
                probably="a typing error",
            )
        for name in ("w_query_std", "w_key_std", "w_value_std", "w_out_std"):
            scale = as_std(f"SelfAttention {name}", getattr(self, name))
            object.__setattr__(self, name, scale)
        for name in ("b_std", "position_std"):
            scale = as_bias_std(f"SelfAttention {name}", getattr(self, name))
            object.__setattr__(self, name, scale)
        if self.position_length is not None:
            length = as_std("SelfAttention position_length", self.position_length)
            object.__setattr__(self, "position_length", length)

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 3):
            raise bad_input(
                "SelfAttention input",
                got=f"examples of shape {input_shape}",
                expected="spatial examples: (length, channels) or (height, width, channels)",
                probably="flat inputs, which have no positions to attend to",
            )
        return (*input_shape[:-1], self.channels)

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> dict[str, Array]:
        inputs, channels = input_shape[-1], self.channels
        shapes: dict[str, Shape] = {
            "key": (inputs, channels),
            "value": (inputs, channels),
            "out": (channels, channels),
        }
        if self.b_std is not None:
            shapes["bias"] = (channels,)
        if self.position_std is not None:
            shapes["position"] = (math.prod(input_shape[:-1]), inputs)
        return {
            name: jax.random.normal(jax.random.fold_in(key, index), shape, dtype)
            for index, (name, shape) in enumerate(shapes.items())
        }

    def apply(self, params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        spatial, inputs = x.shape[1:-1], x.shape[-1]
        x = x.reshape(x.shape[0], -1, inputs)
        keys = self._embedded(params, x, spatial) @ params["key"] / inputs**0.5
        scale = self.w_query_std * self.w_key_std / self.channels
        weights = self._weights(scale * keys @ keys.swapaxes(-1, -2))
        values = x @ params["value"] * (self.w_value_std / inputs**0.5)
        out = weights @ values @ params["out"] * (self.w_out_std / self.channels**0.5)
        if self.b_std is not None:
            out = out + self.b_std * params["bias"][None, None, :]
        return out.reshape(x.shape[0], *spatial, self.channels)

    def kernel(self, kernel: Kernel) -> Kernel:
        if self.position_std is not None and kernel.is_data:
            raise NoKnownLimit(
                "an embedding of positions added to the examples' own channels, which stay few: "
                "put a layer such as Conv(width, 1) before it"
            )
        assert kernel.cov1 is not None
        assert kernel.cov2 is not None
        shape = self.output_shape(kernel.shape)
        spatial = kernel.shape[:-1]
        nngp, cov1, cov2 = (
            _as_matrix(covariance, kernel.shape)
            for covariance in (kernel.nngp, kernel.cov1, kernel.cov2)
        )
        gain = (self.w_value_std * self.w_out_std) ** 2
        weights1, weights2 = (self._limit_weights(cov, spatial) for cov in (cov1, cov2))
        bias = 0.0 if self.b_std is None else self.b_std**2
        attended = gain * weights1 @ nngp @ weights2.T
        ntk = None
        if kernel.wants_ntk:
            # the weights of values and output each add the covariance; those of the keys nothing
            ntk = 2 * attended + bias
            if kernel.ntk is not None:
                ntk += gain * weights1 @ _as_matrix(kernel.ntk, kernel.shape) @ weights2.T
        return Kernel(
            nngp=_as_pairs(attended + bias, spatial),
            ntk=None if ntk is None else _as_pairs(ntk, spatial),
            cov1=_as_pairs(gain * weights1 @ cov1 @ weights1.T + bias, spatial),
            cov2=_as_pairs(gain * weights2 @ cov2 @ weights2.T + bias, spatial),
            shape=shape,
            wants_ntk=kernel.wants_ntk,
            gaussian=True,
            mixed=True,
        )

    def needs(self, output: Needs) -> Needs:
        return Needs(Positions.PAIRS, Positions.PAIRS)

    def _weights(self, scores: Float[Array, "... p p"]) -> Float[Array, "... p p"]:
        return jax.nn.softmax(scores, axis=-1) if self.scores == "softmax" else scores

    def _limit_weights(
        self, covariance: Float[Array, "p p"], spatial: Shape
    ) -> Float[Array, "p p"]:
        if self.position_std is not None:
            correlation = self._position_correlation(spatial, covariance.dtype)
            covariance = covariance + self.position_std**2 * correlation
        return self._weights(self.w_query_std * self.w_key_std * covariance)

    def _embedded(
        self, params: dict[str, Array], x: Float[Array, "n p c"], spatial: Shape
    ) -> Float[Array, "n p c"]:
        if self.position_std is None:
            return x
        root = cholesky(self._position_correlation(spatial, x.dtype))
        return x + (self.position_std * root @ params["position"])[None]

    def _position_correlation(self, spatial: Shape, dtype: Any) -> Float[Array, "p p"]:
        grid = np.stack(np.meshgrid(*map(np.arange, spatial), indexing="ij"), axis=-1)
        points = grid.reshape(-1, len(spatial))
        distance = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
        if self.position_length is None:
            return jnp.eye(len(points), dtype=dtype)
        return jnp.exp(-jnp.asarray(distance, dtype) / self.position_length)


def _as_matrix(covariance: Covariance, shape: Shape) -> Float[Array, "p q"]:
    """Pairs of positions (h, h', w, w') as (h w, h' w')."""
    assert has_pairs(covariance, shape)
    rows_first = (*range(0, covariance.ndim, 2), *range(1, covariance.ndim, 2))
    positions = math.prod(shape[:-1])
    return covariance.transpose(rows_first).reshape(positions, positions)


def _as_pairs(matrix: Float[Array, "p q"], spatial: Shape) -> Covariance:
    """The inverse of ``_as_matrix``."""
    dimensions = len(spatial)
    interleaved = tuple(axis for i in range(dimensions) for axis in (i, dimensions + i))
    return matrix.reshape(*spatial, *spatial).transpose(interleaved)
