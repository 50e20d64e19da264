"""The posterior: a network, its prior, a likelihood and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from bnnsample.checks import as_finite_array, bad_input
from bnnsample.models.kernel import Shape
from bnnsample.models.likelihoods.base import AbstractLikelihood, one_column_per_output
from bnnsample.models.network import Network, Parameters
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.models.scales import (
    check_value,
    hyperparameters,
    named,
    promoting_as_numpyro,
    substitute,
)
from bnnsample.pytrees import as_pytree

type Values = Mapping[str, Array | float]
"""Values of hyperparameters by name."""


@as_pytree("network", "x", "y", "likelihood")
@dataclass(frozen=True, init=False, eq=False)
class Posterior:
    """The distribution of a network's parameters given ``x`` (n, ...) and ``y`` (n, columns).

    ``y`` is what the likelihood is of: a column for each output, one of labels for ``Categorical``;
    a one-dimensional ``y`` is one column. Everything computes in the wider of the two floating
    types; enable ``jax_enable_x64`` for float64.

    Scales of layers and likelihood that are NumPyro distributions are hyperparameters, which have
    names: that of the argument (``noise_std``, ``w_std``, ``w_std_out`` of the readout), preceded
    by the layer (``layer_0_w_std``) where several priors would share it.

    Raises ``ValueError`` for NaN or infinite data, lengths that differ, inputs that do not fit
    the first layer and targets that do not fit the likelihood and the readout.
    """

    network: Network
    x: Float[Array, "n ..."]
    y: Array
    likelihood: AbstractLikelihood

    def __init__(
        self, network: Network, x: ArrayLike, y: ArrayLike, likelihood: AbstractLikelihood
    ) -> None:
        for name, value, kind, example in (
            ("network", network, Network, "a Network, such as fcn(1, 512, 10)"),
            (
                "likelihood",
                likelihood,
                AbstractLikelihood,
                "a likelihood, such as Gaussian(noise_std=0.1)",
            ),
        ):
            if not isinstance(value, kind):
                raise bad_input(
                    f"Posterior {name}",
                    got=repr(value),
                    expected=example,
                    probably="its argument was passed without it, or two changed places",
                )
        if any(leaf is likelihood for leaf in jax.tree.leaves(likelihood)):
            raise bad_input(
                "Posterior likelihood",
                got=f"a {type(likelihood).__name__}, which JAX does not know",
                expected="a pytree, whose leaves are its scales",
                probably="a class without the decorator bnnsample.pytrees.as_pytree",
            )
        x, y = as_training_data(network, x, y, likelihood.as_targets)
        network, likelihood = named((network, likelihood), _names_of(len(network.layers)))
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

    @property
    def hyperpriors(self) -> dict[str, dist.Distribution]:
        """The priors of the hyperparameters, by name."""
        return hyperparameters((self.network, self.likelihood))

    def given(self, values: Values) -> Posterior:
        """The posterior given values of all of its hyperparameters.

        Raises ``ValueError`` for other names than theirs, and for what is no scale.
        """
        priors = self.hyperpriors
        if set(values) != set(priors):
            raise bad_input(
                "hyperparameters",
                got=f"values of {sorted(values) or 'none'}",
                expected=f"values of {sorted(priors) or 'none'}",
                probably="a name that the posterior has otherwise; posterior.hyperpriors has them",
            )
        for name, prior in priors.items():
            check_value(name, values[name], prior)
        return substitute(self, values)

    def log_likelihood(self, params: Parameters, values: Values | None = None) -> Float[Array, ""]:
        """``log p(y | x, params)``, normalised, at ``values`` of the hyperparameters."""
        known = self.given(values or {})
        return known.likelihood.log_density(known.network.apply(params, self.x), self.y)

    def log_density(self, params: Parameters, values: Values | None = None) -> Float[Array, ""]:
        """``log p(y, params, values | x)``, normalised, at ``values`` of the hyperparameters."""
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        log_density = self.log_likelihood(params, values) + log_prior(params) + size * NORMALISER
        with promoting_as_numpyro():
            for name, prior in self.hyperpriors.items():
                log_density += jnp.sum(prior.log_prob((values or {})[name]))
        return log_density


def _names_of(layers: int) -> Callable[[tuple[Any, ...]], tuple[str, str]]:
    """Short and long name of a hyperparameter by its place in ``(network, likelihood)``."""

    def names(path: tuple[Any, ...]) -> tuple[str, str]:
        field = path[-1].name
        if path[0].idx == 1:
            return field, field
        short = field + ("_out" if path[2].idx == layers - 1 else "")
        place = jax.tree_util.keystr(path[2:], simple=True, separator="_")
        return short, f"layer_{place}"

    return names


def as_training_data(
    network: Network,
    x: object,
    y: object,
    as_targets: Callable[[Array, int], Array] | None = None,
) -> tuple[Array, Array]:
    """``x`` (n, ...) and ``y`` (n, columns) as finite arrays of one type that fit ``network``.

    ``as_targets`` checks ``y`` for a network of so many outputs; by default one column for each.
    """
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
    network.parameter_shapes(x.shape[1:])
    outputs = network.readout_layer.width
    dtype = np.promote_types(x.dtype, y.dtype)
    x, y = x.astype(dtype), y.astype(dtype)
    if as_targets is None:
        one_column_per_output(y, outputs)
        return x, y
    return x, as_targets(y, outputs)


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
