"""What a fit says of new rows, in the units and labels of its table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import ndtr
from xarray import DataTree

from bnnsample.files import replacing
from bnnsample.sampling.predict import posterior_of
from bnnsample.tabular.blocks import ROWS, mean_and_std, outputs, probabilities
from bnnsample.tabular.fits import Fit
from bnnsample.tabular.reading import is_parquet
from bnnsample.tabular.targets import LabelTarget, NumberTarget

QUANTILES = (0.05, 0.95)

WIDEST = 10.0
"""Noise standard deviations from any component within which all quantiles lie."""

HALVINGS = 30
"""Of that range: to a billionth of it."""


def predictions(fit: Fit, run: DataTree, table: pd.DataFrame) -> pd.DataFrame:
    """A row of predictions for each of ``table``, in its order.

    Of numbers ``mean``, ``std`` and quantiles of new targets, noise included. Of labels the
    likeliest, named as the target, and the probability of each. Raises ``ValueError`` where columns
    are wanting, and for a run that is not finished.
    """
    blocks = []
    for f in outputs(run, fit.encoding.encoded(table), posterior_of(run), ROWS):
        if isinstance(fit.target, NumberTarget):
            noise = run.children["posterior"].dataset["noise_std"].values.ravel()
            blocks.append(_numbers(fit.target, f, noise))
        else:
            blocks.append(_labels(fit.target, f))
    return pd.concat(blocks, ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet, or else as CSV, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        if is_parquet(path):
            table.to_parquet(partial, engine="pyarrow", index=False)
        else:
            table.to_csv(partial, index=False)


def _numbers(
    target: NumberTarget, f: Float[np.ndarray, "k m 1"], noise: Float[np.ndarray, " k"]
) -> pd.DataFrame:
    mean, std = (part[:, 0] for part in mean_and_std(f, noise[:, None]))
    found = {"mean": target.mean + target.std * mean, "std": target.std * std}
    for share in QUANTILES:
        own = target.mean + target.std * quantile(f[..., 0], noise, share)
        found[f"quantile_{100 * share:g}"] = own
    return pd.DataFrame(found)


def quantile(
    f: Float[np.ndarray, "k m"], noise: Float[np.ndarray, " k"], share: float
) -> Float[np.ndarray, " m"]:
    """What a mixture of equally weighted N(f, noise^2) is below with probability ``share``."""
    spread = noise[:, None]
    low, high = (f - WIDEST * spread).min(axis=0), (f + WIDEST * spread).max(axis=0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = ndtr((middle - f) / spread).mean(axis=0) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _labels(target: LabelTarget, logits: Float[np.ndarray, "k m c"]) -> pd.DataFrame:
    shares = probabilities(logits)
    labels = np.asarray(target.classes)[shares.argmax(axis=1)]
    named: Iterator[tuple[str, np.ndarray]] = (
        (f"probability_{label}", share)
        for label, share in zip(target.classes, shares.T, strict=True)
    )
    return pd.DataFrame({target.name: labels} | dict(named))
