"""Data sets that scikit-learn bundles, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn.datasets

from bnnsample.checks import bad_input, check_count


@dataclass(frozen=True)
class Dataset:
    """Inputs (n, d) and targets (n, o), standardised by statistics of the training points only.

    Tables: each column of ``x`` and ``y`` has mean 0 and standard deviation 1 over the training
    points. Images: all pixels share one mean and one standard deviation, which keeps pixels that
    are blank in training harmless. Classes: one-hot targets minus ``1 / classes``.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(name: str, *, train: int = 64, test: int = 20, seed: int = 0) -> Dataset:
    """``train`` and ``test`` points of a data set, drawn without replacement by ``seed``.

    Known: digits (8x8 images, 10 classes), diabetes (10 features, regression). Raises
    ``ValueError`` for other names, and for more points than there are.
    """
    if name not in DATASETS:
        raise bad_input(
            "data set",
            got=repr(name),
            expected=f"one of {', '.join(DATASETS)}",
            probably="a typing error",
        )
    check_count("train", train)
    check_count("test", test)
    check_count("seed", seed, minimum=0)
    x, y, standardise = DATASETS[name]()
    if train + test > len(x):
        raise bad_input(
            "data set size",
            got=f"{train} training and {test} test points",
            expected=f"at most {len(x)} together in {name}",
            probably="a larger data set was meant",
        )
    order = np.random.default_rng(seed).permutation(len(x))[: train + test]
    x, y = x[order], y[order]
    x, y = standardise(x, y, train)
    return Dataset(name, x[:train], y[:train], x[train:], y[train:])


type Standardise = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]


def _digits() -> tuple[np.ndarray, np.ndarray, Standardise]:
    bundle: Any = sklearn.datasets.load_digits()
    return bundle.data, np.eye(10)[bundle.target] - 0.1, standardise_images


def _diabetes() -> tuple[np.ndarray, np.ndarray, Standardise]:
    bundle: Any = sklearn.datasets.load_diabetes()
    return bundle.data, bundle.target[:, None], _standardise_table


DATASETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray, Standardise]]] = {
    "digits": _digits,
    "diabetes": _diabetes,
}


def standardise_images(x: np.ndarray, y: np.ndarray, train: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels by the mean and standard deviation of the first ``train`` images; targets as given."""
    return (x - x[:train].mean()) / x[:train].std(), y


def _standardise_table(x: np.ndarray, y: np.ndarray, train: int) -> tuple[np.ndarray, np.ndarray]:
    return _standardise_columns(x, train), _standardise_columns(y, train)


def _standardise_columns(values: np.ndarray, train: int) -> np.ndarray:
    """Columns to mean 0 and standard deviation 1; one that is constant in training only centred."""
    std = values[:train].std(axis=0)
    return (values - values[:train].mean(axis=0)) / np.where(std > 0, std, 1.0)
