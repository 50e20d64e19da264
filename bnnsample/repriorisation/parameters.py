"""The posterior as it is, and after the map of the readout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from bnnsample.checks import check_scale
from bnnsample.limits.pseudo import PseudoObservations
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import log_prior
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.base import (
    AbstractTarget,
    LogLikelihood,
    Position,
    flatten,
    normal_vector,
    unflatten,
)
from bnnsample.repriorisation.bijections import AbstractBijection
from bnnsample.repriorisation.collapse import collapsed_log_likelihood
from bnnsample.repriorisation.conditional import (
    exact_bijection,
    gaussian_targets,
    pseudo_bijection,
    readout_bijection,
)


def _features_and_readout(
    posterior: Posterior, position: Position
) -> tuple[Float[Array, "n p"], Float[Array, "p o"]]:
    hidden, readout = unflatten(posterior, position)
    return posterior.network.features(hidden, posterior.x), readout


@as_pytree("posterior")
@dataclass(frozen=True)
class Standard(AbstractTarget):
    """The posterior of the network's parameters as they are: hidden weights, then readout."""

    posterior: Posterior
    name: str = field(default="standard", init=False)

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        return self.posterior.log_likelihood(unflatten(self.posterior, position))

    def given_hidden(self, position: Position) -> LogLikelihood:
        features, readout = _features_and_readout(self.posterior, position)
        likelihood, y = self.posterior.likelihood, self.posterior.y
        return lambda flat: likelihood.log_density(features @ flat.reshape(readout.shape), y)

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return unflatten(self.posterior, position)

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        return self.posterior.network.apply(unflatten(self.posterior, position), self.posterior.x)

    def init(self, key: Key[Array, ""]) -> Position:
        if not isinstance(self.posterior.likelihood, Gaussian):
            return normal_vector(self.posterior, self.posterior.parameter_shapes, key)
        repriorised = Repriorised(self.posterior)
        return flatten(repriorised.constrain(repriorised.init(key), key))


@as_pytree("posterior", "ridge", "pseudo")
@dataclass(frozen=True)
class Repriorised(AbstractTarget):
    """The posterior of ``(h, phi)``, where ``W = M + S phi``: N(0, I) in the wide limit.

    With the map of the posterior's own Gaussian likelihood the density factorises into N(0, I) and
    the collapsed likelihood, which is how it is computed. A ``ridge``, another noise variance, or
    ``pseudo``-observations in place of a likelihood that is not Gaussian, make another map, exact
    through its log-determinant, at the cost of a gradient through the factor.
    """

    posterior: Posterior
    ridge: float | None = None
    pseudo: PseudoObservations | None = None
    name: str = field(default="repriorised", init=False)

    def __post_init__(self) -> None:
        if self.ridge is not None:
            check_scale("ridge", self.ridge)

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        features, phi = _features_and_readout(self.posterior, position)
        return self._of_phi(features)(phi)

    def given_hidden(self, position: Position) -> LogLikelihood:
        features, phi = _features_and_readout(self.posterior, position)
        of_phi = self._of_phi(features)
        return lambda flat: of_phi(flat.reshape(phi.shape))

    def _of_phi(
        self, features: Float[Array, "n p"]
    ) -> Callable[[Float[Array, "p o"]], Float[Array, ""]]:
        """The log likelihood of ``phi`` (p, o) at these features."""
        posterior = self.posterior
        if self.ridge is None and self.pseudo is None:
            value = collapsed_log_likelihood(features, *gaussian_targets(posterior))
            return lambda phi: value
        forward = self.bijection.given(features)

        def of_phi(phi: Float[Array, "p o"]) -> Float[Array, ""]:
            readout, logdet = forward(phi)
            pulled_back_prior = log_prior(readout) + logdet - log_prior(phi)
            fit = posterior.likelihood.log_density(features @ readout, posterior.y)
            return fit + pulled_back_prior

        return of_phi

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return self._params_and_features(position)[0]

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        params, features = self._params_and_features(position)
        return features @ params.readout

    def init(self, key: Key[Array, ""]) -> Position:
        return normal_vector(self.posterior, self.posterior.parameter_shapes, key)

    def _params_and_features(self, position: Position) -> tuple[Parameters, Float[Array, "n p"]]:
        hidden, phi = unflatten(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        readout, _ = self.bijection.forward_and_logdet(features, phi)
        return Parameters(hidden, readout), features

    @property
    def bijection(self) -> AbstractBijection:
        """The map from ``phi`` to the readout, given its features."""
        p = self.posterior.parameter_shapes.readout.shape[0]
        if self.pseudo is not None:
            return pseudo_bijection(p, self.pseudo)
        if self.ridge is not None:
            return readout_bijection(p, self.posterior.y, jnp.sqrt(self.ridge))
        return exact_bijection(self.posterior)
