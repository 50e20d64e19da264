"""Tables as they are fitted to, and answers in the units and labels that they came in."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.preprocessing import StandardScaler
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from bnnsample.checks import bad_input
from bnnsample.sklearn.preparation import weighted


class OfNumbers(MultiOutputMixin, RegressorMixin):
    """Regression of standardised targets: ``x_scaler_``, ``y_scaler_``."""

    def _standardised(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n o"]]:
        checked: Any = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64
        )
        X, y = checked[0], np.asarray(checked[1], np.float64)
        self.y_ndim_ = y.ndim
        X, y = weighted(X, y.reshape(len(y), -1), sample_weight)
        if (y == y[:1]).all(axis=0).any():
            raise bad_input(
                "y",
                got=f"n_samples={len(y)} with one value of a target",
                expected="targets that differ",
                probably="an identifier, a column of zeros, or a fold with one row",
            )
        self.x_scaler_, self.y_scaler_ = StandardScaler().fit(X), StandardScaler().fit(y)
        return np.asarray(self.x_scaler_.transform(X)), np.asarray(self.y_scaler_.transform(y))

    def _in_units(self, y: Float[np.ndarray, "m o"]) -> np.ndarray:
        y = np.asarray(self.y_scaler_.inverse_transform(y))
        return y[:, 0] if self.y_ndim_ == 1 else y

    def _std_in_units(self, std: Float[np.ndarray, "m o"]) -> np.ndarray:
        std = std * self.y_scaler_.scale_
        return std[:, 0] if self.y_ndim_ == 1 else std


class OfLabels(ClassifierMixin):
    """Classification of labels of any kind: ``x_scaler_``, ``classes_``."""

    classes_: np.ndarray

    def _standardised(
        self, X: Any, y: Any, sample_weight: Any
    ) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
        checked: Any = validate_data(self, X, y, dtype=np.float64)
        labels = column_or_1d(checked[1], warn=True)
        check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        X, numbers = weighted(checked[0], numbers, sample_weight)
        seen, numbers = np.unique(numbers, return_inverse=True)
        self.classes_ = classes[seen]
        if len(self.classes_) < 2:
            raise bad_input(
                "y",
                got="one class",
                expected="two classes or more",
                probably="a table sorted by class and then cut",
            )
        self.x_scaler_ = StandardScaler().fit(X)
        return np.asarray(self.x_scaler_.transform(X)), numbers

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class at each row of ``X`` (m, d)."""
        probabilities = self.predict_proba(X)  # pyright: ignore[reportAttributeAccessIssue]
        return self.classes_[probabilities.argmax(axis=1)]
