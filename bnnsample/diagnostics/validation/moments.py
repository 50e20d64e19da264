"""Moments of draws against what they should be, with errors from chains that are independent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Float

from bnnsample.diagnostics.findings import Finding


@dataclass(frozen=True)
class Reference:
    """Mean and standard deviation of a quantity as they should be.

    ``mean_error`` and ``square_error``: how well they are known, as standard errors of the mean of
    ``z`` and of ``z^2``, ``z = (quantity - mean) / std``; 0 where they are exact.
    """

    mean: float
    std: float
    mean_error: float = 0.0
    square_error: float = 0.0

    @staticmethod
    def of(sample: Float[np.ndarray, " draws"]) -> Reference:
        """The moments of independent draws."""
        mean, std = sample.mean(), sample.std()
        squares = ((sample - mean) / (std or 1.0)) ** 2
        root = np.sqrt(len(sample))
        return Reference(float(mean), float(std), float(1 / root), float(squares.std() / root))


def standard_errors_off(
    draws: Float[np.ndarray, "draws chains"], reference: Reference
) -> tuple[float, float]:
    """How many standard errors mean and second moment are off.

    Errors come from the means of the chains, which are independent, however much the draws of one
    hang together: both are nearly Student's t with one degree of freedom fewer than there are
    chains. At 64 chains of 40 draws a level of 2e-4 was measured to be one of 1e-4 to 4e-4.
    """
    # a quantity that cannot vary has deviations, and squares of them, of 0
    z = (draws - reference.mean) / (reference.std or 1.0)
    scores = []
    for power, expected, error in (
        (1, 0.0, reference.mean_error),
        (2, float(reference.std > 0), reference.square_error),
    ):
        of_chain = np.mean(z**power, axis=0)
        own = of_chain.std(ddof=1) / np.sqrt(len(of_chain))
        off, error = of_chain.mean() - expected, np.hypot(own, error)
        exact = 0.0 if off == 0 else math.copysign(math.inf, off)
        scores.append(float(off / error) if error else exact)
    return scores[0], scores[1]


def judge_moments(
    check: str,
    draws: Mapping[str, Float[np.ndarray, "draws chains"]],
    references: Mapping[str, Reference],
    *,
    level: float,
    advice: str,
) -> list[Finding]:
    """A finding for each quantity; ``level`` is the probability that any of them is false."""
    chains = next(iter(draws.values())).shape[1]
    largest = float(scipy.stats.t.isf(level / (4 * len(draws)), chains - 1))
    findings = []
    for name, own in draws.items():
        first, second = standard_errors_off(own, references[name])
        worst = max(abs(first), abs(second))
        findings.append(
            Finding(
                name=f"{check}, {name}",
                ok=bool(worst <= largest),  # NaN fails
                figure=f"mean {first:+.1f} and second moment {second:+.1f} standard errors off "
                f"(at most {largest:.1f})",
                advice=advice,
                value=worst,
                threshold=largest,
            )
        )
    return findings
