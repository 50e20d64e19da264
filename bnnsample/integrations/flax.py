"""Modules of Flax NNX as feature maps."""

from __future__ import annotations

import math
from typing import Any

from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.integrations.features import Stds, feature_network, installed
from bnnsample.models.kernel import Shape
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
    more, all but the last summed over, ``b_std`` for those of one axis called ``bias``. ``stds`` of
    a parameter's path and shape says otherwise, and must for all others; None leaves it to these
    rules. The values that the module has are not used. A readout of ``out`` outputs follows.

    Raises ``ValueError`` for what is not a function of parameters and inputs: batch statistics,
    dropout and other state.
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
        raise bad_input(
            "module",
            got=f"{type(variable).__name__} at {'.'.join(map(str, path))}",
            expected="parameters and nothing else",
            probably="dropout, whose noise is not part of a posterior"
            if "Rng" in type(variable).__name__
            else "batch normalisation, which makes one example's features depend on the others",
        )
    paths = {".".join(map(str, path)): path for path, _ in nnx.to_flat_state(parameters)}
    shapes = {
        name: variable.get_value().shape
        for name, (_, variable) in zip(paths, nnx.to_flat_state(parameters), strict=True)
    }

    def apply(params: dict[str, Array], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        new = nnx.from_flat_state([(paths[name], nnx.Param(params[name])) for name in paths])
        return nnx.merge(structure, new, state)(x)

    def std(path: str, shape: Shape) -> float | None:
        if len(shape) >= 2:
            return w_std / math.prod(shape[:-1]) ** 0.5
        return b_std if path.split(".")[-1] == "bias" else None

    return feature_network(shapes, apply, std, stds, out, w_std_out, b_std_out)
