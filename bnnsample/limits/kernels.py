"""The NNGP and tangent kernels of a network: matrices of what its layers do to pairs of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import as_finite_array, bad_input
from bnnsample.limits.plan import Plan, memory_budget, plan_tiles
from bnnsample.limits.tiles import (
    Kind,
    computed_tiles,
    diagonals,
    stacked_tiles,
    with_tiles,
    with_tiles_in_place,
)
from bnnsample.models.layers import serial
from bnnsample.models.network import Network
from bnnsample.models.posterior import as_more_inputs
from bnnsample.models.scales import check_known
from bnnsample.numerics import full_precision


class Kernels(NamedTuple):
    """Both kernels of a network for the same inputs."""

    nngp: Float[Array, "n1 ..."]
    ntk: Float[Array, "n1 ..."]


def nngp(
    network: Network,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    diagonal: bool = False,
    memory: int | None = None,
) -> Float[Array, "n1 ..."]:
    """Prior covariance of one output at infinite width (Lee et al. 2018, 1711.00165).

    For inputs ``x1`` (n1, ...) and ``x2`` (n2, ...), which defaults to ``x1``; then the result is
    symmetric and half of it is computed. Outputs are independent and share it. With ``diagonal``
    the variances (n1,) alone. Differentiable in the inputs and in the network's scales.

    ``memory`` is how many bytes may be used beside the inputs given, the result among them; by
    default half of what the device has free. Tiles are spread over all local devices.

    Raises ``ValueError`` for inputs that do not fit, too little memory and covariances too large
    for the floating type, ``NoKnownLimit`` for networks that have no closed limit.
    """
    return compute(network, x1, x2, ("nngp",), diagonal=diagonal, memory=memory)[0]


def ntk(
    network: Network,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    diagonal: bool = False,
    memory: int | None = None,
) -> Float[Array, "n1 ..."]:
    """Neural tangent kernel of one output at infinite width (Jacot et al. 2018, 1806.07572).

    The limit of ``J(x1) J(x2)'`` over all parameters. Arguments, shapes and errors as ``nngp``.
    """
    return compute(network, x1, x2, ("ntk",), diagonal=diagonal, memory=memory)[0]


def nngp_and_ntk(
    network: Network,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    diagonal: bool = False,
    memory: int | None = None,
) -> Kernels:
    """Both kernels, sharing the work. Arguments, shapes and errors as ``nngp``."""
    return Kernels(*compute(network, x1, x2, ("nngp", "ntk"), diagonal=diagonal, memory=memory))


@full_precision
def compute(
    network: Network,
    x1: ArrayLike,
    x2: ArrayLike | None,
    kinds: tuple[Kind, ...],
    *,
    diagonal: bool = False,
    memory: int | None = None,
) -> tuple[Array, ...]:
    """The kernels of the given ``kinds``."""
    first, second = as_input_pair(network, x1, x2)
    network = _with_scales_of(network, first.dtype)
    budget = memory_budget(memory)
    if diagonal:
        if second is not None:
            raise bad_input(
                "diagonal",
                got="x1 and x2",
                expected="x1 alone, whose variances are returned",
                probably="the full matrix is wanted: leave diagonal out",
            )
        # of one row, each of whose tiles is a batch
        columns = _plan(network, first[:1], first, kinds, budget).columns
        return _checked(diagonals(network, first, kinds, columns))
    plan = _plan(network, first, second, kinds, budget)
    results = tuple(jnp.zeros(plan.shape, first.dtype) for _ in kinds)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((network, first, second))):
        tile = (plan.rows, plan.columns)
        stacks = stacked_tiles(network, first, second, plan.starts, tile, kinds)
        return with_tiles(results, stacks, plan.starts, plan.symmetric)
    for starts, stacks in computed_tiles(network, first, second, plan, kinds):
        results = with_tiles_in_place(results, stacks, starts, plan.symmetric)
        jax.block_until_ready(results)
    return _checked(results)


def _checked(kernels: tuple[Array, ...]) -> tuple[Array, ...]:
    """``kernels``; raises where one is not finite, as covariances of large inputs are."""
    for kernel in kernels:
        if not isinstance(kernel, Tracer) and not _all_finite(kernel):
            raise bad_input(
                "network and inputs",
                got="a kernel that is not finite",
                expected=f"covariances whose squares are finite in {kernel.dtype}",
                probably="inputs that are not standardised, or scales that grow with depth",
            )
    return kernels


@jax.jit
def _all_finite(kernel: Array) -> Array:
    return jnp.all(jnp.isfinite(kernel))


def as_input_pair(network: Network, x1: object, x2: object) -> tuple[Array, Array | None]:
    """Inputs that fit ``network``, of one floating type, the wider of the two."""
    check_network(network)
    first = as_finite_array("x1", x1)
    serial.shapes(network.layers, first.shape[1:])
    if x2 is None:
        return first, None
    second = as_more_inputs("x2", x2, "x1", first)
    dtype = np.promote_types(first.dtype, second.dtype)
    return first.astype(dtype), second.astype(dtype)


def check_network(network: object) -> Network:
    """``network``; raises unless it is a ``Network``."""
    if not isinstance(network, Network):
        raise bad_input(
            "network",
            got=type(network).__name__,
            expected="a Network",
            probably="a list of layers, to be wrapped as Network(layers), or one kernel",
        )
    check_known(network)
    return network


def _with_scales_of(network: Network, dtype: np.dtype) -> Network:
    """``network`` whose scales, where they are arrays, are of the type of its inputs."""
    return jax.tree.map(
        lambda scale: jnp.asarray(scale, dtype) if hasattr(scale, "dtype") else scale, network
    )


def _plan(
    network: Network, x1: Array, x2: Array | None, kinds: Sequence[Kind], budget: int
) -> Plan:
    shape = (len(x1), len(x1 if x2 is None else x2))
    results = len(kinds) * shape[0] * shape[1] * x1.dtype.itemsize
    # as checked and on devices
    copies = 2 * (x1.nbytes + (0 if x2 is None else x2.nbytes))
    return plan_tiles(
        network,
        x1.shape[1:],
        shape,
        x1.dtype.itemsize,
        symmetric=x2 is None,
        memory=budget,
        held_bytes=results + copies,
        kinds=len(kinds),
    )
