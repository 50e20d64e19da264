"""Scores by test point of numbers and counts under a predictive mixture.

Densities, means and distribution functions are those of the mixture itself; ranked probability
scores and intervals are found from draws of it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from bnnsample.diagnostics.quality.coverage import LEVELS, REPLICATES
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.scales import promoting_as_numpyro

TARGET_DRAWS = 2000
"""Targets drawn at a point at least, as many from each component: the ends of its intervals are
then known to half a percent of probability, its score to 2 %; arbitrary."""


class PointScores(NamedTuple):
    """Scores at each of m points: all columns together, or by column.

    ``log_density``: log of the mixture's density of all columns. ``error``: targets less their
    predictive mean. ``crps``: the continuous ranked probability score. ``pit``: the predictive
    distribution function at the target, between its values below and at it where it jumps
    (Czado et al. 2009). ``widths``: of the central intervals, in the order of ``LEVELS``.
    ``replicated_pit``: that of ``REPLICATES`` sets of targets drawn at all points together.
    """

    log_density: Float[Array, " m"]
    error: Float[Array, "m columns"]
    crps: Float[Array, "m columns"]
    pit: Float[Array, "m columns"]
    widths: Float[Array, "m columns levels"]
    replicated_pit: Float[Array, "m columns replicates"]


def point_scores(predictive: Predictive, y: Array, seed: int) -> PointScores:
    """The scores of targets ``y`` (m, columns), some points at a time."""
    return predictive.by_blocks(_scores, y, seed, draws=TARGET_DRAWS)


@jax.jit
def _scores(predictive: Predictive, y: Array, key: Key[Array, ""]) -> PointScores:
    draw_key, pit_key, replicate_key, rank_key = jax.random.split(key, 4)
    components, dtype = len(predictive.f), predictive.f.dtype
    target = y.astype(dtype)

    def log_densities(law: AbstractLikelihood, f: Array) -> Array:
        return law.point_log_densities(f, y)

    def mean(law: AbstractLikelihood, f: Array) -> Array:
        with promoting_as_numpyro():
            return jnp.broadcast_to(law.distribution(f).mean, y.shape)

    log_density = logsumexp(predictive.each(log_densities), axis=0) - jnp.log(components)
    centre = jnp.mean(predictive.each(mean), axis=0)
    draws = jnp.sort(_draws(predictive, draw_key).astype(dtype), axis=0)
    tails = (1 - jnp.asarray(LEVELS, dtype)) / 2
    low, high = jnp.split(jnp.quantile(draws, jnp.concatenate([tails, 1 - tails]), axis=0), 2)
    replicated = predictive.replicated(replicate_key, REPLICATES).astype(dtype)
    return PointScores(
        log_density,
        target - centre,
        _crps(draws, target),
        _pit(predictive, y, pit_key),
        jnp.moveaxis(high - low, 0, -1),
        # in single precision, as many as there are
        jnp.moveaxis(_ranks(draws, replicated, rank_key), 0, -1).astype(jnp.float32),
    )


def _draws(predictive: Predictive, key: Key[Array, ""]) -> Float[Array, "draws m columns"]:
    """Targets of the mixture, as many of each component."""
    components = len(predictive.f)
    keys = jax.random.split(key, (components, -(-TARGET_DRAWS // components)))

    def of_component(law: AbstractLikelihood, f: Array, keys: Array) -> Array:
        return jax.vmap(law.draw, (0, None))(keys, f)

    draws = predictive.each(of_component, keys)
    return draws.reshape(-1, *draws.shape[2:])


def _crps(draws: Float[Array, "draws m c"], y: Float[Array, "m c"]) -> Float[Array, "m c"]:
    """``E|x - y| - E|x - x'| / 2`` from sorted draws ``x`` (Gneiting and Raftery 2007, eq. 21).

    The second term is over pairs of distinct draws, without which it would be too small.
    """
    count = len(draws)
    ranks = (2 * jnp.arange(count) - count + 1).astype(draws.dtype)[:, None, None]
    apart = jnp.sum(ranks * draws, axis=0) * (2 / (count * (count - 1)))
    return jnp.mean(jnp.abs(draws - y[None]), axis=0) - apart / 2


def _pit(predictive: Predictive, y: Array, key: Key[Array, ""]) -> Float[Array, "m columns"]:
    def below(law: AbstractLikelihood, f: Array) -> Array:
        with promoting_as_numpyro():
            previous = law.distribution(f).cdf(jnp.maximum(y - 1, 0))
        return jnp.where(y > 0, previous, 0.0)

    def up_to(law: AbstractLikelihood, f: Array) -> Array:
        with promoting_as_numpyro():
            return law.distribution(f).cdf(y)

    at = jnp.mean(predictive.each(up_to), axis=0)
    if jnp.issubdtype(y.dtype, jnp.floating):
        return at
    start = jnp.mean(predictive.each(below), axis=0)
    return start + jax.random.uniform(key, y.shape, at.dtype) * (at - start)


def _ranks(
    draws: Float[Array, "draws m c"], y: Float[Array, "r m c"], key: Key[Array, ""]
) -> Float[Array, "r m c"]:
    """The share of sorted ``draws`` below ``y``, uniform where ``y`` is one more of them.

    In place of the distribution function, which has to be computed for each component.
    """

    def of_sorted(draws: Array, y: Array) -> tuple[Array, Array]:
        return jnp.searchsorted(draws, y), jnp.searchsorted(draws, y, side="right")

    of_all = jax.vmap(jax.vmap(of_sorted, 1, 1), 1, 1)
    below, up_to = (count.astype(y.dtype) for count in of_all(draws, y))
    within = jax.random.uniform(key, y.shape, y.dtype) * (up_to - below + 1)
    return (below + within) / (len(draws) + 1)
