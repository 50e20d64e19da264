"""What a layer is.

All parameters are N(0, 1) a priori: every scale lives in the forward pass. A layer is a pytree
whose leaves are its scales, so kernels are compiled once for all values of them and can be
differentiated in them; widths, names and shapes are static.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import jax
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.kernel import Kernel, Needs, Shape

type Params = Any  # a pytree of arrays
type Parameterisation = Literal["ntk", "standard"]


class AbstractLayer(ABC):
    """One layer. Shapes are those of a single example, without the batch axis, channels last."""

    @abstractmethod
    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output; raises ``ValueError`` for inputs that do not fit."""

    @abstractmethod
    def init(self, key: Key[Array, ""], input_shape: Shape, dtype: Any) -> Params:
        """Parameters drawn from the N(0, 1) prior."""

    @abstractmethod
    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The layer at finite width, for a batch."""

    @abstractmethod
    def kernel(self, kernel: Kernel) -> Kernel:
        """The layer's action on the prior covariance as widths go to infinity, for one pair.

        Raises ``NoKnownLimit`` where it has none.
        """

    def needs(self, output: Needs) -> Needs:
        """What the limit needs of the layer's input, given what is needed of its output.

        This default is that of a layer which treats every covariance alike.
        """
        return output

    def learning_rates(self, params: Params, input_shape: Shape) -> Params:
        """How fast gradient flow moves each parameter: 1 but in standard parameterisation.

        A pytree of numbers shaped like ``params``. They make up for parameters being N(0, 1) where
        others train ``std * parameter``, and enter the tangent kernel alone.
        """
        return jax.tree.map(lambda _: 1.0, params)


def check_parameterisation(layer: str, value: object) -> None:
    """Raise unless ``value`` names a parameterisation."""
    if value not in ("ntk", "standard"):
        raise bad_input(
            f"{layer} parameterisation",
            got=repr(value),
            expected="'ntk' or 'standard'",
            probably="a typing error",
        )
