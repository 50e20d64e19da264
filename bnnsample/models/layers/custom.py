"""A layer made of functions: what Flax, Equinox or one's own code computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from bnnsample.checks import NoKnownLimit, bad_input
from bnnsample.models.kernel import Kernel, Shape
from bnnsample.models.layers.base import AbstractLayer, Params
from bnnsample.pytrees import as_pytree


@as_pytree()
@dataclass(frozen=True)
class Custom(AbstractLayer):
    """``apply(params, x)`` on a batch (n, ...), with ``params`` from ``init(key, input_shape)``.

    Its limit is not known; ``monte_carlo_kernel`` averages over what ``init`` draws. To be sampled,
    ``init`` must draw from N(0, 1), all scales being in ``apply``, as for every layer. For a Flax
    module: ``Custom(lambda key, shape: module.init(key, jnp.zeros((1, *shape))), module.apply)``;
    of an Equinox module, ``init`` returns the arrays ``eqx.filter(module, eqx.is_array)`` and
    ``apply`` calls ``jax.vmap(eqx.combine(params, static))(x)``.
    """

    init_function: Callable[[Array, Shape], Params]
    apply_function: Callable[[Params, Array], Array]

    def output_shape(self, input_shape: Shape) -> Shape:
        dtype = jnp.result_type(float)
        batch = jax.ShapeDtypeStruct((1, *input_shape), dtype)
        params = jax.eval_shape(lambda: self.init(jax.random.key(0), input_shape, dtype))
        out = jax.eval_shape(self.apply_function, params, batch)
        if not isinstance(out, jax.ShapeDtypeStruct):
            raise bad_input(
                "Custom apply",
                got=f"a {type(out).__name__}",
                expected="an array (n, ...)",
                probably="a function that returns nothing, or its state beside the outputs",
            )
        return out.shape[1:]

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> Params:
        params = self.init_function(key, input_shape)
        for path, leaf in jax.tree.leaves_with_path(params):
            if not isinstance(leaf, jax.Array | np.ndarray | float | int):
                raise bad_input(
                    "Custom init",
                    got=f"{type(leaf).__name__} at params{jax.tree_util.keystr(path)}",
                    expected="a pytree of arrays",
                    probably="an Equinox module, whose arrays are eqx.filter(module, eqx.is_array)",
                )
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.apply_function(params, x)

    def kernel(self, kernel: Kernel) -> Kernel:
        raise NoKnownLimit("a layer made of functions")
