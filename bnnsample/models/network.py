"""Networks: layers composed serially, the last one a linear readout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.kernel import Kernel, Needs, Shape, input_kernel
from bnnsample.models.layers import serial
from bnnsample.models.layers.base import AbstractLayer
from bnnsample.models.layers.dense import Dense
from bnnsample.models.scales import check_known
from bnnsample.numerics import full_precision
from bnnsample.pytrees import as_pytree


class Parameters(NamedTuple):
    """A network's parameters, N(0, 1) a priori.

    ``hidden``: one pytree per hidden layer. ``readout``: the weights ``W`` (p, o) of the last
    layer, its bias being the last row, so that ``f = features @ readout``.
    """

    hidden: tuple[Any, ...]
    readout: Float[Array, "p o"]


def named_parameters(params: Parameters) -> dict[str, Any]:
    """Arrays of parameters by name, in their order: ``layer_0_weight``, ..., ``readout``."""
    named = {}
    for index, layer in enumerate(params.hidden):
        for path, leaf in jax.tree.leaves_with_path(layer):
            name = jax.tree_util.keystr(path, simple=True, separator="_")
            named[f"layer_{index}_{name}"] = leaf
    return named | {"readout": params.readout}


@as_pytree("layers")
@dataclass(frozen=True)
class Network:
    """``layers`` applied in turn; the last one must be ``Dense`` (W, of features Psi).

    Parameters are passed to its methods, never stored. As a pytree its leaves are the layers'
    scales: what depends on a network can be compiled once for all scales and differentiated in
    them. Shapes are those of a single example, without the batch axis.
    """

    layers: Sequence[AbstractLayer]

    def __post_init__(self) -> None:
        layers = serial.as_layers("Network", self.layers)
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
        """Parameters from the prior, for examples of ``input_shape``.

        ``dtype`` defaults to JAX's floating type: float64 where x64 is enabled.
        """
        dtype = jnp.result_type(float) if dtype is None else dtype
        hidden_key, readout_key = jax.random.split(key)
        shapes = serial.shapes(self.layers, input_shape)
        hidden = serial.init(self.hidden_layers, hidden_key, input_shape, dtype)
        readout_shape = self.readout_layer.readout_shape(shapes[-2])
        return Parameters(hidden, jax.random.normal(readout_key, readout_shape, dtype))

    def parameter_shapes(self, input_shape: Shape, dtype: Any = None) -> Parameters:
        """The parameters' shapes as ``jax.ShapeDtypeStruct``; raises if the layers do not fit."""
        return jax.eval_shape(lambda: self.init(jax.random.key(0), input_shape, dtype))

    @full_precision
    def features(self, hidden: tuple[Any, ...], x: Float[Array, "n ..."]) -> Float[Array, "n p"]:
        """The scaled readout features ``Psi`` of a batch; all scales must have values."""
        check_known(self)
        return self.readout_layer.readout_features(serial.apply(self.hidden_layers, hidden, x))

    @full_precision
    def apply(self, params: Parameters, x: Float[Array, "n ..."]) -> Float[Array, "n o"]:
        """The network's outputs ``f = Psi W`` for a batch."""
        return self.features(params.hidden, x) @ params.readout

    @full_precision
    def kernel(
        self, x1: Float[Array, ...], x2: Float[Array, ...], *, wants_ntk: bool = False
    ) -> Kernel:
        """The limit of one output for one pair of examples, of any supported architecture.

        Layers without parameters that come first act on the inputs themselves.
        """
        fixed, empty = self.fixed_layers(x1.shape)
        x1, x2 = (serial.apply(fixed, empty, x[None])[0] for x in (x1, x2))
        layers = self.layers[len(fixed) :]
        needs = serial.needs(layers, Needs())
        kernel = input_kernel(x1, x2, needs[0], wants_ntk)
        return serial.kernel(layers, kernel, needs[1:], first=len(fixed))

    def learning_rates(self, params: Parameters, input_shape: Shape) -> Parameters:
        """How fast gradient flow moves each parameter; 1 but in standard parameterisation.

        For the readout a column (p, 1), as the bias is its last row.
        """
        shape = serial.shapes(self.layers, input_shape)[-2]
        readout = self.readout_layer.learning_rates({}, shape)
        rows = [jnp.full((shape[0], 1), readout["weight"], params.readout.dtype)]
        if "bias" in readout:
            rows.append(jnp.full((1, 1), readout["bias"], params.readout.dtype))
        hidden = serial.learning_rates(self.hidden_layers, params.hidden, input_shape)
        return Parameters(hidden, jnp.concatenate(rows))

    def fixed_layers(self, input_shape: Shape) -> tuple[tuple[AbstractLayer, ...], tuple[Any, ...]]:
        """The layers before the first one with parameters, and their trees without a leaf.

        They act on the inputs themselves.
        """

        def parameters(layer: AbstractLayer, shape: Shape) -> Any:
            return jax.eval_shape(lambda: layer.init(jax.random.key(0), shape, float))

        shapes = serial.shapes(self.hidden_layers, input_shape)
        empty = []
        for layer, shape in zip(self.hidden_layers, shapes[:-1], strict=True):
            params = parameters(layer, shape)
            if jax.tree.leaves(params):
                break
            empty.append(params)
        return self.hidden_layers[: len(empty)], tuple(empty)
