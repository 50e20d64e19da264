"""Structured derivatives: tangent kernels of affine layers without their Jacobians (2206.08720).

An affine layer's output at position p is ``a_p W``, so the derivative of a network's output in
``W`` is ``sum_p a_p (x) d_p`` with ``d_p`` the derivative in the layer's output. Two such have the
inner product ``sum_pq (a_p . a'_q) (d_p . d'_q)``, which needs inputs and derivatives alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.models.kernel import Shape, number_of_positions
from bnnsample.models.layers.base import AbstractLayer, Params
from bnnsample.models.layers.conv import Conv
from bnnsample.models.layers.dense import Dense
from bnnsample.models.layers.residual import Residual
from bnnsample.models.network import Network, Parameters


class Derivatives(NamedTuple):
    """What the tangent kernel needs of a set of n examples and o outputs.

    ``inputs``: of each hidden affine layer (n, positions, fan_in). ``outputs``: the network's
    derivatives in that layer's output (n, o, positions, channels). ``others``: Jacobians of the
    parameters of all other layers (n, o, ...). ``features``: of the readout (n, p).
    """

    inputs: list[Float[Array, "n positions fan_in"]]
    outputs: list[Float[Array, "n o positions channels"]]
    others: list[Params]
    features: Float[Array, "n p"]


def structured_derivatives(
    network: Network, params: Parameters, x: Float[Array, "n ..."]
) -> Derivatives:
    """The derivatives of ``network`` at ``params`` for a batch of examples."""
    hidden = [own for _, own in flat_layers(network.hidden_layers, params.hidden)]
    affine = [is_affine(layer) for layer, _ in flat_layers(network.hidden_layers, params.hidden)]
    shapes = [shape for _, shape in affine_shapes(network, x.shape[1:])]

    def of_example(example: Array) -> Derivatives:
        def forward(taps: list[Array], others: list[Params]) -> tuple[Array, Any]:
            rest = iter(others)
            owns = [own if fixed else next(rest) for own, fixed in zip(hidden, affine, strict=True)]
            inputs: list[Array] = []
            out = _walk(network.hidden_layers, iter(owns), iter(taps), example[None], inputs)
            features = network.readout_layer.readout_features(out)[0]
            return features @ params.readout, (inputs, features)

        taps = [jnp.zeros((1, *shape), x.dtype) for shape in shapes]
        others = [own for own, fixed in zip(hidden, affine, strict=True) if not fixed]
        if not jax.tree.leaves((taps, others)):
            _, (inputs, features) = forward(taps, others)
            return Derivatives(inputs, taps, others, features)
        jacobian = jax.jacrev(forward, argnums=(0, 1), has_aux=True)
        (outputs, others), (inputs, features) = jacobian(taps, others)
        outputs = [out.reshape(len(out), -1, out.shape[-1]) for out in outputs]
        return Derivatives(inputs, outputs, others, features)

    return jax.vmap(of_example)(x)


def contract(
    network: Network,
    first: Derivatives,
    second: Derivatives,
    rates: Parameters,
    *,
    mean: bool,
) -> Float[Array, "n m ..."]:
    """The tangent kernel from both sets' derivatives, averaged over outputs or for all pairs."""
    outputs = network.readout_layer.width
    total = (first.features * rates.readout.T) @ second.features.T
    if not mean:
        total = total[:, :, None, None] * jnp.eye(outputs, dtype=total.dtype)[None, None]
    flat = list(flat_layers(network.hidden_layers, rates.hidden))
    affine = [(layer, own) for layer, own in flat if is_affine(layer)]
    parts = zip(affine, first.inputs, first.outputs, second.inputs, second.outputs, strict=True)
    for (layer, rate), inputs1, outputs1, inputs2, outputs2 in parts:
        total += _contract_affine(layer, rate, inputs1, outputs1, inputs2, outputs2, mean)
    others = [own for layer, own in flat if not is_affine(layer)]
    return total + contract_jacobians(first.others, second.others, others, outputs, mean)


def contract_jacobians(
    first: Params, second: Params, rates: Params, outputs: int, mean: bool
) -> Float[Array, "n m ..."] | float:
    """``J R J'`` summed over all leaves, each (n, o, ...) and (m, o, ...)."""

    def of_leaf(a: Array, b: Array, rate: Any) -> Array:
        rate = jnp.asarray(rate, a.dtype)
        a = (a * rate.reshape((1,) * (a.ndim - rate.ndim) + rate.shape)).reshape(*a.shape[:2], -1)
        b = b.reshape(*b.shape[:2], -1)
        if mean:
            return jnp.einsum("noP,moP->nm", a, b) / outputs
        return jnp.einsum("noP,mqP->nmoq", a, b)

    leaves = jax.tree.leaves(jax.tree.map(of_leaf, first, second, rates))
    return sum(leaves, start=0.0)


def costs_per_pair(network: Network, input_shape: Shape, mean: bool) -> tuple[int, int]:
    """Multiplications of one forward pass, and of contracting the affine layers of one pair."""
    outputs = network.readout_layer.width
    pairs = outputs if mean else outputs**2
    forward = contraction = 0
    for fan_in, shape in affine_shapes(network, input_shape):
        positions, channels = number_of_positions(shape), shape[-1]
        forward += positions * fan_in * channels
        contraction += min(_costs(positions, fan_in, channels, pairs))
    return forward, contraction


def affine_shapes(network: Network, input_shape: Shape) -> list[tuple[int, Shape]]:
    """Fan-in and output shape of every hidden affine layer, in the order of a forward pass."""
    found: list[tuple[int, Shape]] = []

    def visit(layers: Sequence[AbstractLayer], shape: Shape) -> Shape:
        for layer in layers:
            if isinstance(layer, Residual):
                visit(layer.chains["branch"], shape)
                shape = visit(layer.chains["shortcut"], shape)
                continue
            out = layer.output_shape(shape)
            if isinstance(layer, Dense | Conv):
                found.append((layer.fan_in(shape), out))
            shape = out
        return shape

    visit(network.hidden_layers, input_shape)
    return found


def flat_layers(
    layers: Sequence[AbstractLayer], trees: Iterable[Params]
) -> Iterator[tuple[AbstractLayer, Params]]:
    """Layers with what belongs to them, residual blocks opened, in the order of a forward pass."""
    for layer, own in zip(layers, trees, strict=True):
        if isinstance(layer, Residual):
            for name, chain in layer.chains.items():
                yield from flat_layers(chain, getattr(own, name))
        else:
            yield layer, own


def is_affine(layer: AbstractLayer) -> bool:
    """Whether the layer's derivatives have the structure used here."""
    return isinstance(layer, Dense | Conv)


def _walk(
    layers: Sequence[AbstractLayer],
    owns: Iterator[Params],
    taps: Iterator[Array],
    x: Float[Array, "1 ..."],
    inputs: list[Array],
) -> Float[Array, "1 ..."]:
    """A forward pass that records what affine layers see and adds ``taps`` to what they return."""
    for layer in layers:
        if isinstance(layer, Residual):
            branch, shortcut = layer.chains.values()
            x, start = _walk(branch, owns, taps, x, inputs), x
            x = x + _walk(shortcut, owns, taps, start, inputs)
        elif isinstance(layer, Dense | Conv):
            seen = layer.patches(x)[0]
            inputs.append(seen.reshape(-1, seen.shape[-1]))
            x = layer.apply(next(owns), x) + next(taps)
        else:
            x = layer.apply(next(owns), x)
    return x


def _costs(positions: int, fan_in: int, channels: int, output_pairs: int) -> tuple[int, int]:
    """Multiplications per pair of examples: by inner products, and by the layer's Jacobian."""
    by_products = positions**2 * (fan_in + output_pairs * channels)
    return by_products, output_pairs * fan_in * channels


def _contract_affine(
    layer: AbstractLayer,
    rates: dict[str, Any],
    inputs1: Array,
    outputs1: Array,
    inputs2: Array,
    outputs2: Array,
    mean: bool,
) -> Array:
    assert isinstance(layer, Dense | Conv)
    outputs, positions, channels = outputs1.shape[1:]
    fan_in = inputs1.shape[-1]
    by_products, by_jacobian = _costs(positions, fan_in, channels, outputs if mean else outputs**2)
    if by_products <= by_jacobian:
        seen = jnp.einsum("npf,mrf->nmpr", inputs1, inputs2)
        if mean:
            weights = jnp.einsum("nmpr,nopc,morc->nm", seen, outputs1, outputs2) / outputs
        else:
            weights = jnp.einsum("nmpr,nopc,mqrc->nmoq", seen, outputs1, outputs2)
    else:
        jacobian1, jacobian2 = (
            jnp.einsum("npf,nopc->nofc", inputs, derivatives)
            for inputs, derivatives in ((inputs1, outputs1), (inputs2, outputs2))
        )
        weights = contract_jacobians(jacobian1, jacobian2, 1.0, outputs, mean)
    total = rates["weight"] * layer.w_std**2 / fan_in * weights
    if layer.b_std is None:
        return total
    sum1, sum2 = (jnp.sum(out, axis=2) for out in (outputs1, outputs2))
    bias = contract_jacobians(sum1, sum2, 1.0, outputs, mean)
    return total + rates["bias"] * layer.b_std**2 * bias
