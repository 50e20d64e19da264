"""Networks: layers composed serially, the last one a linear readout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input, check_count
from bnnsample.models.kernel import Kernel, input_kernel
from bnnsample.models.layers import AbstractLayer, Activation, Dense, Scale, Shape


class Parameters(NamedTuple):
    """A network's parameters, N(0, 1) a priori.

    ``hidden``: one pytree per hidden layer. ``readout``: the weights ``W`` (p, o) of the last
    layer, its bias being the last row, so that ``f = features @ readout``.
    """

    hidden: tuple[Any, ...]
    readout: Float[Array, "p o"]


@dataclass(frozen=True)
class Network:
    """``layers`` applied in turn; the last one must be ``Dense`` (Psi and W of theory section 1).

    Static and hashable: parameters are passed to its methods, never stored.
    """

    layers: Sequence[AbstractLayer]

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        for index, layer in enumerate(layers):
            if not isinstance(layer, AbstractLayer):
                raise bad_input(
                    f"Network layer {index}",
                    got=repr(layer),
                    expected="a layer such as Dense(512) or Activation('relu')",
                    probably="a bare function, to be wrapped as Activation(function)",
                )
        if not layers or not isinstance(layers[-1], Dense):
            raise bad_input(
                "Network",
                got=f"the last layer {layers[-1]!r}" if layers else "no layers",
                expected="a linear readout: Dense(outputs) as the last layer",
                probably="the readout was left out, or an activation follows it",
            )
        object.__setattr__(self, "layers", layers)

    @property
    def hidden_layers(self) -> tuple[AbstractLayer, ...]:
        return tuple(self.layers[:-1])

    @property
    def readout_layer(self) -> Dense:
        readout = self.layers[-1]
        assert isinstance(readout, Dense)
        return readout

    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any = None) -> Parameters:
        """Parameters from the prior, for examples of ``input_shape`` (no batch axis).

        ``dtype`` defaults to JAX's floating type: float64 where x64 is enabled.
        """
        dtype = jnp.result_type(float) if dtype is None else dtype
        hidden_key, readout_key = jax.random.split(key)
        hidden, shape = [], input_shape
        for index, layer in enumerate(self.hidden_layers):
            hidden.append(layer.init(jax.random.fold_in(hidden_key, index), shape, dtype))
            shape = layer.output_shape(shape)
        readout_shape = self.readout_layer.readout_shape(shape)
        return Parameters(tuple(hidden), jax.random.normal(readout_key, readout_shape, dtype))

    def parameter_shapes(self, input_shape: Shape, dtype: Any = None) -> Parameters:
        """The parameters' shapes as ``jax.ShapeDtypeStruct``; raises if the layers do not fit."""
        return jax.eval_shape(lambda: self.init(jax.random.key(0), input_shape, dtype))

    def features(self, hidden: tuple[Any, ...], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        """The scaled readout features ``Psi`` of a batch."""
        for layer, params in zip(self.hidden_layers, hidden, strict=True):
            x = layer.apply(params, x)
        return self.readout_layer.readout_features(x)

    def apply(self, params: Parameters, x: Float[Array, "n ..."]) -> Float[Array, "n o"]:
        """The network's outputs ``f = Psi W`` for a batch."""
        return self.features(params.hidden, x) @ params.readout

    def kernel(self, x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"]) -> Kernel:
        """The NNGP kernel of one output, with its diagonals."""
        kernel = input_kernel(x1, x2)
        for layer in self.layers:
            kernel = layer.kernel(kernel)
        return kernel


def fcn(
    depth: int,
    width: int,
    out: int,
    activation: str | Callable[[Array], Array] = "gelu",
    *,
    w_std: Scale = 2**0.5,
    b_std: Scale = 0.1,
    w_std_out: Scale = 1.0,
    b_std_out: Scale = 0.1,
) -> Network:
    """A fully connected network of ``depth`` hidden layers of ``width`` units and ``out`` outputs.

    Scales are standard deviations in NTK parameterisation; the defaults are those of the
    experiments in this repository.
    """
    check_count("fcn depth", depth)
    hidden = [Dense(width, w_std, b_std), Activation(activation)] * depth
    return Network([*hidden, Dense(out, w_std_out, b_std_out)])
