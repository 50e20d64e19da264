"""How good predictions are, by proper scores and by whether they are as sure as they should be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array
from xarray import DataTree

from bnnsample.checks import bad_input, check_count
from bnnsample.diagnostics.quality.classes import Reliability, label_scores, reliability
from bnnsample.diagnostics.quality.coverage import (
    AS_SURE,
    BAND,
    LEAST_P,
    LEVELS,
    NOT_SURE_ENOUGH,
    ONE_SIDED,
    TOO_SURE,
    Interval,
    histogram,
    interval,
    uniformity,
)
from bnnsample.diagnostics.quality.predictive import Predictive, predictive_of
from bnnsample.diagnostics.quality.scores import point_scores
from bnnsample.models.posterior import Posterior

APART = " (were test points independent)"


class Score(NamedTuple):
    """A score averaged over test points, and its standard error, NaN of a single point.

    The error is that of another sample of test points, with the training data as they are.
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.error:.2g}"


@dataclass(frozen=True, eq=False)
class Quality:
    """Scores of predictions by name, and whether they are as sure as they should be.

    Of numbers and counts: ``"log density"`` of a point's targets, ``"RMSE"``, ``"CRPS"``;
    ``intervals`` of 50, 90 and 95 %; ``pit`` (m, columns), uniform for the right predictive, the
    p-value of that, and ``pit_band`` (2, 10), what 95 % of the shares in each of ten bins lie in.
    Of classes: ``"accuracy"``, ``"log loss"``, ``"Brier"``; and their ``reliability``.

    P-value and bands are by sets of targets drawn from the predictive, each through one function.
    ``joint`` is False where it is not known how outputs at several points go together: they are
    then taken for independent, which finds fault with right predictions too often.
    """

    scores: dict[str, Score]
    intervals: tuple[Interval, ...] = ()
    pit: np.ndarray | None = None
    pit_p_value: float = math.nan
    pit_band: np.ndarray | None = None
    reliability: Reliability | None = None
    joint: bool = True

    @property
    def ok(self) -> bool:
        """Whether predictions are as sure as they should be, as far as chance lets one see."""
        if self.reliability is not None:
            return self.reliability.ok
        return self.pit_p_value >= LEAST_P

    @property
    def direction(self) -> str:
        """In words what they are, as ``"too sure"`` or ``"not sure enough"``.

        By the coverage of the intervals; and where that is as it should be, or most targets outside
        them are on one side, by whether most are above or below what is predicted.
        """
        if self.reliability is not None:
            return self.reliability.direction
        if self.ok or self.pit is None:
            return AS_SURE
        narrow = [own.level for own in self.intervals if own.coverage < own.low]
        if narrow:
            above, below = (np.mean(p > (1 + narrow[-1]) / 2) for p in (self.pit, 1 - self.pit))
            if max(above, below) <= ONE_SIDED * min(above, below):
                return TOO_SURE
        elif any(own.coverage > own.high for own in self.intervals):
            return NOT_SURE_ENOUGH
        return "too low" if np.mean(self.pit) > 0.5 else "too high"

    @property
    def pit_histogram(self) -> np.ndarray | None:
        """Shares of the PIT values in ten bins of equal width, all 0.1 for the right predictive."""
        return None if self.pit is None else histogram(self.pit)

    def as_dict(self) -> dict[str, Any]:
        """All but the single PIT values, as JSON takes it: numbers that are not finite are None."""
        found: dict[str, Any] = {name: score._asdict() for name, score in self.scores.items()}
        if self.pit is not None:
            found["intervals"] = [interval._asdict() for interval in self.intervals]
            found["PIT"] = {
                "histogram": self.pit_histogram,
                "band": self.pit_band,
                "p_value": self.pit_p_value,
            }
        if self.reliability is not None:
            found["reliability"] = vars(self.reliability)
        found["joint"] = self.joint
        return _as_json(found)

    def __str__(self) -> str:
        lines = [f"{name:<20}{score}" for name, score in self.scores.items()]
        lines += [
            f"{f'{own.level:.0%} interval':<20}{own.coverage:.1%} inside "
            f"({own.low:.1%} to {own.high:.1%} were it right), mean width {own.width:.4g}"
            for own in self.intervals
        ]
        if self.pit is not None:
            lines.append(f"{'PIT uniform':<20}p = {self.pit_p_value:.2g}")
        if self.reliability is not None:
            low, high = self.reliability.error_band
            lines.append(
                f"{'calibration error':<20}{self.reliability.error:.4g} "
                f"({low:.4g} to {high:.4g} were it right; p = {self.reliability.p_value:.2g})"
            )
        lines.append(f"{'predictions are':<20}{self.direction}{'' if self.joint else APART}")
        return "\n".join(lines)


def quality(
    predictive: Predictive | DataTree,
    y_test: ArrayLike,
    *,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Quality:
    """How well a run, or a ``Predictive``, predicts targets ``y_test`` (m, columns), or (m,).

    The targets are those at the run's test inputs, of the kind that the likelihood is of, which
    also decides what is scored. ``seed`` fixes what is drawn: targets for intervals and CRPS, the
    PIT of counts and the bands of classes. ``posterior``, the one that was sampled, is needed only
    for a run whose likelihood cannot be made again from its settings. Raises ``ValueError`` for
    targets that do not fit, for a run without predictions, and where noise is known by training
    point only.
    """
    check_count("seed", seed, minimum=0)
    if isinstance(predictive, DataTree):
        predictive = predictive_of(predictive, posterior)
    if not isinstance(predictive, Predictive):
        raise bad_input(
            "predictive",
            got=f"a {type(predictive).__name__}",
            expected="a run, or a Predictive such as those of bnn.baselines(...)",
            probably="an array of draws, or a posterior that was not sampled yet",
        )
    of_kind = _of_labels if predictive.of_classes else _of_numbers
    return of_kind(predictive, predictive.as_targets(y_test), seed)


def _of_labels(predictive: Predictive, y: Array, seed: int) -> Quality:
    scores = label_scores(predictive, y, seed)
    found = (scores.confidence, scores.right, scores.replicated_right)
    return Quality(
        {
            "accuracy": _mean(scores.right),
            "log loss": _mean(scores.log_loss),
            "Brier": _mean(scores.brier),
        },
        reliability=reliability(*map(np.asarray, found)),
        joint=predictive.joint,
    )


def _of_numbers(predictive: Predictive, y: Array, seed: int) -> Quality:
    scores = point_scores(predictive, y, seed)
    squared = _mean(scores.error**2)
    root = math.sqrt(squared.value)
    pit, replicated = np.asarray(scores.pit), np.asarray(scores.replicated_pit)
    widths = np.mean(scores.widths, axis=(0, 1))
    return Quality(
        {
            "log density": _mean(scores.log_density[:, None]),
            # to first order, as the root of a mean
            "RMSE": Score(root, squared.error / (2 * root) if root else 0.0),
            "CRPS": _mean(scores.crps),
        },
        intervals=tuple(
            interval(level, pit, replicated, float(width))
            for level, width in zip(LEVELS, widths, strict=True)
        ),
        pit=pit,
        pit_p_value=uniformity(pit, replicated),
        pit_band=np.quantile(histogram(replicated), BAND, axis=-1),
        joint=predictive.joint,
    )


def _mean(values: ArrayLike) -> Score:
    """Over points (rows) and columns; columns of a point depend on each other."""
    by_point = np.mean(values, axis=1)
    count = len(by_point)
    error = by_point.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return Score(float(by_point.mean()), float(error))


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_as_json(part) for part in value]
    number = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number
