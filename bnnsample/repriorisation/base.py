"""What a target is: one posterior as a density that a sampler can see.

Every target is N(0, I) times a likelihood, ``logdensity(q) = log_likelihood(q) - |q|^2 / 2``, on a
flat vector; the rotation-split integrator and every other sampler that is exact for the Gaussian
part rely on that form. ``exp(logdensity)`` is ``p(y, q)`` but for the constant of N(0, I).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from bnnsample.checks import bad_input
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import log_prior
from bnnsample.numerics import full_precision

type Position = Float[Array, " dim"]
type LogLikelihood = Callable[[Float[Array, " part"]], Float[Array, ""]]


class Draw(NamedTuple):
    """What one position becomes in the end.

    ``hidden``: the hidden weights, None where they were not wanted whole. ``sampled``: those that
    the position holds, of which a target may integrate others out. ``predictions``, empty without
    test inputs: ``f`` (m, o), the network's outputs, and from a target that integrates the readout
    out ``f_mean`` and ``f_std`` (m, o) given the rest. ``hyperparameters``: their values by name.
    """

    hidden: tuple[Any, ...] | None
    readout: Float[Array, "p o"]
    sampled: tuple[Any, ...]
    predictions: dict[str, Array]
    hyperparameters: dict[str, Array] = {}  # noqa: RUF012 - of a named tuple, never changed

    @property
    def params(self) -> Parameters:
        """The network's parameters, of a draw that is whole."""
        assert self.hidden is not None
        return Parameters(self.hidden, self.readout)


type Drawer = Callable[[Position, Key[Array, ""]], Draw]


class AbstractTarget(ABC):
    """What a sampler sees of a posterior, and the way back to the network's parameters."""

    name: str
    posterior: Posterior

    @abstractmethod
    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        """The log density relative to N(0, I)."""

    @abstractmethod
    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        """The network parameters of a draw; ``key`` draws what was integrated out."""

    @abstractmethod
    def fitted(self, position: Position) -> Float[Array, "n o"]:
        """The outputs at the training inputs, on average over what was integrated out."""

    @abstractmethod
    def init(self, key: Key[Array, ""]) -> Position:
        """A start near the posterior: hidden weights from the prior, the readout given them."""

    def given_hidden(self, position: Position) -> LogLikelihood:
        """The log likelihood of other readouts, the end of the position, at its hidden weights.

        It is so but for a constant. What the hidden weights decide is computed here, once. Raises
        ``ValueError`` where positions do not end in the readout.
        """
        raise bad_input(
            "target",
            got=f"the {self.name} one",
            expected="one whose positions end in the readout, for a sampler of it",
            probably="bnn.HMC() was meant: here the readout is integrated out",
        )

    def drawer(self, x_test: Float[Array, "m ..."] | None = None, *, whole: bool = True) -> Drawer:
        """What pushes positions forward to parameters and predictions at ``x_test``.

        What depends on ``x_test`` alone is computed here, once. Unless ``whole``, weights that were
        integrated out are drawn only as far as the predictions need them. A pytree, in which
        hyperparameters can be given values.
        """
        return Partial(_draw_all, self, x_test)

    @full_precision
    def logdensity(self, position: Position) -> Float[Array, ""]:
        """``log p(y, q)`` up to the constant of N(0, I)."""
        return self.log_likelihood(position) + log_prior(position)

    @property
    def readout_size(self) -> int:
        """Number of the readout's entries, the last of a position that holds them."""
        return self.posterior.parameter_shapes.readout.size

    @property
    def dim(self) -> int:
        """Length of the position."""
        return jax.eval_shape(self.init, jax.random.key(0)).shape[0]


@full_precision
def _draw_all(
    target: AbstractTarget,
    x_test: Float[Array, "m ..."] | None,
    position: Position,
    key: Key[Array, ""],
) -> Draw:
    hidden, readout = target.constrain(position, key)
    predictions = {}
    if x_test is not None:
        predictions["f"] = target.posterior.network.features(hidden, x_test) @ readout
    return Draw(hidden, readout, hidden, predictions)


def check_posterior(posterior: object) -> None:
    """Raise unless ``posterior`` is one."""
    if not isinstance(posterior, Posterior):
        raise bad_input(
            "posterior",
            got=f"a {type(posterior).__name__}",
            expected="a posterior: bnn.Posterior(network, x, y, likelihood)",
            probably="a network, or a target of a posterior",
        )


def flatten(tree: Any) -> Position:
    """A pytree of arrays as one vector."""
    return ravel_pytree(tree)[0]


def unflatten(posterior: Posterior, position: Position) -> Parameters:
    """The parameters whose ``flatten`` is ``position``."""
    return _unflatten_like(posterior.parameter_shapes, position)


def unflatten_hidden(posterior: Posterior, position: Position) -> tuple[Any, ...]:
    """The hidden parameters whose ``flatten`` is ``position``."""
    return _unflatten_like(posterior.parameter_shapes.hidden, position)


def _unflatten_like(shapes: Any, position: Position) -> Any:
    leaves, structure = jax.tree.flatten(shapes)
    parts, start = [], 0
    for leaf in leaves:
        parts.append(position[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(structure, parts)


def normal_vector(posterior: Posterior, shapes: Any, key: Key[Array, ""]) -> Position:
    """N(0, I) in as many dimensions as arrays of these ``shapes`` have entries."""
    dim = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return jax.random.normal(key, (dim,), posterior.x.dtype)
