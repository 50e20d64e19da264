"""Targets whose hyperparameters are sampled: these in front, in coordinates made for them."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from bnnsample.limits.hyperposterior import Coordinates
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import NORMALISER, log_prior
from bnnsample.models.scales import substitute
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.base import (
    AbstractTarget,
    Draw,
    Drawer,
    LogLikelihood,
    Position,
)

STARTING_STD = 0.1
"""Of the coordinates at a start: near the centre, where the evidence is finite; arbitrary."""


@as_pytree("inner", "coordinates")
@dataclass(frozen=True)
class Hierarchical(AbstractTarget):
    """The target ``inner`` given its hyperparameters, and these before its position.

    Their coordinates are ``u`` with ``z = centre + root u`` unconstrained. The inner map depends on
    them; the Jacobian of the whole is block triangular, so the log-determinants add up.
    """

    inner: AbstractTarget
    coordinates: Coordinates
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.inner.name)

    @property
    def posterior(self) -> Posterior:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.posterior

    @property
    def ridge(self) -> float | None:
        """That of the map of the readout."""
        return getattr(self.inner, "ridge", None)

    def hyperparameters(self, position: Position) -> dict[str, Array]:
        """Their values by name."""
        return self._split(position)[0]

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        values, log_hyperprior, rest = self._split(position)
        u = position[: position.size - rest.size]
        inner = substitute(self.inner, values).log_likelihood(rest)
        own = log_hyperprior + self.coordinates.log_det
        return inner + own - log_prior(u) - u.size * NORMALISER

    def given_hidden(self, position: Position) -> LogLikelihood:
        values, _, rest = self._split(position)
        return substitute(self.inner, values).given_hidden(rest)

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        values, _, rest = self._split(position)
        return substitute(self.inner, values).constrain(rest, key)

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        values, _, rest = self._split(position)
        return substitute(self.inner, values).fitted(rest)

    def init(self, key: Key[Array, ""]) -> Position:
        own_key, inner_key = jax.random.split(key)
        centre = self.coordinates.centre
        u = STARTING_STD * jax.random.normal(own_key, centre.shape, centre.dtype)
        values, _ = self._values(u)
        return jnp.concatenate([u, substitute(self.inner, values).init(inner_key)])

    def drawer(self, x_test: Float[Array, "m ..."] | None = None, *, whole: bool = True) -> Drawer:
        return Partial(_draw, self, self.inner.drawer(x_test, whole=whole))

    def _split(
        self, position: Position
    ) -> tuple[dict[str, Array], Float[Array, ""], Float[Array, " rest"]]:
        size = self.coordinates.centre.size
        return *self._values(position[:size]), position[size:]

    def _values(self, u: Float[Array, " k"]) -> tuple[dict[str, Array], Float[Array, ""]]:
        return constrained(self.posterior.hyperpriors, self.coordinates.unconstrained(u))


def _draw(target: Hierarchical, inner: Drawer, position: Position, key: Key[Array, ""]) -> Draw:
    values, _, rest = target._split(position)
    return substitute(inner, values)(rest, key)._replace(hyperparameters=values)
