"""Scores by test point of class labels under a predictive mixture, and their calibration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Key

from bnnsample.diagnostics.quality.coverage import (
    AS_SURE,
    BAND,
    LEAST_P,
    NOT_SURE_ENOUGH,
    REPLICATES,
    TOO_SURE,
    rank_p_value,
)
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.scales import promoting_as_numpyro

BINS = 10
"""Of confidence, of equal width; a choice: more have too few points of a small test set."""


class LabelScores(NamedTuple):
    """Scores of each label, (m, columns), and how sure the likeliest class was.

    ``log_loss``: minus the log of the label's probability. ``brier``: squared distance of the
    probabilities to the label's, summed over classes, from 0 to 2 (Brier 1950). ``right``: whether
    the likeliest class was the label. ``confidence``: its probability. ``replicated_right``:
    whether it was that of each of ``REPLICATES`` sets of labels drawn at all points together.
    """

    log_loss: Float[Array, "m columns"]
    brier: Float[Array, "m columns"]
    right: Float[Array, "m columns"]
    confidence: Float[Array, "m columns"]
    replicated_right: Bool[Array, "m columns replicates"]


def label_scores(predictive: Predictive, y: Array, seed: int) -> LabelScores:
    """The scores of labels ``y`` (m, columns), some points at a time."""
    return predictive.by_blocks(_scores, y, seed, draws=REPLICATES)


@jax.jit
def _scores(predictive: Predictive, y: Array, key: Key[Array, ""]) -> LabelScores:
    def log_probabilities(law: AbstractLikelihood, f: Array) -> Array:
        with promoting_as_numpyro():
            distribution = law.distribution(f)
            classes = distribution.enumerate_support(expand=False)
            return jnp.moveaxis(distribution.log_prob(classes), 0, -1)

    of_components = predictive.each(log_probabilities)
    logs = logsumexp(of_components, axis=0) - jnp.log(len(of_components))
    probabilities = jnp.exp(logs)
    chosen = jnp.argmax(logs, axis=-1)
    labels = jax.nn.one_hot(y, logs.shape[-1], dtype=logs.dtype)
    return LabelScores(
        log_loss=-jnp.take_along_axis(logs, y[..., None], axis=-1)[..., 0],
        brier=jnp.sum((probabilities - labels) ** 2, axis=-1),
        right=(chosen == y).astype(logs.dtype),
        confidence=jnp.max(probabilities, axis=-1),
        replicated_right=jnp.moveaxis(
            predictive.replicated(key, REPLICATES) == chosen[None], 0, -1
        ),
    )


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often the likeliest class was right, beside how sure of it the predictive was.

    By bins of confidence with the ``edges`` (bins + 1,): ``count`` of labels, their mean
    ``confidence``, the ``accuracy``, and the ``band`` (2, bins) that 95 % of accuracies would lie
    in were the confidence right; NaN where there are none. ``error``: the expected calibration
    error, ``|accuracy - confidence|`` averaged over labels (Naeini et al. 2015), which is above 0
    for the best of forecasts, and ``error_band`` that of 95 % of these. ``p_value``: the share of
    sets of labels drawn from the predictive with as high an error, or as much more or less
    confidence than accuracy on the whole, which is how a forecast that is too sure differs most.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    band: np.ndarray
    error: float
    error_band: tuple[float, float]
    p_value: float

    @property
    def ok(self) -> bool:
        """Whether chance explains what is wrong, as it does 39 times of 40 where nothing is."""
        return self.p_value >= LEAST_P

    @property
    def direction(self) -> str:
        """``"too sure"`` or ``"not sure enough"``, as most of the error is, where it is not ok."""
        if self.ok:
            return AS_SURE
        excess = np.nansum((self.confidence - self.accuracy) * self.count) / self.count.sum()
        if abs(excess) < self.error / 2:
            return "too sure of some labels and not sure enough of others"
        return TOO_SURE if excess > 0 else NOT_SURE_ENOUGH


def reliability(
    confidence: Float[np.ndarray, ...],
    right: Float[np.ndarray, ...],
    replicated_right: Bool[np.ndarray, "... replicates"],
) -> Reliability:
    """The calibration of labels given by their ``confidence`` and whether they were ``right``.

    Bands are those of the replicated labels: of consistency resampling (Broecker and Smith 2007),
    but that labels depend on each other as they do under the predictive. Confidence itself is not
    resampled.
    """
    replicated = replicated_right.reshape(-1, replicated_right.shape[-1]).T
    confidence, right = confidence.ravel(), right.ravel()
    cells = np.minimum((confidence * BINS).astype(int), BINS - 1)
    members = (cells == np.arange(BINS)[:, None]).astype(float)
    count = members.sum(axis=1).astype(int)
    sums = np.vstack([right, replicated]) @ members.T
    excess = (sums - confidence @ members.T) / len(confidence)
    errors = np.abs(excess).sum(axis=1)
    low, high = np.quantile(errors[1:], BAND)
    mean, accuracy = (_divided(values, count) for values in (confidence @ members.T, sums))
    return Reliability(
        edges=np.linspace(0, 1, BINS + 1),
        count=count,
        confidence=mean,
        accuracy=accuracy[0],
        band=np.quantile(accuracy[1:], BAND, axis=0),
        error=float(errors[0]),
        error_band=(float(low), float(high)),
        p_value=rank_p_value(np.stack([errors, np.abs(excess.sum(axis=1))], axis=1)),
    )


def _divided(sums: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)
