"""Averages over the draws of a run at rows of a table, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from xarray import DataTree

from bnnsample.models.posterior import Posterior
from bnnsample.sampling.predict import predict

ROWS = 1024
"""Predicted at a time, so that memory does not grow with the table."""


def outputs(
    run: DataTree, x: Float[np.ndarray, "n d"], posterior: Posterior, rows: int
) -> Iterator[Float[np.ndarray, "k m o"]]:
    """The outputs of all ``k`` draws at ``x``, ``rows`` of it at a time."""
    for start in range(0, len(x), rows):
        f = predict(run, x[start : start + rows], posterior=posterior)["f"].values
        yield f.reshape(-1, *f.shape[2:])


def mean_and_std(
    f: Float[np.ndarray, "k m o"], noise: Float[np.ndarray, "_ _"]
) -> tuple[Float[np.ndarray, "m o"], Float[np.ndarray, "m o"]]:
    """Of new targets, by ``noise`` standard deviations (k, 1), (1, 1) or (1, o) about ``f``."""
    return f.mean(axis=0), np.sqrt(f.var(axis=0) + np.mean(noise**2, axis=0))


def probabilities(logits: Float[np.ndarray, "k m c"]) -> Float[np.ndarray, "m c"]:
    """Of each class, averaged over draws."""
    return softmax(logits, axis=-1).mean(axis=0)
