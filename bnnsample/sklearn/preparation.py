"""What the estimators do with a table before there is a posterior."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from bnnsample.checks import bad_input
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.models.builders import fcn
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior

NOISE_PRIOR = dist.LogNormal(-1.0, 1.0)
"""Of the noise, in standard deviations of the targets."""

EVIDENCE_ROWS = 500
"""Of more rows that many, drawn at random, fit the scales: what they leave open is little, and the
time of a fit grows as their cube."""


def as_inputs(estimator: Any, X: Any) -> Float[np.ndarray, "m d"]:
    """New inputs of a fitted estimator, standardised as those that it was fitted to."""
    check_is_fitted(estimator)
    checked: Any = validate_data(estimator, X, reset=False, dtype=np.float64)
    return estimator.x_scaler_.transform(checked)


def weighted(
    X: Float[np.ndarray, "n d"], y: np.ndarray, sample_weight: Any
) -> tuple[Float[np.ndarray, "m d"], np.ndarray]:
    """Each row as often as its weight says, in an order that depends on nothing but the rows.

    A posterior given a row twice is exact for a weight of 2; no likelihood is to the power of 0.5.
    Sorted, the same table gives the same draws however its rows come.
    """
    weights = _check_sample_weight(sample_weight, X)
    counts = weights.astype(int)
    bad = (counts != weights) | (counts < 0)
    if bad.any():
        raise bad_input(
            "sample_weight",
            got=f"weights such as {weights[bad][0]}",
            expected="whole numbers, of how often each row was seen",
            probably="precisions or importance weights, which no posterior is exact for",
        )
    order = np.lexsort(np.column_stack([X, y.reshape(len(y), -1)]).T[::-1])
    order = np.repeat(order, counts[order])
    return X[order], y[order]


def seed_of(random_state: Any) -> int:
    """A seed of the library's from scikit-learn's ``random_state``."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def network_with_priors(depth: int, width: int, outputs: int, activation: Any) -> Network:
    """A fully connected network whose scales are unknown, for standardised inputs and targets."""
    return fcn(
        depth, width, outputs, activation,
        w_std=dist.LogNormal(0.35, 0.5),
        b_std=dist.LogNormal(-1.0, 1.0),
        w_std_out=dist.LogNormal(0.0, 1.0),
    )  # fmt: skip


def at_fitted_scales(
    network: Network, X: np.ndarray, y: np.ndarray, likelihood: AbstractLikelihood, seed: int
) -> tuple[Network, AbstractLikelihood]:
    """``network`` and ``likelihood`` with their unknown scales at the mode of the evidence.

    Of the infinitely wide network, by Laplace's approximation where noise is not Gaussian.
    """
    rows = np.arange(len(X))
    if len(X) > EVIDENCE_ROWS:
        rows = np.random.default_rng(seed).choice(len(X), EVIDENCE_ROWS, replace=False)
    fitted = at_evidence_mode(Posterior(network, X[rows], y[rows], likelihood))
    return jax.tree.map(_plain, (fitted.network, fitted.likelihood))


def noise_of(noise_std: float | None, y_scaler: StandardScaler) -> Gaussian:
    """Gaussian noise of standardised targets, known or under a vague prior."""
    if noise_std is None:
        return Gaussian(NOISE_PRIOR)
    scales = np.asarray(noise_std) / np.asarray(y_scaler.scale_)
    return Gaussian(float(scales[0]) if scales.size == 1 else scales)


def _plain(scale: Any) -> Any:
    """A number as Python's, which the text of a run can be made again from."""
    return np.asarray(scale).item() if np.size(scale) == 1 else np.asarray(scale)
