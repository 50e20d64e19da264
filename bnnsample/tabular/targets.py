"""The column that is predicted: numbers that are standardised, or labels that are counted off."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from bnnsample.checks import bad_input
from bnnsample.diagnostics.quality.quality import Quality, Score
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.likelihoods.discrete import Categorical
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.tabular.kinds import as_floats, as_text, check_finite, kind_of
from bnnsample.tabular.reading import MARKS, listed
from bnnsample.tabular.scales import NOISE_PRIOR

MOST_CLASSES = 50
"""Labels that a target may have; arbitrary."""

FEW_VALUES = 10
"""Whole numbers up to which a target may well be labels."""


@dataclass(frozen=True)
class NumberTarget:
    """Numbers, less their ``mean`` and divided by ``std`` of the training rows."""

    name: str
    mean: float
    std: float

    @property
    def outputs(self) -> int:
        return 1

    @property
    def likelihood(self) -> AbstractLikelihood:
        return Gaussian(NOISE_PRIOR)

    def encoded(self, column: pd.Series) -> Float[np.ndarray, "n 1"]:
        return (as_floats(column)[:, None] - self.mean) / self.std

    def in_units(self, found: Quality) -> Quality:
        """Scores of standardised targets as they are in the target's units."""
        scores = {
            name: Score(score.value - math.log(self.std), score.error)
            if name == "log density"
            else Score(score.value * self.std, score.error * self.std)
            for name, score in found.scores.items()
        }
        intervals = tuple(own._replace(width=own.width * self.std) for own in found.intervals)
        return replace(found, scores=scores, intervals=intervals)

    def sentence(self) -> str:
        return (
            f"to predict: {self.name}, numbers of mean {self.mean:.4g} and standard deviation "
            f"{self.std:.4g}"
        )


@dataclass(frozen=True)
class LabelTarget:
    """Labels, as they are written, numbered in the order of ``classes``."""

    name: str
    classes: tuple[str, ...]

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def likelihood(self) -> AbstractLikelihood:
        return Categorical()

    def encoded(self, column: pd.Series) -> Float[np.ndarray, "n 1"]:
        numbers = {label: float(number) for number, label in enumerate(self.classes)}
        return as_text(column).map(numbers).to_numpy(np.float64)[:, None]

    def in_units(self, found: Quality) -> Quality:
        """Scores of labels have no units."""
        return found

    def sentence(self) -> str:
        return f"to predict: {self.name}, one of {len(self.classes)}: {listed(self.classes)}"


type Target = NumberTarget | LabelTarget


def target_of(column: pd.Series, train: np.ndarray, *, classes: bool) -> Target:
    """What ``column``, without missing values, is as a target, by its rows ``train``.

    Labels are those of all rows. Raises ``ValueError`` for what is no target.
    """
    return _labels(column) if classes else _numbers(column, train)


def told(column: pd.Series, target: Target) -> list[str]:
    """What is to be said of the numbers of a target, and of labels that look like missing ones."""
    values = column.unique()
    if isinstance(target, LabelTarget):
        marks = [label for label in target.classes if label.lower() in MARKS]
        return (
            [
                f"{target.name} has the label {listed(marks)}: where that means missing, leave the "
                "cell empty"
            ]
            if marks
            else []
        )
    if len(values) > FEW_VALUES:
        return []
    if np.any(as_floats(column) % 1):
        return []
    return [f"{target.name} has {len(values)} values only: if they are labels, add --classes"]


def as_dict(target: Target) -> dict[str, Any]:
    """As JSON takes it."""
    return asdict(target)


def of_dict(stored: Mapping[str, Any]) -> Target:
    """What ``as_dict`` was made of."""
    if "classes" in stored:
        return LabelTarget(stored["name"], tuple(stored["classes"]))
    return NumberTarget(**stored)


def _numbers(column: pd.Series, train: np.ndarray) -> NumberTarget:
    name = str(column.name)
    if (kind := kind_of(column)) != "number":
        raise bad_input(
            f"target {name}",
            got=kind,
            expected="numbers, or labels with --classes",
            probably="labels: add --classes",
        )
    values = as_floats(column)
    check_finite(column, values)
    seen = values[train]
    if seen.min() == seen.max():  # the std of 0.1 in all rows is rounding, not 0
        raise bad_input(
            f"target {name}",
            got=f"{seen[0]:g} in all training rows",
            expected="numbers that differ",
            probably="another column, or a table that was filtered by its target",
        )
    return NumberTarget(name, float(seen.mean()), float(seen.std()))


def _labels(column: pd.Series) -> LabelTarget:
    name, found = str(column.name), set(as_text(column))
    if not 2 <= len(found) <= MOST_CLASSES:
        raise bad_input(
            f"target {name}",
            got=f"{len(found)} different {'label' if len(found) == 1 else 'labels'}",
            expected=f"2 to {MOST_CLASSES}",
            probably="numbers: leave --classes out" if len(found) > 1 else "another column",
        )
    return LabelTarget(name, tuple(sorted(found)))
