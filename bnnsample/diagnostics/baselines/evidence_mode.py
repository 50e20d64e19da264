"""Hyperparameters for what does not average over them: those of highest evidence."""

from __future__ import annotations

from bnnsample.limits.hyperposterior import hyperposterior
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.posterior import Posterior


def at_evidence_mode(posterior: Posterior) -> Posterior:
    """The posterior given the values of its hyperparameters at the mode of the NNGP's evidence.

    The evidence times their prior, in unconstrained coordinates; by Laplace's approximation where
    the likelihood is not Gaussian. A posterior without hyperparameters comes back as it is.
    """
    if not posterior.hyperpriors:
        return posterior
    values, _ = constrained(posterior.hyperpriors, hyperposterior(posterior).centre)
    return posterior.given(values)
