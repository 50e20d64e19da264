"""What the estimators do with a table before there is a posterior."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import bnnsample
from bnnsample.checks import bad_input, check_scale
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.tabular.scales import NOISE_PRIOR

PACKAGE = str(Path(bnnsample.__file__).parent)
"""Warnings are as from the line outside it that called the estimator."""


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


def distinct_rows(X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of equal rows of inputs and targets, in their order, and how often each comes."""
    both = np.column_stack([X, y.reshape(len(y), -1)])
    _, rows, counts = np.unique(both, axis=0, return_index=True, return_counts=True)
    order = np.argsort(rows)
    return rows[order], counts[order]


def seed_of(random_state: Any) -> int:
    """A seed of the library's from scikit-learn's ``random_state``."""
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def noise_of(noise_std: ArrayLike | None, y_scaler: StandardScaler) -> Gaussian:
    """Gaussian noise of standardised targets, known or under a vague prior."""
    if noise_std is None:
        return Gaussian(NOISE_PRIOR)
    units = np.asarray(y_scaler.scale_)
    stds = np.asarray(noise_std, dtype=object)
    if stds.shape not in ((), units.shape):
        raise bad_input(
            "noise_std",
            got=f"an array of shape {stds.shape}",
            expected=f"a number for all outputs, or an array {units.shape} with one for each",
            probably="noise for each row, or targets of another number of columns",
        )
    for std in stds.flat:
        check_scale("noise_std", std)
    scales = stds.astype(float) / units
    return Gaussian(float(scales[0]) if scales.size == 1 else scales)


def warn_not_converged(message: str) -> None:
    """Warn of a fit that is not to be relied on, as scikit-learn does."""
    warnings.warn(message, ConvergenceWarning, skip_file_prefixes=(PACKAGE,))


def warn_of_copies(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n o"]) -> None:
    """Warn where most rows have copies, from which the noise cannot be learned."""
    _, counts = distinct_rows(x, y)
    copies = counts[counts > 1].sum()
    if copies > len(x) / 2:
        warnings.warn(
            f"{copies} of {len(x)} rows are equal to others, targets included, by sample_weight or "
            "in the table: given them the noise is near 0, and the network goes through every "
            "target; give noise_std, or leave copies out",
            UserWarning,
            skip_file_prefixes=(PACKAGE,),
        )
