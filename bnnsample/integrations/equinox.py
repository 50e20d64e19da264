"""Modules of Equinox as feature maps."""

from __future__ import annotations

import math
from typing import Any

import jax
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.integrations.features import Stds, feature_network, installed
from bnnsample.models.kernel import Shape
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
    rules. The values that the module has are not used. A readout of ``out`` outputs follows.

    Raises ``ValueError`` for what is not a function of parameters and inputs: dropout, batch
    normalisation, other state, and arrays that are not of floating-point numbers.
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
        if isinstance(part, stateful):
            raise bad_input(
                "module",
                got=f"a {type(part).__name__} inside",
                expected="a function of parameters and one example",
                probably="dropout, whose noise is not part of a posterior"
                if isinstance(part, eqx.nn.Dropout)
                else "batch normalisation, which makes one example's features depend on the others",
            )
        if eqx.is_array(part) and not eqx.is_inexact_array(part):
            raise bad_input(
                "module",
                got=f"an array of {part.dtype}",
                expected="arrays of floating-point numbers, which become parameters",
                probably="a counter or an index, which has no prior",
            )
    parameters, static = eqx.partition(module, eqx.is_inexact_array)
    with_paths, structure = jax.tree.flatten_with_path(parameters)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
        for path, leaf in with_paths
    }

    def apply(params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        whole = eqx.combine(
            jax.tree.unflatten(structure, [params[name] for name in shapes]), static
        )
        return jax.vmap(whole)(x)

    def std(path: str, shape: Shape) -> float | None:
        if path.split(".")[-1] == "bias":
            return b_std
        return w_std / math.prod(shape[1:]) ** 0.5 if len(shape) >= 2 else None

    return feature_network(shapes, apply, std, stds, out, w_std_out, b_std_out)
