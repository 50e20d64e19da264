"""Bijections ``phi <-> W`` of the readout given the readout features (theory section 2).

``W = M + S phi`` with ``Sigma = S S' = (I + Psi' Psi / ridge)^-1``, ``M = Sigma Psi' y / ridge``:
with ``ridge = noise_std^2`` the conditional posterior of the readout. Any other positive ridge is
a regularised map, exact through its log-determinant. The primal form factorises a (p, p) matrix,
the dual form an (n, n) one; they are different square roots ``S`` of the same ``Sigma``. Whatever
else is exact given the features, the law of ``Psi* W`` at test inputs, needs the same factor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.checks import check_scale
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import add_diagonal, cholesky, half_log_det, solve_cholesky, solve_lower
from bnnsample.pytrees import as_pytree

type Scalar = Float[Array, ""]


class AbstractBijection(ABC):
    """A bijection of the readout (p, o), conditional on features ``Psi`` (n, p)."""

    @abstractmethod
    def forward_and_logdet(
        self, features: Float[Array, "n p"], phi: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        """The readout ``W`` of ``phi``, and ``log |det dW/dphi|``."""

    @abstractmethod
    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        """The ``phi`` of a readout ``W``, and ``log |det dphi/dW|``."""


@dataclass(frozen=True)
class Identity(AbstractBijection):
    """``W = phi``: the map switched off."""

    def forward_and_logdet(
        self, features: Float[Array, "n p"], phi: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        return phi, jnp.zeros((), phi.dtype)

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        return readout, jnp.zeros((), readout.dtype)


class AbstractReadoutMap(AbstractBijection):
    """``W = M + S phi`` in parts that share the factor of one matrix of the features."""

    y: Float[Array, "n o"]
    ridge: float | Scalar

    @abstractmethod
    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "k k"]:
        """The Cholesky factor that every other part takes."""

    @abstractmethod
    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "k k"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        """``M + S phi``."""

    @abstractmethod
    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "k k"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, " m"]]:
        """Mean and standard deviation of ``Psi* (M + S phi)`` for ``phi`` from N(0, I).

        The latter is the root of the diagonal of ``Psi* Sigma Psi*'``, the same for all outputs.
        """

    @abstractmethod
    def logdet(self, factor: Float[Array, "k k"]) -> Scalar:
        """``log |det dW/dphi|``."""

    def forward_and_logdet(
        self, features: Float[Array, "n p"], phi: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        factor = self.factor(features)
        return self.readout(features, factor, phi), self.logdet(factor)


@as_pytree("y", "ridge")
@dataclass(frozen=True)
class Primal(AbstractReadoutMap):
    """The map by the factor of ``G = Psi' Psi + ridge I_p = L L'``; cheap when p <= n.

    ``W = L^-T (sqrt(ridge) phi + L^-1 Psi' y)``: O(n p^2 + p^3).
    """

    y: Float[Array, "n o"]
    ridge: float | Scalar

    def __post_init__(self) -> None:
        check_scale("ridge", self.ridge)

    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "p p"]:
        return cholesky(add_diagonal(features.T @ features, self.ridge))

    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "p p"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        centre = solve_lower(factor, features.T @ self.y)
        return solve_lower(factor, centre + jnp.sqrt(self.ridge) * phi, transpose=True)

    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "p p"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, " m"]]:
        whitened = solve_lower(factor, test_features.T)
        mean = whitened.T @ solve_lower(factor, features.T @ self.y)
        return mean, jnp.sqrt(self.ridge * jnp.sum(whitened**2, axis=0))

    def logdet(self, factor: Float[Array, "p p"]) -> Scalar:
        p, outputs = factor.shape[0], self.y.shape[1]
        return outputs * (0.5 * p * jnp.log(self.ridge) - half_log_det(factor))

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        factor = self.factor(features)
        centred = factor.T @ readout - solve_lower(factor, features.T @ self.y)
        return centred / jnp.sqrt(self.ridge), -self.logdet(factor)


@as_pytree("y", "ridge")
@dataclass(frozen=True)
class Dual(AbstractReadoutMap):
    """The map by the factor of ``K = Psi Psi' + ridge I_n = C C'``; cheap when p > n.

    ``W = phi + Psi' C^-T [C^-1 y - (C + sqrt(ridge) I)^-1 Psi phi]``: O(n^2 p + n^3). The square
    root ``S = I - Psi' C^-T (C + sqrt(ridge) I)^-1 Psi`` is Andrews' (1968).
    """

    y: Float[Array, "n o"]
    ridge: float | Scalar

    def __post_init__(self) -> None:
        check_scale("ridge", self.ridge)

    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "n n"]:
        return cholesky(add_diagonal(features @ features.T, self.ridge))

    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "n n"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        shifted = add_diagonal(factor, jnp.sqrt(self.ridge))
        inner = solve_lower(factor, self.y) - solve_lower(shifted, features @ phi)
        return phi + features.T @ solve_lower(factor, inner, transpose=True)

    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "n n"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, " m"]]:
        whitened = solve_lower(factor, features @ test_features.T)
        variance = jnp.sum(test_features**2, axis=1) - jnp.sum(whitened**2, axis=0)
        mean = whitened.T @ solve_lower(factor, self.y)
        return mean, jnp.sqrt(jnp.maximum(variance, 0.0))

    def logdet(self, factor: Float[Array, "n n"]) -> Scalar:
        n, outputs = self.y.shape
        return outputs * (0.5 * n * jnp.log(self.ridge) - half_log_det(factor))

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        # Woodbury, with D = C + sqrt(ridge) I and Psi Psi' = C C' - ridge I, reduces the inverse of
        # Andrews' root to S^-1 = I + Psi' D^-T Psi / sqrt(ridge).
        factor = self.factor(features)
        root = jnp.sqrt(self.ridge)
        shifted = add_diagonal(factor, root)
        centred = readout - features.T @ solve_cholesky(factor, self.y)
        correction = solve_lower(shifted, features @ centred, transpose=True)
        return centred + features.T @ correction / root, -self.logdet(factor)


def readout_bijection(
    num_features: int, y: Float[Array, "n o"], ridge: float | Scalar
) -> Primal | Dual:
    """The cheaper form of the map for ``p = num_features`` and the n rows of ``y``."""
    return Dual(y, ridge) if num_features > y.shape[0] else Primal(y, ridge)


def exact_bijection(posterior: Posterior) -> Primal | Dual:
    """The map that sends N(0, I) to the readout's conditional posterior."""
    p = posterior.parameter_shapes.readout.shape[0]
    return readout_bijection(p, posterior.y, posterior.likelihood.noise_std**2)
