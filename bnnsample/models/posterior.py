"""The posterior: a network, its prior, a likelihood and data."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import as_finite_array, bad_input
from bnnsample.models.kernel import Shape
from bnnsample.models.likelihoods import Gaussian
from bnnsample.models.network import Network, Parameters
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.pytrees import as_pytree


@as_pytree("network", "x", "y", "likelihood")
@dataclass(frozen=True, init=False, eq=False)
class Posterior:
    """The distribution of a network's parameters given ``x`` (n, ...) and ``y`` (n, o).

    A one-dimensional ``y`` is one output. Everything computes in the wider of the two floating
    types; enable ``jax_enable_x64`` for float64.

    Raises ``ValueError`` for NaN or infinite data, lengths that differ, inputs that do not fit
    the first layer and targets that do not fit the readout.
    """

    network: Network
    x: Float[Array, "n ..."]
    y: Float[Array, "n o"]
    likelihood: Gaussian

    def __init__(self, network: Network, x: ArrayLike, y: ArrayLike, likelihood: Gaussian) -> None:
        for name, value, kind in (
            ("network", network, Network),
            ("likelihood", likelihood, Gaussian),
        ):
            if not isinstance(value, kind):
                raise bad_input(
                    f"Posterior {name}",
                    got=repr(value),
                    expected=f"a {kind.__name__}, such as "
                    + ("fcn(1, 512, 10)" if kind is Network else "Gaussian(noise_std=0.1)"),
                    probably="its argument was passed without it, or two changed places",
                )
        x, y = as_training_data(network, x, y)
        for name, value in (("network", network), ("x", x), ("y", y), ("likelihood", likelihood)):
            object.__setattr__(self, name, value)

    @property
    def input_shape(self) -> Shape:
        return self.x.shape[1:]

    @property
    def parameter_shapes(self) -> Parameters:
        return self.network.parameter_shapes(self.input_shape, self.x.dtype)

    @property
    def num_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.parameter_shapes))

    def log_likelihood(self, params: Parameters) -> Float[Array, ""]:
        """``log p(y | x, params)``, normalised."""
        return self.likelihood.log_density(self.network.apply(params, self.x), self.y)

    def log_density(self, params: Parameters) -> Float[Array, ""]:
        """``log p(y, params | x)``, normalised."""
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        return self.log_likelihood(params) + log_prior(params) + size * NORMALISER


def as_training_data(network: Network, x: object, y: object) -> tuple[Array, Array]:
    """``x`` (n, ...) and ``y`` (n, o) as finite arrays of one type that fit ``network``."""
    x = as_finite_array("x", x)
    y = as_finite_array("y", y, min_ndim=1)
    y = y[:, None] if y.ndim == 1 else y
    if len(x) != len(y):
        raise bad_input(
            "x and y",
            got=f"{len(x)} points in x and {len(y)} in y",
            expected="as many rows in y as in x",
            probably="a transposed array, or y of another split",
        )
    outputs = network.readout_layer.width
    if y.ndim != 2 or y.shape[1] != outputs:
        raise bad_input(
            "y",
            got=f"shape {y.shape}",
            expected=f"(n, {outputs}), as the network has {outputs} outputs",
            probably="class labels that need one-hot encoding, or a readout of another width",
        )
    network.parameter_shapes(x.shape[1:])
    dtype = np.promote_types(x.dtype, y.dtype)
    return x.astype(dtype), y.astype(dtype)


def as_test_inputs(x_test: object, x: Float[Array, "n ..."]) -> Float[Array, "m ..."]:
    """``x_test`` (m, ...) as a finite array like the training inputs ``x``."""
    return as_more_inputs("x_test", x_test, "the training inputs", x).astype(x.dtype)


def as_more_inputs(
    name: str, value: object, others: str, x: Float[Array, "n ..."]
) -> Float[Array, "m ..."]:
    """``value`` (m, ...) as a finite array of examples like ``x``, which errors call ``others``."""
    array = as_finite_array(name, value)
    if array.shape[1:] != x.shape[1:]:
        raise bad_input(
            name,
            got=f"examples of shape {array.shape[1:]}",
            expected=f"{x.shape[1:]} as in {others}",
            probably="another preprocessing, or a missing reshape",
        )
    return array
