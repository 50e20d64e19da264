"""Modules of Equinox as feature maps."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.integrations.features import (
    Stds,
    feature_network,
    installed,
    not_a_function,
    not_floating,
)
from bnnsample.models.layers.dense import Dense
from bnnsample.models.network import Network
from bnnsample.models.scales import Std


def from_equinox(
    module: Any,
    out: int,
    *,
    w_std: float = 2**0.5,
    b_std: float = 0.1,
    stds: Stds | None = None,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """A network whose features are an Equinox ``module`` of one example, giving (p,).

    Its parameters become N(0, 1) times a scale: ``w_std / sqrt(fan_in)`` for arrays of two axes and
    more, all but the first summed over, ``b_std`` for those called ``bias``. ``stds`` of a
    parameter's path and shape says otherwise, and must for all others; None leaves it to these
    rules. The values that parameters have are not used. JAX arrays are parameters, NumPy arrays
    constants. A readout of ``out`` outputs follows.

    Raises ``ValueError`` for what is not a function of parameters and inputs: dropout that is
    active, batch normalisation, other state, and JAX arrays that are not of floating-point numbers.
    """
    eqx = installed("equinox", "equinox")
    if not callable(module) or not isinstance(module, eqx.Module):
        raise bad_input(
            "module",
            got=f"a {type(module).__name__}",
            expected="a module of equinox that can be called",
            probably="its class without arguments, or a function; Custom wraps any pair of "
            "functions",
        )
    stateful = (eqx.nn.Dropout, eqx.nn.StateIndex)
    for part in jax.tree.leaves(module, is_leaf=lambda node: isinstance(node, stateful)):
        dropout = isinstance(part, eqx.nn.Dropout)
        if isinstance(part, stateful) and not (dropout and (part.inference or part.p == 0)):
            raise not_a_function(f"a {type(part).__name__} inside", dropout=dropout)
        if isinstance(part, jax.Array) and not jnp.issubdtype(part.dtype, jnp.floating):
            raise not_floating(f"an array of {part.dtype}")
    normalisations = eqx.nn.LayerNorm, eqx.nn.RMSNorm, eqx.nn.GroupNorm
    gains = {
        _name((*path, jax.tree_util.GetAttrKey("weight")))
        for path, part in jax.tree.leaves_with_path(
            module, is_leaf=lambda node: isinstance(node, normalisations)
        )
        if isinstance(part, normalisations)
    }
    parameters, static = eqx.partition(module, lambda leaf: isinstance(leaf, jax.Array))
    with_paths, structure = jax.tree.flatten_with_path(parameters)
    shapes = {_name(path): leaf.shape for path, leaf in with_paths}

    def apply(params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        whole = eqx.combine(
            jax.tree.unflatten(structure, [params[name] for name in shapes]), static
        )
        return jax.vmap(whole)(x)

    return feature_network(
        shapes,
        apply,
        stds,
        Dense(out, w_std_out, b_std_out),
        fan_in=lambda shape: math.prod(shape[1:]),
        gains=gains,
        w_std=w_std,
        b_std=b_std,
    )


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
