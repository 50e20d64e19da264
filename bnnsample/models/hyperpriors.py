"""Hyperparameters as one vector of unconstrained numbers, by NumPyro's bijections."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float

from bnnsample.models.scales import promoting_as_numpyro

type Priors = Mapping[str, dist.Distribution]

PRIOR_DRAWS = 1000
"""Draws for the centre of the priors in unconstrained space."""

FARTHEST = 5.0
"""From 0 that a centre may be: a vague prior, InverseGamma(0.001, 0.001), has its median beyond the
largest numbers, and nothing is finite there; arbitrary."""


def constrained(priors: Priors, z: Float[Array, " k"]) -> tuple[dict[str, Array], Float[Array, ""]]:
    """The hyperparameters of ``z``, and the log density of ``z`` under their priors."""
    values, log_density, start = {}, jnp.zeros((), z.dtype), 0
    for name, prior in priors.items():
        shape = prior.shape()
        part = z[start : start + math.prod(shape)].reshape(shape)
        start += part.size
        with promoting_as_numpyro():
            bijection = dist.biject_to(prior.support)
            value = bijection(part)
            jacobian = bijection.log_abs_det_jacobian(part, value)
            log_density += jnp.sum(prior.log_prob(value) + jacobian).astype(z.dtype)
        values[name] = value.astype(z.dtype)
    return values, log_density


def prior_centre(priors: Priors, dtype: Any) -> Float[Array, " k"]:
    """The medians of the priors in unconstrained space, or the nearest that a search starts at."""

    def centre(prior: dist.Distribution) -> Array:
        drawn = prior.sample(jax.random.key(0), (PRIOR_DRAWS,))
        median = jnp.median(dist.biject_to(prior.support).inv(drawn), axis=0)
        return jnp.clip(median, -FARTHEST, FARTHEST).ravel()

    with promoting_as_numpyro():
        return jnp.concatenate([centre(prior) for prior in priors.values()]).astype(dtype)
