"""Targets: one posterior as three densities that a sampler can see.

Every target is N(0, I) times a likelihood, ``logdensity(q) = log_likelihood(q) - |q|^2 / 2``, on a
flat vector; the rotation-split integrator and every other sampler that is exact for the Gaussian
part rely on that form. ``exp(logdensity)`` is ``p(y, q)`` but for the constant of N(0, I).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from bnnsample.checks import check_scale
from bnnsample.models.network import Parameters
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import log_prior
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.bijections import Dual, Primal, readout_bijection
from bnnsample.repriorisation.collapse import collapsed_log_likelihood

type Position = Float[Array, " dim"]


class AbstractTarget(ABC):
    """What a sampler sees of a posterior, and the way back to the network's parameters."""

    name: ClassVar[str]
    posterior: Posterior

    @abstractmethod
    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        """The log density relative to N(0, I)."""

    @abstractmethod
    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        """The network parameters of a draw; ``key`` draws a readout that was integrated out."""

    @abstractmethod
    def init(self, key: Key[Array, ""]) -> Position:
        """A start near the posterior: hidden weights from the prior, the readout given them."""

    def logdensity(self, position: Position) -> Float[Array, ""]:
        """``log p(y, q)`` up to the constant of N(0, I)."""
        return self.log_likelihood(position) + log_prior(position)

    @property
    def dim(self) -> int:
        """Length of the position."""
        return jax.eval_shape(self.init, jax.random.key(0)).shape[0]


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
        hidden, phi = unflatten(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        return Parameters(hidden, self._bijection.forward_and_logdet(features, phi)[0])

    def init(self, key: Key[Array, ""]) -> Position:
        return _normal_vector(self.posterior, self.posterior.parameter_shapes, key)

    @property
    def _bijection(self) -> Primal | Dual:
        if self.ridge is None:
            return exact_bijection(self.posterior)
        p = self.posterior.parameter_shapes.readout.shape[0]
        return readout_bijection(p, self.posterior.y, self.ridge)


@as_pytree("posterior")
@dataclass(frozen=True)
class Marginal(AbstractTarget):
    """The posterior of the hidden weights alone; the readout is drawn exactly afterwards."""

    name: ClassVar[str] = "marginal"
    posterior: Posterior

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        hidden = unflatten_hidden(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        noise_std = self.posterior.likelihood.noise_std
        return collapsed_log_likelihood(features, self.posterior.y, noise_std)

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        hidden = unflatten_hidden(self.posterior, position)
        features = self.posterior.network.features(hidden, self.posterior.x)
        shape = self.posterior.parameter_shapes.readout
        phi = jax.random.normal(key, shape.shape, shape.dtype)
        return Parameters(
            hidden, exact_bijection(self.posterior).forward_and_logdet(features, phi)[0]
        )

    def init(self, key: Key[Array, ""]) -> Position:
        return _normal_vector(self.posterior, self.posterior.parameter_shapes.hidden, key)


def standard(posterior: Posterior) -> Standard:
    """The posterior of the network's parameters as they are."""
    return Standard(posterior)


def repriorised(posterior: Posterior, ridge: float | None = None) -> Repriorised:
    """The posterior after the map of the readout, exact unless another ``ridge`` is given."""
    return Repriorised(posterior, ridge)


def marginal(posterior: Posterior) -> Marginal:
    """The posterior of the hidden weights, the readout integrated out."""
    return Marginal(posterior)


TARGETS: dict[str, Callable[[Posterior], AbstractTarget]] = {
    Standard.name: standard,
    Repriorised.name: repriorised,
    Marginal.name: marginal,
}
"""The three targets of one posterior by name."""


def exact_bijection(posterior: Posterior) -> Primal | Dual:
    """The map that sends N(0, I) to the readout's conditional posterior."""
    p = posterior.parameter_shapes.readout.shape[0]
    return readout_bijection(p, posterior.y, posterior.likelihood.noise_std**2)


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


def _normal_vector(posterior: Posterior, shapes: Any, key: Key[Array, ""]) -> Position:
    dim = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    return jax.random.normal(key, (dim,), posterior.x.dtype)
