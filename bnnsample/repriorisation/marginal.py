"""The marginal target: all that can be integrated out exactly is.

That is the readout, and the first layer's weights along input directions that no training point
has (``span.py``). Both are drawn afterwards, given the hidden weights that were sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
from jaxtyping import Array, Float, Key

from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.pytrees import as_pytree
from bnnsample.randomness import normal
from bnnsample.repriorisation.base import (
    AbstractTarget,
    Draw,
    Drawer,
    Position,
    check_posterior,
    normal_vector,
    unflatten_hidden,
)
from bnnsample.repriorisation.bijections import exact_bijection
from bnnsample.repriorisation.collapse import collapsed_log_likelihood
from bnnsample.repriorisation.span import Span, span_of


@as_pytree("posterior", "span")
@dataclass(frozen=True)
class Marginal(AbstractTarget):
    """The posterior of the hidden weights alone; the readout is drawn exactly afterwards.

    With a ``span``, as ``marginal`` finds it, of the first layer's weights only those along it.
    """

    name: ClassVar[str] = "marginal"
    posterior: Posterior
    span: Span | None = None

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        features = self._features(position)
        noise_std = self.posterior.likelihood.noise_std
        return collapsed_log_likelihood(features, self.posterior.y, noise_std)

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return self.drawer()(position, key).params

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        features, bijection = self._features(position), exact_bijection(self._sampled)
        return bijection.predict(features, bijection.factor(features), features)[0]

    def init(self, key: Key[Array, ""]) -> Position:
        return normal_vector(self._sampled, self._sampled.parameter_shapes.hidden, key)

    def drawer(self, x_test: Float[Array, "m ..."] | None = None, *, whole: bool = True) -> Drawer:
        span, bijection = self.span, exact_bijection(self._sampled)
        wider = None if whole or span is None or x_test is None else span.widened(x_test)

        def draw(position: Position, key: Key[Array, ""]) -> Draw:
            readout_key, span_key = jax.random.split(key)
            sampled = unflatten_hidden(self._sampled, position)
            features, shape = self._features(position), self._sampled.parameter_shapes.readout
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
                test_features = self.posterior.network.features(hidden, x_test)
            f_mean, f_std = bijection.predict(features, factor, test_features)
            predictions = {"f": test_features @ readout, "f_mean": f_mean, "f_std": f_std}
            return Draw(hidden, readout, sampled, predictions)

        return draw

    @property
    def _sampled(self) -> Posterior:
        """The posterior whose hidden weights make up the position."""
        return self.posterior if self.span is None else self.span.posterior

    def _features(self, position: Position) -> Float[Array, "n p"]:
        hidden = unflatten_hidden(self._sampled, position)
        return self._sampled.network.features(hidden, self._sampled.x)


def marginal(posterior: Posterior) -> Marginal:
    """The posterior of the hidden weights that the data see, the readout integrated out.

    Where the first layer with parameters is ``Dense`` and there are fewer training points than
    input dimensions, the weights along the other directions are integrated out too.
    """
    check_posterior(posterior)
    return Marginal(posterior, span_of(posterior))
