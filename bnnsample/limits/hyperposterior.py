"""Where the infinitely wide network puts its hyperparameters: mode and curvature of its evidence.

``z = centre + root u`` with these makes ``u`` near N(0, I) under the posterior of a wide network.
The map is fixed, its Jacobian constant: what it was fitted to matters for how fast chains move, not
for what they sample.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from scipy.optimize import minimize

from bnnsample.checks import warn
from bnnsample.limits.conditioned import conditioned, limit_kernel
from bnnsample.limits.gaussian_process import KernelFunction
from bnnsample.models.hyperpriors import constrained, prior_centre
from bnnsample.models.posterior import Posterior
from bnnsample.models.scales import substitute
from bnnsample.numerics import cholesky, eigh, half_log_det

LARGEST_STD = 2.0
"""Standard deviation, in unconstrained space, that the map gives a direction at most, where the
evidence is flat or curved upwards; arbitrary."""

MOST_POINTS = 1500
"""Of more training points that many, drawn at random, stand for all in the search, whose time and
memory grow with their cube and square. A choice: a search takes a minute or two on two cores."""

MAX_ITERATIONS = 100
LEFT_TO_GAIN = 0.5
"""Nats that the search may miss the mode by, in the quadratic there, before that is said: one
standard deviation."""

UNUSABLE = 1e10
"""The loss where the evidence is not finite, so that the search turns back."""


class Coordinates(NamedTuple):
    """``z = centre + root u`` of unconstrained hyperparameters; ``root`` is lower triangular."""

    centre: Float[Array, " k"]
    root: Float[Array, "k k"]

    def unconstrained(self, u: Float[Array, " k"]) -> Float[Array, " k"]:
        """``z`` of ``u``."""
        return self.centre + self.root @ u

    @property
    def log_det(self) -> Float[Array, ""]:
        """``log |det dz/du|``."""
        return half_log_det(self.root)


def hyperposterior(posterior: Posterior) -> Coordinates:
    """``mode_and_curvature`` as a map for chains; warns where the search stopped short."""
    coordinates, short = mode_and_curvature(posterior)
    if short:
        warn(
            f"{short}; draws are exact all the same, but chains may move slowly: priors on a "
            "narrower range may help"
        )
    return coordinates


def mode_and_curvature(posterior: Posterior) -> tuple[Coordinates, str]:
    """Mode and root of the covariance, by Laplace, of a posterior's unconstrained hyperparameters.

    The evidence is that of the NNGP, by Laplace too where the likelihood is not Gaussian; of many
    points, that of ``MOST_POINTS`` to the power of how many times as many there are. With it, where
    the search stopped short of the mode, a clause that says so, and an empty one elsewhere.
    """
    every = len(posterior.x)
    posterior = _some_points(posterior)
    power = every / len(posterior.x)
    kernel = limit_kernel(posterior.network, posterior.x)
    start = prior_centre(posterior.hyperpriors, posterior.x.dtype)
    step = float(jnp.finfo(start.dtype).eps) ** 0.25

    def loss_and_slope(z: np.ndarray) -> tuple[float, np.ndarray]:
        at = jnp.asarray(z, start.dtype)
        value, slope = (np.asarray(part, float) for part in _gradient(posterior, kernel, at, power))
        if not (np.isfinite(value) and np.isfinite(slope).all()):
            return UNUSABLE, np.zeros_like(slope)
        return -float(value), -slope

    found = minimize(
        loss_and_slope, np.asarray(start, float), jac=True, method="BFGS",
        options={"maxiter": MAX_ITERATIONS},
    )  # fmt: skip
    columns = [
        (loss_and_slope(found.x + shift)[1] - loss_and_slope(found.x - shift)[1]) / (2 * step)
        for shift in step * np.eye(start.size)
    ]
    hessian = np.stack(columns)
    values, vectors = eigh(jnp.asarray((hessian + hessian.T) / 2, start.dtype))
    covariance = (vectors / jnp.maximum(values, LARGEST_STD**-2)[None, :]) @ vectors.T
    value, slope = loss_and_slope(found.x)
    left = slope @ np.asarray(covariance, float) @ slope / 2
    short = ""
    if value == UNUSABLE or left > LEFT_TO_GAIN:
        where = "without a finite one" if value == UNUSABLE else f"{left:.2g} nats below it"
        short = (
            f"the search for the hyperparameters of highest evidence stopped {where} after "
            f"{found.nit} steps"
        )
    return Coordinates(jnp.asarray(found.x, start.dtype), cholesky(covariance)), short


def _some_points(posterior: Posterior) -> Posterior:
    """At most ``MOST_POINTS`` of them; all where the noise is known by point."""
    if len(posterior.x) <= MOST_POINTS or posterior.likelihood.varies_by_point:
        return posterior
    rows = np.random.default_rng(0).choice(len(posterior.x), MOST_POINTS, replace=False)
    return Posterior(posterior.network, posterior.x[rows], posterior.y[rows], posterior.likelihood)


@jax.jit
def log_evidence(
    posterior: Posterior, kernel: KernelFunction, z: Float[Array, " k"], power: ArrayLike = 1.0
) -> Float[Array, ""]:
    """``log p(y | z)^power p(z)`` of the limit at unconstrained hyperparameters ``z``."""
    values, log_prior = constrained(posterior.hyperpriors, z)
    given = conditioned(posterior.given(values), substitute(kernel, values))
    return jnp.asarray(power) * given.log_evidence + log_prior


_gradient = jax.jit(jax.value_and_grad(log_evidence, argnums=2))
