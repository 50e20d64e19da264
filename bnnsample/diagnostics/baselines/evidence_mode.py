"""Hyperparameters for what does not average over them: those of highest evidence."""

from __future__ import annotations

from collections.abc import Callable

from bnnsample.checks import warn
from bnnsample.limits.hyperposterior import mode_and_curvature
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.posterior import Posterior


def at_evidence_mode(posterior: Posterior, tell: Callable[[str], object] = warn) -> Posterior:
    """The posterior given the values of its hyperparameters at the mode of the NNGP's evidence.

    The evidence times their prior, in unconstrained coordinates; by Laplace's approximation where
    the likelihood is not Gaussian. A posterior without hyperparameters comes back as it is.
    ``tell`` gets a sentence where the search stopped short of the mode.
    """
    if not posterior.hyperpriors:
        return posterior
    coordinates, short = mode_and_curvature(posterior)
    if short:
        tell(f"{short}; the scales it stopped at are used all the same, and may fit badly")
    values, _ = constrained(posterior.hyperpriors, coordinates.centre)
    return posterior.given(values)
