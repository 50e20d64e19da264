r"""Bijections ``phi <-> W`` of the readout given the readout features (2206.07673).

$$W = M + S \phi, \quad S S^\top = \Sigma = (I + \Psi^\top R^{-1} \Psi)^{-1},
\quad M = \Sigma \Psi^\top R^{-1} y$$

with ``R = diag(noise_std^2)``: the conditional posterior of the readout under Gaussian noise.
Any other targets and noise give a bijection too, exact through its log-determinant. The primal form
factorises a (p, p) matrix, the dual form an (n, n) one; they are different square roots ``S`` of
the same ``Sigma``. Whatever else is exact given the features, the law of ``Psi* W`` at test inputs,
needs the same factor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.numerics import (
    add_diagonal,
    cholesky,
    full_precision,
    half_log_det,
    solve_lower,
)
from bnnsample.pytrees import as_pytree

type Scalar = Float[Array, ""]
type Forward = Callable[[Float[Array, "p o"]], tuple[Float[Array, "p o"], Scalar]]
"""From ``phi`` to the readout ``W`` and ``log |det dW/dphi|``."""


class AbstractBijection(ABC):
    """A bijection of the readout (p, o), conditional on features ``Psi`` (n, p)."""

    @abstractmethod
    def given(self, features: Float[Array, "n p"]) -> Forward:
        """The map at these features: what depends on them alone is computed here, once."""

    @full_precision
    def forward_and_logdet(
        self, features: Float[Array, "n p"], phi: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        """The readout ``W`` of ``phi``, and ``log |det dW/dphi|``."""
        return self.given(features)(phi)

    @abstractmethod
    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        """The ``phi`` of a readout ``W``, and ``log |det dphi/dW|``."""


@dataclass(frozen=True)
class Identity(AbstractBijection):
    """``W = phi``: the map switched off."""

    def given(self, features: Float[Array, "n p"]) -> Forward:
        return lambda phi: (phi, jnp.zeros((), phi.dtype))

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        return readout, jnp.zeros((), readout.dtype)


class AbstractReadoutMap(AbstractBijection):
    """``W = M + S phi`` in parts that share the factor of one matrix of the features."""

    @abstractmethod
    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "*outputs k k"]:
        """The Cholesky factor that every other part takes."""

    @abstractmethod
    def readout(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "*outputs k k"],
        phi: Float[Array, "p o"],
    ) -> Float[Array, "p o"]:
        """``M + S phi``."""

    @abstractmethod
    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "*outputs k k"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
        """Mean and standard deviation of ``Psi* (M + S phi)`` for ``phi`` from N(0, I)."""

    @abstractmethod
    def logdet(self, factor: Float[Array, "*outputs k k"]) -> Scalar:
        """``log |det dW/dphi|``."""

    def given(self, features: Float[Array, "n p"]) -> Forward:
        factor = self.factor(features)
        logdet = self.logdet(factor)
        return lambda phi: (self.readout(features, factor, phi), logdet)


@as_pytree("y", "noise_std")
@dataclass(frozen=True)
class Primal(AbstractReadoutMap):
    """The map by the factor of ``G = Psi' R^-1 Psi + I_p = L L'``; cheap when p <= n.

    ``W = L^-T (phi + L^-1 Psi' R^-1 y)``: O(n p^2 + p^3).
    """

    y: Float[Array, "n o"]
    noise_std: Float[Array, "n 1"]

    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "p p"]:
        scaled = features / self.noise_std
        return cholesky(add_diagonal(scaled.T @ scaled, 1.0))

    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "p p"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        return solve_lower(factor, self._centre(features, factor) + phi, transpose=True)

    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "p p"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
        whitened = solve_lower(factor, test_features.T)
        mean = whitened.T @ self._centre(features, factor)
        std = jnp.sqrt(jnp.sum(whitened**2, axis=0))
        return mean, jnp.broadcast_to(std[:, None], mean.shape)

    def logdet(self, factor: Float[Array, "p p"]) -> Scalar:
        return -self.y.shape[1] * half_log_det(factor)

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        factor = self.factor(features)
        return factor.T @ readout - self._centre(features, factor), -self.logdet(factor)

    def _centre(
        self, features: Float[Array, "n p"], factor: Float[Array, "p p"]
    ) -> Float[Array, "p o"]:
        return solve_lower(factor, features.T @ (self.y / self.noise_std**2))


@as_pytree("y", "noise_std")
@dataclass(frozen=True)
class Dual(AbstractReadoutMap):
    """The map by the factor of ``K = Psi~ Psi~' + I_n = C C'``; cheap when p > n.

    With ``Psi~ = R^-1/2 Psi`` and ``y~ = R^-1/2 y``, rows divided by the noise,
    ``W = phi + Psi~' C^-T [C^-1 y~ - (C + I)^-1 Psi~ phi]``: O(n^2 p + n^3). The square root
    ``S = I - Psi~' C^-T (C + I)^-1 Psi~`` is Andrews' (1968).
    """

    y: Float[Array, "n o"]
    noise_std: Float[Array, "n 1"]

    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "n n"]:
        gram = (features @ features.T) / (self.noise_std * self.noise_std.T)
        return cholesky(add_diagonal(gram, 1.0))

    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "n n"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        prior = features @ phi / self.noise_std
        inner = self._whitened(factor) - solve_lower(add_diagonal(factor, 1.0), prior)
        return phi + features.T @ (solve_lower(factor, inner, transpose=True) / self.noise_std)

    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "n n"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
        whitened = solve_lower(factor, features @ test_features.T / self.noise_std)
        variance = jnp.sum(test_features**2, axis=1) - jnp.sum(whitened**2, axis=0)
        mean = whitened.T @ self._whitened(factor)
        return mean, jnp.broadcast_to(jnp.sqrt(jnp.maximum(variance, 0.0))[:, None], mean.shape)

    def logdet(self, factor: Float[Array, "n n"]) -> Scalar:
        return -self.y.shape[1] * half_log_det(factor)

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        # Woodbury, with D = C + I and Psi~ Psi~' = C C' - I, reduces the inverse of Andrews' root
        # to S^-1 = I + Psi~' D^-T Psi~.
        factor = self.factor(features)
        scaled = features / self.noise_std
        centred = readout - scaled.T @ solve_lower(factor, self._whitened(factor), transpose=True)
        shifted = add_diagonal(factor, 1.0)
        correction = solve_lower(shifted, scaled @ centred, transpose=True)
        return centred + scaled.T @ correction, -self.logdet(factor)

    def _whitened(self, factor: Float[Array, "n n"]) -> Float[Array, "n o"]:
        return solve_lower(factor, self.y / self.noise_std)
