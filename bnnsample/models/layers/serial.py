"""Layers one after the other: the triple of a chain, in which errors name the layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, located
from bnnsample.models.kernel import Kernel, Needs, Shape
from bnnsample.models.layers.base import AbstractLayer, Params


def as_layers(owner: str, layers: Any) -> tuple[AbstractLayer, ...]:
    """``layers`` as a tuple; raises where one of them is not a layer."""
    layers = tuple(layers) if isinstance(layers, Iterable) else (layers,)
    for index, layer in enumerate(layers):
        if not isinstance(layer, AbstractLayer):
            raise bad_input(
                f"{owner} layer {index}",
                got=repr(layer),
                expected="a layer such as Dense(512) or Activation('relu')",
                probably="a bare function, to be wrapped as Activation(function)",
            )
    return layers


def place(index: int, layer: AbstractLayer) -> str:
    """How errors name a layer."""
    return f"layer {index} ({type(layer).__name__})"


def shapes(layers: Sequence[AbstractLayer], input_shape: Shape) -> list[Shape]:
    """The shape before each layer and after the last."""
    found = [input_shape]
    for index, layer in enumerate(layers):
        with located(place(index, layer)):
            found.append(layer.output_shape(found[-1]))
    return found


def init(
    layers: Sequence[AbstractLayer], key: Key[Array, ""], input_shape: Shape, dtype: Any
) -> tuple[Params, ...]:
    """Parameters of each layer."""
    return tuple(
        layer.init(jax.random.fold_in(key, index), shape, dtype)
        for index, (layer, shape) in enumerate(
            zip(layers, shapes(layers, input_shape)[:-1], strict=True)
        )
    )


def apply(
    layers: Sequence[AbstractLayer], params: Sequence[Params], x: Float[Array, "n ..."]
) -> Float[Array, "n ..."]:
    """The chain at finite width, for a batch."""
    for layer, own in zip(layers, params, strict=True):
        x = layer.apply(own, x)
    return x


def needs(layers: Sequence[AbstractLayer], output: Needs) -> list[Needs]:
    """What is needed before each layer and after the last, found from the last to the first."""
    found = [output]
    for layer in reversed(layers):
        found.append(layer.needs(found[-1]))
    return found[::-1]


def kernel(
    layers: Sequence[AbstractLayer],
    state: Kernel,
    needs: Sequence[Needs] | None = None,
    *,
    first: int = 0,
) -> Kernel:
    """The chain's action on a kernel, cut down after each layer to what is needed then.

    Errors count layers from ``first``.
    """
    for index, layer in enumerate(layers):
        with located(place(first + index, layer)):
            state = layer.kernel(state)
        if needs is not None:
            state = state.restricted(needs[index])
    return state


def learning_rates(
    layers: Sequence[AbstractLayer], params: Sequence[Params], input_shape: Shape
) -> tuple[Params, ...]:
    """Learning rates of each layer's parameters."""
    return tuple(
        layer.learning_rates(own, shape)
        for layer, own, shape in zip(layers, params, shapes(layers, input_shape)[:-1], strict=True)
    )
