"""The readout given the features: the map that fits the data, in the cheaper of its forms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnnsample.limits.pseudo import PseudoObservations
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior
from bnnsample.pytrees import as_pytree
from bnnsample.repriorisation.bijections import (
    AbstractBijection,
    AbstractReadoutMap,
    Dual,
    Forward,
    Primal,
    Scalar,
)
from bnnsample.repriorisation.collapse import NoiseStd, by_point, shared_by_outputs


@as_pytree("maps")
@dataclass(frozen=True)
class PerOutput(AbstractReadoutMap):
    """One map for each output, where they differ in noise: ``maps``, stacked along a first axis."""

    maps: Primal | Dual

    def factor(self, features: Float[Array, "n p"]) -> Float[Array, "o k k"]:
        return jax.vmap(lambda own: own.factor(features))(self.maps)

    def readout(
        self, features: Float[Array, "n p"], factor: Float[Array, "o k k"], phi: Float[Array, "p o"]
    ) -> Float[Array, "p o"]:
        def one(own: Primal | Dual, factor: Array, phi: Array) -> Array:
            return own.readout(features, factor, phi[:, None])[:, 0]

        return jax.vmap(one, in_axes=(0, 0, 1), out_axes=1)(self.maps, factor, phi)

    def predict(
        self,
        features: Float[Array, "n p"],
        factor: Float[Array, "o k k"],
        test_features: Float[Array, "m p"],
    ) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
        def one(own: Primal | Dual, factor: Array) -> tuple[Array, Array]:
            mean, std = own.predict(features, factor, test_features)
            return mean[:, 0], std[:, 0]

        return jax.vmap(one, out_axes=1)(self.maps, factor)

    def logdet(self, factor: Float[Array, "o k k"]) -> Scalar:
        return jnp.sum(jax.vmap(lambda own, part: own.logdet(part))(self.maps, factor))

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        def one(own: Primal | Dual, readout: Array) -> tuple[Array, Scalar]:
            phi, logdet = own.inverse_and_logdet(features, readout[:, None])
            return phi[:, 0], logdet

        phi, logdets = jax.vmap(one, in_axes=(0, 1), out_axes=(1, 0))(self.maps, readout)
        return phi, jnp.sum(logdets)


@as_pytree("points", "basis", "seen")
@dataclass(frozen=True)
class Projected(AbstractBijection):
    """The map ``seen`` of some combinations of points and outputs; the rest stays as it is.

    ``points`` (m, n) are combinations of the rows of the features, and the first columns of
    ``basis`` (o, o), orthonormal, those of the outputs that ``seen`` is of.
    """

    points: Float[Array, "m n"]
    basis: Float[Array, "o o"]
    seen: Primal | Dual

    def given(self, features: Float[Array, "n p"]) -> Forward:
        return partial(self._of_seen, self.seen.given(self.points @ features))

    def inverse_and_logdet(
        self, features: Float[Array, "n p"], readout: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        inverse = partial(self.seen.inverse_and_logdet, self.points @ features)
        return self._of_seen(inverse, readout)

    def _of_seen(
        self, change: Forward, value: Float[Array, "p o"]
    ) -> tuple[Float[Array, "p o"], Scalar]:
        count = self.seen.y.shape[1]
        turned = value @ self.basis
        changed, logdet = change(turned[:, :count])
        return jnp.concatenate([changed, turned[:, count:]], axis=1) @ self.basis.T, logdet


def pseudo_bijection(num_features: int, pseudo: PseudoObservations) -> Projected:
    """The map that sends N(0, I) to the readout's law given the pseudo-observations."""
    seen = readout_bijection(num_features, pseudo.targets, 1.0)
    assert isinstance(seen, Primal | Dual)
    return Projected(pseudo.points, pseudo.basis, seen)


def readout_bijection(
    num_features: int, y: Float[Array, "n o"], noise_std: NoiseStd
) -> AbstractReadoutMap:
    """The cheaper form of the map for ``p = num_features`` and the n rows of ``y``."""
    form = Dual if num_features > len(y) else Primal
    if shared_by_outputs(noise_std):
        return form(y, by_point(noise_std, y))
    noise_std = jnp.broadcast_to(jnp.asarray(noise_std, y.dtype), y.shape)
    return PerOutput(
        jax.vmap(lambda *columns: form(*(c[:, None] for c in columns)), 1)(y, noise_std)
    )


def exact_bijection(posterior: Posterior) -> AbstractReadoutMap:
    """The map that sends N(0, I) to the readout's conditional posterior."""
    p = posterior.parameter_shapes.readout.shape[0]
    return readout_bijection(p, *gaussian_targets(posterior))


def gaussian_targets(posterior: Posterior) -> tuple[Float[Array, "n o"], NoiseStd]:
    """Targets and noise of a posterior whose likelihood is Gaussian."""
    assert isinstance(posterior.likelihood, Gaussian)
    return posterior.y, posterior.likelihood.noise_std
