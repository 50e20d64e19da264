"""The infinitely wide network: a Gaussian process given the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike
from jaxtyping import Array, Key

from bnnsample.checks import bad_input
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.quality.predictive import Predictive, of_gaussian_outputs
from bnnsample.limits.conditioned import conditioned
from bnnsample.limits.gaussian_process import KernelFunction, check_factorised
from bnnsample.limits.kernels import nngp
from bnnsample.models.posterior import Posterior, as_test_inputs

MOST_POINTS = 2000
"""Test points at most at which functions are drawn, which takes the covariance of all of them and
its root, some seconds. Of inputs that are not vectors, whose kernels may be dear, no more than
there are training points. A choice."""


def nngp_baseline(posterior: Posterior, x_test: ArrayLike, *, seed: int = 0) -> Predictive:
    """The NNGP's predictions at the hyperparameters of highest evidence.

    Exact for Gaussian noise, else Laplace's approximation, whose outputs are drawn with ``seed``.
    Raises ``NoKnownLimit`` for networks without a closed limit, ``ValueError`` where Laplace's
    approximation finds no mode.
    """
    posterior = at_evidence_mode(posterior)
    kernel = Partial(nngp, posterior.network)
    return of_kernel(posterior, kernel, x_test, jax.random.key(seed))


def of_kernel(
    posterior: Posterior, kernel: KernelFunction, x_test: ArrayLike, key: Key[Array, ""]
) -> Predictive:
    """What Gaussian outputs of covariance ``kernel`` predict given a posterior's data.

    Of many test points not how these go together (``MOST_POINTS``).
    """
    x_test = as_test_inputs(x_test, posterior.x)
    given = conditioned(posterior, kernel)
    if not given.converged:
        raise bad_input(
            "likelihood",
            got=f"{type(posterior.likelihood).__name__}(), whose Laplace fit found no mode",
            expected="one that has a mode with these data",
            probably="log variances that go to minus infinity where a function fits the data",
        )
    noise = getattr(posterior.likelihood, "noise_std", "this likelihood")
    check_factorised(given.log_evidence, noise, posterior.x)
    mean, variance = given.marginals(x_test)
    cheap = MOST_POINTS if x_test.ndim == 2 else min(MOST_POINTS, len(posterior.x))
    covariances = given.covariances(x_test) if len(x_test) <= cheap else None
    return of_gaussian_outputs(posterior.likelihood, mean, jnp.sqrt(variance), covariances, key)
