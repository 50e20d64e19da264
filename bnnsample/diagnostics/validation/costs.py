"""What a run would cost, before it is begun: precision, compilations and memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jaxtyping import Array, Float

from bnnsample.diagnostics.findings import Finding
from bnnsample.repriorisation.base import AbstractTarget, Position
from bnnsample.sampling.functionals import LARGE_NETWORK
from bnnsample.sampling.projections import NUM_PROJECTIONS

NATS_LOST = 0.1
"""Error of a log likelihood in float32 from which acceptance suffers; arbitrary."""


def precision(target: AbstractTarget, positions: Float[Array, "positions dim"]) -> Finding:
    """What float32 would lose of differences between log likelihoods, in nats."""
    name = "float32"
    if positions.dtype == jnp.float32:
        return Finding(
            name, None, "in use; what it loses can be told with jax_enable_x64 and data in float64"
        )
    values = np.asarray(_log_likelihoods(target, positions))
    coarse = _log_likelihoods(_as_float32(target), positions.astype(jnp.float32))
    error = np.asarray(coarse, float) - values
    lost = float(np.max(np.abs(error - np.median(error))))
    return Finding(
        name=name,
        ok=True if lost <= NATS_LOST else None,
        figure=f"would lose up to {lost:.2g} nats of the differences of log likelihoods (at most "
        f"{NATS_LOST:g})",
        advice="Stay in float64, or standardise the data and raise the noise",
        value=lost,
        threshold=NATS_LOST,
    )


@jax.jit
def _log_likelihoods(target: AbstractTarget, positions: Float[Array, "positions dim"]) -> Array:
    return jax.lax.map(target.log_likelihood, positions)


def _as_float32[T](tree: T) -> T:
    def one(leaf: Any) -> Any:
        exact = isinstance(leaf, jax.Array | np.ndarray)
        floating = exact and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jnp.asarray(leaf, jnp.float32) if floating else leaf

    return jax.tree.map(one, tree)


def traces(target: AbstractTarget, positions: Float[Array, "positions dim"]) -> Finding:
    """How often the log density is traced for two copies of a target at two positions."""
    count = 0

    def counted(target: AbstractTarget, position: Position) -> Float[Array, ""]:
        nonlocal count
        count += 1
        return target.log_likelihood(position)

    compiled = jax.jit(counted)
    for position in positions[:2]:
        leaves, structure = jax.tree.flatten(target)
        jax.block_until_ready(compiled(jax.tree.unflatten(structure, leaves), position))
    return Finding(
        name="traces",
        ok=count == 1,
        figure=f"the log density is traced {count} times for two copies of the target (at most "
        "once)",
        advice="Probably a target or layer of your own whose pytree has another structure each "
        "time, so that every segment compiles anew",
        value=count,
        threshold=1,
    )


def memory(
    target: AbstractTarget, chains: int, draws: int, x_test: Float[Array, "m ..."] | None
) -> Finding:
    """Bytes of what a run keeps by default and of its chains' states, against free memory."""
    posterior = target.posterior
    position = jax.ShapeDtypeStruct((target.dim,), posterior.x.dtype)
    shapes: Any = jax.eval_shape(target.drawer(x_test), position, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(shapes.predictions))
    if x_test is not None:
        size += len(x_test) * posterior.y.shape[1]
    size += 2 * NUM_PROJECTIONS
    size += posterior.num_parameters if posterior.num_parameters <= LARGE_NETWORK else 0
    # position, gradient, momentum and the proposal's, mean and spread of all parameters
    state = 6 * target.dim + 2 * posterior.num_parameters
    needed = chains * (draws * size + state) * posterior.x.dtype.itemsize
    free = psutil.virtual_memory().available
    return Finding(
        name="memory",
        ok=needed < free,
        figure=f"about {_amount(needed)} for what is kept and the chains' states, {_amount(free)} "
        "free",
        advice="Give sample() an out= folder, to which draws go as they are made, or keep less",
        value=needed,
        threshold=free,
    )


def _amount(size: float) -> str:
    return f"{size / 2**30:.2g} GiB" if size >= 2**29 else f"{size / 2**20:.2g} MiB"
