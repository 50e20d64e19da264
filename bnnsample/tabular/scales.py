"""The network for a standardised table, and its scales at the mode of the evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from bnnsample.checks import warn
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.models.builders import fcn
from bnnsample.models.likelihoods.base import AbstractLikelihood
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior

NOISE_PRIOR = dist.LogNormal(-1.0, 1.0)
"""Of the noise, in standard deviations of the targets."""

EVIDENCE_ROWS = 500
"""Of more rows that many, drawn at random, fit the scales: what they leave open is little, and the
time of a fit grows as their cube."""

JUDGED_POINTS = 100
"""Training inputs at most at which chains are compared where none are held out; a choice."""


def network_with_priors(depth: int, width: int, outputs: int, activation: Any) -> Network:
    """A fully connected network whose scales are unknown, for standardised inputs and targets."""
    return fcn(
        depth, width, outputs, activation,
        w_std=dist.LogNormal(0.35, 0.5),
        b_std=dist.LogNormal(-1.0, 1.0),
        w_std_out=dist.LogNormal(0.0, 1.0),
    )  # fmt: skip


def at_fitted_scales(
    network: Network,
    X: np.ndarray,
    y: np.ndarray,
    likelihood: AbstractLikelihood,
    seed: int,
    tell: Callable[[str], object] = warn,
) -> tuple[Network, AbstractLikelihood]:
    """``network`` and ``likelihood`` with their unknown scales at the mode of the evidence.

    Of the infinitely wide network, by Laplace's approximation where noise is not Gaussian. ``tell``
    gets a sentence where the mode was not found.
    """
    rows = np.arange(len(X))
    if len(X) > EVIDENCE_ROWS:
        rows = np.random.default_rng(seed).choice(len(X), EVIDENCE_ROWS, replace=False)
    fitted = at_evidence_mode(Posterior(network, X[rows], y[rows], likelihood), tell)
    return jax.tree.map(_plain, (fitted.network, fitted.likelihood))


def judged_rows(X: np.ndarray) -> np.ndarray:
    """Training inputs at which the chains of a run are compared."""
    count = min(len(X), JUDGED_POINTS)
    return X[np.linspace(0, len(X) - 1, count).astype(int)]


def _plain(scale: Any) -> Any:
    """A number as Python's, which the text of a run can be made again from."""
    return np.asarray(scale).item() if np.size(scale) == 1 else np.asarray(scale)
