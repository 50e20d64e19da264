"""The directions of the inputs that the data see, and first-layer weights along them alone.

A first layer ``Dense`` acts on training inputs ``X`` (n, d) by ``X W``. Where n < d, with
``X' = Q R`` and ``Q`` (d, n) orthonormal, ``X W = (X Q)(Q' W)``: the likelihood sees
``U = Q' W`` (n, width) alone. A priori ``U`` is N(0, I) and independent of ``(I - Q Q') W``, which
the data therefore leave as it was: ``W = Q U + (I - Q Q') xi`` with ``xi`` from N(0, I), exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.models.layers import serial
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.models.layers.dense import Dense
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import hyperparameters
from bnnsample.numerics import full_precision
from bnnsample.pytrees import as_pytree
from bnnsample.randomness import normal


@as_pytree("basis", "posterior", "fixed", "fixed_params")
@dataclass(frozen=True, eq=False)
class Span:
    """The span of the first layer's inputs, and the posterior of the weights along it.

    ``basis``: ``Q``, orthonormal columns. ``posterior``: a network that starts with that layer, on
    inputs in this basis. ``fixed``, ``fixed_params``: layers before it, trees without a leaf.
    """

    basis: Float[Array, "d n"]
    posterior: Posterior
    fixed: tuple[AbstractLayer, ...]
    fixed_params: tuple[Any, ...]

    @full_precision
    def lift(self, hidden: tuple[Any, ...], key: Key[Array, ""]) -> tuple[Any, ...]:
        """Hidden parameters of the whole network from those of ``self.posterior``."""
        first, *others = hidden
        seen = first["weight"]
        xi = normal(key, (self.basis.shape[0], seen.shape[1]), seen.dtype)
        weight = xi + self.basis @ (seen - self.basis.T @ xi)
        return (*self.fixed_params, {**first, "weight": weight}, *others)

    @full_precision
    def widened(self, x_test: Float[Array, "m ..."]) -> Widened:
        """Test inputs by what they have along the span and beside it."""
        inputs = serial.apply(self.fixed, self.fixed_params, x_test)
        along = inputs @ self.basis
        _, triangle = jnp.linalg.qr((inputs - along @ self.basis.T).T)
        widened = jnp.concatenate([along, triangle.T], axis=1)
        scale = (widened.shape[1] / inputs.shape[1]) ** 0.5
        return Widened(self.posterior.network, widened * scale)


@as_pytree("network", "inputs")
@dataclass(frozen=True, eq=False)
class Widened:
    """Test inputs in a basis of the span and of what they have beside it.

    ``inputs`` (m, r), with r = n + k: the first layer's weights along k more directions are drawn
    with a prediction, in place of all d.
    """

    network: Network
    inputs: Float[Array, "m r"]

    def features(self, sampled: tuple[Any, ...], key: Key[Array, ""]) -> Float[Array, "m p"]:
        """Readout features of the test inputs, for weights sampled along the span."""
        first, *others = sampled
        seen = first["weight"]
        more = self.inputs.shape[1] - seen.shape[0]
        weight = jnp.concatenate([seen, normal(key, (more, seen.shape[1]), seen.dtype)])
        return self.network.features(({**first, "weight": weight}, *others), self.inputs)


def span_of(posterior: Posterior) -> Span | None:
    """The span of the training inputs.

    None where it would save nothing, as there are as many points as input dimensions, where the
    first layer with parameters is not a hidden ``Dense``, or its inputs depend on hyperparameters.
    """
    network = posterior.network
    fixed, empty = network.fixed_layers(posterior.input_shape)
    layers = network.layers[len(fixed) :]
    # a subclass need not be linear
    if len(layers) == 1 or type(layers[0]) is not Dense or hyperparameters(fixed):
        return None
    inputs = serial.apply(fixed, empty, posterior.x)
    n, d = inputs.shape
    if n >= d:
        return None
    basis, triangle = jnp.linalg.qr(inputs.T)
    # Dense divides by the root of its fan-in, which is n now
    reduced = triangle.T * (n / d) ** 0.5
    return Span(
        basis,
        Posterior(Network(layers), reduced, posterior.y, posterior.likelihood),
        fixed,
        empty,
    )
