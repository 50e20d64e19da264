"""What the infinitely wide network predicts, averaged over its unknown hyperparameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float
from scipy.stats import norm, qmc

from bnnsample.checks import NoKnownLimit
from bnnsample.limits.conditioned import conditioned
from bnnsample.limits.gaussian_process import KernelFunction
from bnnsample.limits.hyperposterior import Coordinates
from bnnsample.limits.kernels import nngp
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.posterior import Posterior
from bnnsample.models.priors import log_prior
from bnnsample.models.scales import substitute
from bnnsample.numerics import full_precision

LOG_COUNTS = 5, 5, 6, 7, 8, 9
"""Hyperparameters are averaged over 2^5 quasi-random values from the Laplace fit, or as many more
at a time as it takes, weighted by what the evidence makes of them."""

ENOUGH, LEAST = 50.0, 10.0
"""Effective number of the weighted values at which there are enough of them, and below which there
is no average. Choices: of 13 scales 50 leave an error of 0.04 of the limit's standard deviation,
and each value costs a kernel matrix and its factor."""

MOST_POINTS = 10_000
"""Training points at most: a factor of their kernel matrix takes half a minute and 2 GB there, and
unknown hyperparameters take dozens of them, so that a third as many are the most. Choices."""


@full_precision
def limit_marginals(
    posterior: Posterior, x_test: Float[Array, "m ..."], coordinates: Coordinates | None
) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
    """Mean and standard deviation of the limit's outputs at ``x_test``.

    ``coordinates``, from ``hyperposterior``, where there are hyperparameters. Of likelihoods that
    are not Gaussian it is Laplace's approximation. Raises ``NoKnownLimit``, also for more training
    points than can be factorised in reasonable time, and where too few values of the
    hyperparameters make up the average.
    """
    most = MOST_POINTS if coordinates is None else MOST_POINTS // 3
    if len(posterior.x) > most:
        raise NoKnownLimit(f"a kernel matrix of {len(posterior.x)} points, more than {most}")
    kernel = Partial(nngp, posterior.network)
    if coordinates is None:
        given = conditioned(posterior, kernel)
        if not given.converged:
            raise NoKnownLimit("Laplace's approximation found no mode")
        mean, variance = given.marginals(x_test)
        return mean, jnp.sqrt(variance)
    size = coordinates.centre.size
    # wide enough for tails heavier than Laplace's; 1.65 values make an effective one of any size
    spread = (1 + size**-0.5) ** 0.5
    sequence = qmc.Sobol(size, rng=0)
    log_weights: list[float] = []
    moments: list[list[Array]] = []
    weights = np.empty(0)
    for log_count in LOG_COUNTS:
        for node in spread * norm.ppf(sequence.random_base2(log_count)):
            u = jnp.asarray(node, posterior.x.dtype)
            z = coordinates.unconstrained(u)
            # from N(0, spread^2 I) to the posterior of u
            log_density, *node_moments = _at(posterior, kernel, z, x_test)
            log_weight = float(log_density - log_prior(u / spread))
            if np.isfinite(log_weight):  # noise may be below the kernel's rounding at outer nodes
                log_weights.append(log_weight)
                moments.append(node_moments)
        weights = np.exp(np.array(log_weights) - np.max(log_weights, initial=-np.inf))
        if _effective(weights) >= ENOUGH:
            break
    if _effective(weights) < LEAST:
        raise NoKnownLimit("its evidence is finite or large at too few values of the scales")
    first, second = (
        sum(w * part for w, part in zip(weights / weights.sum(), parts, strict=True))
        for parts in zip(*moments, strict=True)
    )
    return jnp.asarray(first), jnp.sqrt(jnp.maximum(second - first**2, 0.0))


def _effective(weights: np.ndarray) -> float:
    """The number of equal weights that would average as well."""
    return float(weights.sum() ** 2 / np.sum(weights**2)) if weights.size else 0.0


@jax.jit
def _at(
    posterior: Posterior, kernel: KernelFunction, z: Float[Array, " k"], x_test: Array
) -> tuple[Float[Array, ""], Float[Array, "m o"], Float[Array, "m o"]]:
    """``log p(y, z)`` and two moments of the outputs, from one factor of the kernel matrix."""
    values, log_hyperprior = constrained(posterior.hyperpriors, z)
    given = conditioned(posterior.given(values), substitute(kernel, values))
    mean, variance = given.marginals(x_test)
    return given.log_evidence + log_hyperprior, mean, variance + mean**2
