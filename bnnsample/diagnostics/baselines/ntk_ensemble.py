"""An ensemble of infinitely many infinitely wide networks, trained until they fit the data."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnnsample.checks import bad_input
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.baselines.nngp import MOST_POINTS
from bnnsample.diagnostics.quality.predictive import Predictive, of_gaussian_outputs
from bnnsample.limits.dynamics import gradient_flow
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.posterior import Posterior


def ntk_ensemble(posterior: Posterior, x_test: ArrayLike, *, seed: int = 0) -> Predictive:
    """Networks trained by gradient flow on squared errors for ever, and the likelihood's noise.

    Their outputs are Gaussian (Lee et al. 2019, 1902.06720, eqs. 14 to 16). They go through the
    targets, whatever their noise. The law is known; ``seed`` draws functions of it. Raises
    ``ValueError`` for likelihoods that are not Gaussian and for data whose tangent kernel is
    singular, ``NoKnownLimit`` for networks without a closed limit.
    """
    if not isinstance(posterior.likelihood, Gaussian):
        raise bad_input(
            "likelihood",
            got=f"{posterior.likelihood!r}",
            expected="Gaussian(), whose loss is the squared error",
            probably="another baseline was meant: training on this loss has no closed form",
        )
    posterior = at_evidence_mode(posterior)
    flow = gradient_flow(posterior.network, posterior.x, posterior.y)
    mean, covariance = flow.predict(x_test, math.inf)
    variance = jnp.maximum(jnp.diagonal(covariance), 0.0)
    std = jnp.broadcast_to(jnp.sqrt(variance)[:, None], mean.shape)
    together = covariance[None] if len(mean) <= MOST_POINTS else None
    key = jax.random.key(seed)
    return of_gaussian_outputs(posterior.likelihood, mean, std, together, key)
