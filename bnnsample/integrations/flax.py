"""Modules of Flax NNX as feature maps."""

from __future__ import annotations

import math
from typing import Any

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


def from_flax(
    module: Any,
    out: int,
    *,
    w_std: float = 2**0.5,
    b_std: float = 0.1,
    stds: Stds | None = None,
    w_std_out: Std = 1.0,
    b_std_out: Std | None = 0.1,
) -> Network:
    """A network whose features are a Flax NNX ``module`` of batches (n, ...), giving (n, p).

    Its parameters become N(0, 1) times a scale: ``w_std / sqrt(fan_in)`` for arrays of two axes and
    more, all but the last summed over, ``b_std`` for those called ``bias``. ``stds`` of a
    parameter's path and shape says otherwise, and must for all others; None leaves it to these
    rules. In attention, whose kernels of query, key and value are (inputs, heads, size), it must:
    their fan-in is that of the first axis. The values that the module has are not used. A readout
    of ``out`` outputs follows.

    Raises ``ValueError`` for what is not a function of parameters and inputs: batch statistics,
    dropout and other state, and parameters that are not floating-point numbers.
    """
    nnx = installed("flax.nnx", "flax")
    if not isinstance(module, nnx.Module):
        raise bad_input(
            "module",
            got=f"a {type(module).__name__}",
            expected="a module of flax.nnx",
            probably="its class without arguments, or a module of flax.linen; Custom wraps any "
            "pair of functions",
        )
    structure, parameters, state = nnx.split(module, nnx.Param, ...)
    for path, variable in nnx.to_flat_state(state):
        kind = type(variable).__name__
        raise not_a_function(f"{kind} at {'.'.join(map(str, path))}", dropout="Rng" in kind)
    flat = {".".join(map(str, each[0])): each for each in nnx.to_flat_state(parameters)}
    for name, (_, variable) in flat.items():
        if not jnp.issubdtype(variable.get_value().dtype, jnp.floating):
            raise not_floating(f"{name}, an array of {variable.get_value().dtype}")
    shapes = {name: variable.get_value().shape for name, (_, variable) in flat.items()}

    def apply(params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        new = nnx.from_flat_state(
            [(path, nnx.Param(params[name])) for name, (path, _) in flat.items()]
        )
        return nnx.merge(structure, new, state)(x)

    return feature_network(
        shapes,
        apply,
        stds,
        Dense(out, w_std_out, b_std_out),
        fan_in=lambda shape: math.prod(shape[:-1]),
        w_std=w_std,
        b_std=b_std,
    )
