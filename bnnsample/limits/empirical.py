"""Kernels of finite networks at given parameters, by whichever of three methods is cheapest.

The tangent kernel of outputs ``o`` and ``q`` is ``J_o(x1) R J_q(x2)'`` with the Jacobian ``J`` over
all parameters and their learning rates ``R`` (1 but in standard parameterisation). Novak et al.
2022 (2206.08720) compare: contracting Jacobians, products of the kernel with vectors, and
structured derivatives, which never form the Jacobian of an affine layer but the inner products of
its inputs and of the derivatives of its outputs.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import bad_input
from bnnsample.limits.kernels import as_input_pair
from bnnsample.limits.structured import (
    contract,
    contract_jacobians,
    costs_per_pair,
    structured_derivatives,
)
from bnnsample.models.network import Network, Parameters
from bnnsample.numerics import full_precision

type Method = Literal["auto", "jacobian", "vector", "structured"]


@full_precision
def empirical_nngp(
    network: Network, params: Parameters, x1: ArrayLike, x2: ArrayLike | None = None
) -> Float[Array, "n1 n2"]:
    """Covariance of one output given the hidden parameters: ``Psi(x1) Psi(x2)'``.

    The readout is integrated out, so this is the NNGP kernel in the limit, and its mean over hidden
    parameters is the covariance of the finite network's output at any width.
    """
    first, second = as_input_pair(network, x1, x2)
    features = network.features(params.hidden, first)
    return features @ (features if second is None else network.features(params.hidden, second)).T


@full_precision
def empirical_ntk(
    network: Network,
    params: Parameters,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    outputs: Literal["mean", "all"] = "mean",
    method: Method = "auto",
) -> Float[Array, "n1 n2 ..."]:
    """The tangent kernel of a finite network: (n1, n2), averaged over outputs, or with
    ``outputs="all"`` (n1, n2, o, o).

    ``method`` is ``"jacobian"`` (contraction), ``"vector"`` (kernel-vector products, which need the
    least memory) or ``"structured"``; ``"auto"`` takes the one with the fewest operations for these
    shapes. All agree to rounding.
    """
    first, second = as_input_pair(network, x1, x2)
    second = first if second is None else second
    methods = {"jacobian": _by_jacobians, "vector": _by_vectors, "structured": _by_structure}
    for name, value, known in (
        ("method", method, ("auto", *methods)),
        ("outputs", outputs, ("mean", "all")),
    ):
        if value not in known:
            raise bad_input(
                f"empirical_ntk {name}",
                got=repr(value),
                expected=f"one of {', '.join(map(repr, known))}",
                probably="a typing error",
            )
    mean = outputs == "mean"
    if method == "auto":
        method = cheapest_method(network, first.shape[1:], len(first), len(second), mean=mean)
    return methods[method](network, params, first, second, mean)


def cheapest_method(
    network: Network, input_shape: tuple[int, ...], n1: int, n2: int, *, mean: bool = True
) -> Method:
    """The method with the fewest multiplications for n1 x n2 examples (2206.08720, table 1)."""
    outputs = network.readout_layer.width
    size = sum(leaf.size for leaf in jax.tree.leaves(network.parameter_shapes(input_shape)))
    forward, contraction = costs_per_pair(network, input_shape, mean)
    backward = (n1 + n2) * outputs * forward
    costs: dict[Method, int] = {
        "structured": backward + n1 * n2 * contraction,
        "jacobian": backward + n1 * n2 * (outputs if mean else outputs**2) * size,
        "vector": (n2 + n1 * n2) * outputs * forward,
    }
    return min(costs, key=costs.__getitem__)


def _by_jacobians(network: Network, params: Parameters, x1: Array, x2: Array, mean: bool) -> Array:
    rates = network.learning_rates(params, x1.shape[1:])
    jacobian = jax.jacrev(lambda p, example: network.apply(p, example[None])[0])
    first, second = (jax.vmap(jacobian, in_axes=(None, 0))(params, x) for x in (x1, x2))
    total = contract_jacobians(first, second, rates, network.readout_layer.width, mean)
    return jnp.asarray(total)


def _by_vectors(network: Network, params: Parameters, x1: Array, x2: Array, mean: bool) -> Array:
    rates = network.learning_rates(params, x1.shape[1:])
    basis = jnp.eye(network.readout_layer.width, dtype=x1.dtype)

    def column(example: Array) -> Array:
        _, pull = jax.vjp(lambda p: network.apply(p, example[None])[0], params)

        def product(direction: Array) -> Array:
            gradient = jax.tree.map(lambda g, rate: g * rate, pull(direction)[0], rates)
            return jax.jvp(lambda p: network.apply(p, x1), (params,), (gradient,))[1]

        products = jax.vmap(product)(basis)  # (q, n1, o)
        return jnp.einsum("qnq->n", products) / len(basis) if mean else products

    columns = jax.lax.map(column, x2)
    return columns.T if mean else columns.transpose(2, 0, 3, 1)


def _by_structure(network: Network, params: Parameters, x1: Array, x2: Array, mean: bool) -> Array:
    first, second = (structured_derivatives(network, params, x) for x in (x1, x2))
    rates = network.learning_rates(params, x1.shape[1:])
    return contract(network, first, second, rates, mean=mean)
