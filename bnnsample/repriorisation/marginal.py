"""The marginal target: all that can be integrated out exactly is.

That is the readout, and the first layer's weights along input directions that no training point
has (``span.py``). Both are drawn afterwards, given the hidden weights that were sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
from jax.tree_util import Partial
from jaxtyping import Array, Float, Key

from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import full_precision
from bnnsample.pytrees import as_pytree
from bnnsample.randomness import normal
from bnnsample.repriorisation.base import (
    AbstractTarget,
    Draw,
    Drawer,
    Position,
    normal_vector,
    unflatten_hidden,
)
from bnnsample.repriorisation.collapse import collapsed_log_likelihood
from bnnsample.repriorisation.conditional import exact_bijection, gaussian_targets
from bnnsample.repriorisation.span import Span, Widened


@as_pytree("posterior", "span")
@dataclass(frozen=True)
class Marginal(AbstractTarget):
    """The posterior of the hidden weights alone; the readout is drawn exactly afterwards.

    With a ``span`` of the inputs, of the first layer's weights only those along it.
    """

    posterior: Posterior
    span: Span | None = None
    name: str = field(default="marginal", init=False)

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        features = self._features(position)
        return collapsed_log_likelihood(features, *gaussian_targets(self.posterior))

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return self.drawer()(position, key).params

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        features, bijection = self._features(position), exact_bijection(self.reduced)
        return bijection.predict(features, bijection.factor(features), features)[0]

    def init(self, key: Key[Array, ""]) -> Position:
        return normal_vector(self.reduced, self.reduced.parameter_shapes.hidden, key)

    def drawer(self, x_test: Float[Array, "m ..."] | None = None, *, whole: bool = True) -> Drawer:
        span = self.span
        wider = None if whole or span is None or x_test is None else span.widened(x_test)
        return Partial(_draw, self, x_test, wider, whole)

    @property
    def reduced(self) -> Posterior:
        """The posterior whose hidden weights make up the position."""
        return self.posterior if self.span is None else self.span.posterior

    def _features(self, position: Position) -> Float[Array, "n p"]:
        hidden = unflatten_hidden(self.reduced, position)
        return self.reduced.network.features(hidden, self.reduced.x)


@full_precision
def _draw(
    target: Marginal,
    x_test: Float[Array, "m ..."] | None,
    wider: Widened | None,
    whole: bool,
    position: Position,
    key: Key[Array, ""],
) -> Draw:
    readout_key, span_key = jax.random.split(key)
    reduced, span = target.reduced, target.span
    bijection = exact_bijection(reduced)
    sampled = unflatten_hidden(reduced, position)
    features, shape = reduced.network.features(sampled, reduced.x), reduced.parameter_shapes.readout
    factor = bijection.factor(features)
    phi = normal(readout_key, shape.shape, shape.dtype)
    readout = bijection.readout(features, factor, phi)
    hidden = sampled
    if span is not None:
        hidden = span.lift(sampled, span_key) if whole else None
    if x_test is None:
        return Draw(hidden, readout, sampled, {})
    if wider is not None:
        test_features = wider.features(sampled, span_key)
    else:
        assert hidden is not None
        test_features = target.posterior.network.features(hidden, x_test)
    f_mean, f_std = bijection.predict(features, factor, test_features)
    predictions = {"f": test_features @ readout, "f_mean": f_mean, "f_std": f_std}
    return Draw(hidden, readout, sampled, predictions)
