"""Targets: one posterior as three densities that a sampler can see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Float, Key

from bnnsample.checks import check_scale
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import log_prior
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.base import (
    AbstractTarget,
    Position,
    check_posterior,
    flatten,
    normal_vector,
    unflatten,
)
from bnnsample.repriorisation.bijections import Dual, Primal, exact_bijection, readout_bijection
from bnnsample.repriorisation.collapse import collapsed_log_likelihood
from bnnsample.repriorisation.marginal import Marginal, marginal


@as_pytree("posterior")
@dataclass(frozen=True)
class Standard(AbstractTarget):
    """The posterior of the network's parameters as they are: hidden weights, then readout."""

    name: ClassVar[str] = "standard"
    posterior: Posterior

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        return self.posterior.log_likelihood(unflatten(self.posterior, position))

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return unflatten(self.posterior, position)

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        return self.posterior.network.apply(unflatten(self.posterior, position), self.posterior.x)

    def init(self, key: Key[Array, ""]) -> Position:
        repriorised = Repriorised(self.posterior)
        return flatten(repriorised.constrain(repriorised.init(key), key))


@as_pytree("posterior", "ridge")
@dataclass(frozen=True)
class Repriorised(AbstractTarget):
    """The posterior of ``(h, phi)``, where ``W = M + S phi``: N(0, I) in the wide limit.

    With ``ridge`` None the map is exact, ``ridge = noise_std^2``, and the density factorises into
    N(0, I) and the collapsed likelihood (theory section 3), which is how it is computed. Another
    ridge is exact through its log-determinant, at the cost of a gradient through the factor.
    """

    name: ClassVar[str] = "repriorised"
    posterior: Posterior
    ridge: float | None = None

    def __post_init__(self) -> None:
        if self.ridge is not None:
            check_scale("ridge", self.ridge)

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        hidden, phi = unflatten(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        likelihood = self.posterior.likelihood
        if self.ridge is None:
            return collapsed_log_likelihood(features, self.posterior.y, likelihood.noise_std)
        readout, logdet = self._bijection.forward_and_logdet(features, phi)
        pulled_back_prior = log_prior(readout) + logdet - log_prior(phi)
        return likelihood.log_density(features @ readout, self.posterior.y) + pulled_back_prior

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
        readout, _ = self._bijection.forward_and_logdet(features, phi)
        return Parameters(hidden, readout), features

    @property
    def _bijection(self) -> Primal | Dual:
        if self.ridge is None:
            return exact_bijection(self.posterior)
        p = self.posterior.parameter_shapes.readout.shape[0]
        return readout_bijection(p, self.posterior.y, self.ridge)


def standard(posterior: Posterior) -> Standard:
    """The posterior of the network's parameters as they are."""
    check_posterior(posterior)
    return Standard(posterior)


def repriorised(posterior: Posterior, ridge: float | None = None) -> Repriorised:
    """The posterior after the map of the readout, exact unless another ``ridge`` is given."""
    check_posterior(posterior)
    return Repriorised(posterior, ridge)


TARGETS: dict[str, Callable[[Posterior], AbstractTarget]] = {
    Standard.name: standard,
    Repriorised.name: repriorised,
    Marginal.name: marginal,
}
"""The three targets of one posterior by name."""
