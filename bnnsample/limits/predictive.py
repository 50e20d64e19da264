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

LOG_NODES = 5
"""Hyperparameters are averaged over 2^5 quasi-random values from the Laplace fit, weighted by what
the evidence makes of them. A choice: each costs a kernel matrix and its factor."""

WIDER = 1.4
"""Than the Laplace fit, whose tails are too light; arbitrary."""


def limit_marginals(
    posterior: Posterior, x_test: Float[Array, "m ..."], coordinates: Coordinates | None
) -> tuple[Float[Array, "m o"], Float[Array, "m o"]]:
    """Mean and standard deviation of the limit's outputs at ``x_test``.

    ``coordinates``, from ``hyperposterior``, where there are hyperparameters. Of likelihoods that
    are not Gaussian it is Laplace's approximation. Raises ``NoKnownLimit``.
    """
    kernel = Partial(nngp, posterior.network)
    if coordinates is None:
        given = conditioned(posterior, kernel)
        if not given.converged:
            raise NoKnownLimit("Laplace's approximation found no mode")
        mean, variance = given.marginals(x_test)
        return mean, jnp.sqrt(variance)
    cells = qmc.Sobol(coordinates.centre.size, scramble=False).random_base2(LOG_NODES)
    nodes = WIDER * norm.ppf(cells + 0.5 ** (LOG_NODES + 1))
    log_weights: list[float] = []
    moments: list[list[Array]] = []
    for node in nodes:
        u = jnp.asarray(node, posterior.x.dtype)
        z = coordinates.unconstrained(u)
        # from N(0, WIDER^2 I) to the posterior of u
        log_density, *node_moments = _at(posterior, kernel, z, x_test)
        log_weight = float(log_density - log_prior(u / WIDER))
        if np.isfinite(log_weight):  # noise may be below the kernel's rounding at an outer node
            log_weights.append(log_weight)
            moments.append(node_moments)
    if not moments:
        raise NoKnownLimit("its evidence is not finite in this precision")
    weights = np.exp(np.array(log_weights) - np.max(log_weights))
    first, second = (
        sum(w * part for w, part in zip(weights / weights.sum(), parts, strict=True))
        for parts in zip(*moments, strict=True)
    )
    return jnp.asarray(first), jnp.sqrt(jnp.maximum(second - first**2, 0.0))


@jax.jit
def _at(
    posterior: Posterior, kernel: KernelFunction, z: Float[Array, " k"], x_test: Array
) -> tuple[Float[Array, ""], Float[Array, "m o"], Float[Array, "m o"]]:
    """``log p(y, z)`` and two moments of the outputs, from one factor of the kernel matrix."""
    values, log_hyperprior = constrained(posterior.hyperpriors, z)
    given = conditioned(posterior.given(values), substitute(kernel, values))
    mean, variance = given.marginals(x_test)
    return given.log_evidence + log_hyperprior, mean, variance + mean**2
