"""Whether a target's shapes and types are those that its posterior asks for."""

from __future__ import annotations

import jax
from jaxtyping import Array, Float

from bnnsample.diagnostics.findings import Finding
from bnnsample.repriorisation.base import AbstractTarget


def shapes(target: AbstractTarget, x_test: Float[Array, "m ..."] | None) -> Finding:
    """What a target makes of a position, against what its posterior asks for."""
    posterior = target.posterior
    position = jax.ShapeDtypeStruct((target.dim,), posterior.x.dtype)
    density = jax.eval_shape(target.logdensity, position)
    draw = jax.eval_shape(target.drawer(x_test), position, jax.random.key(0))
    outputs = (len(posterior.x), posterior.network.readout_layer.width)
    fitted = jax.eval_shape(target.fitted, position)
    found = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), draw.params)
    wanted = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), posterior.parameter_shapes)
    ok = (
        (density.shape, density.dtype) == ((), posterior.x.dtype)
        and fitted.shape == outputs
        and found == wanted
    )
    return Finding(
        name="shapes",
        ok=ok,
        figure=f"{target.dim} numbers a position, {posterior.num_parameters} parameters, outputs "
        f"{fitted.shape}, log density {density.shape} in {density.dtype}",
        advice=f"Expected one log density in {posterior.x.dtype}, outputs {outputs} and parameters "
        "as the network's",
        value=target.dim,
    )
