"""Distances in function space: to the NNGP posterior, and between runs of one posterior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from arviz_stats.sampling_diagnostics import mcse
from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics.convergence import check_finished


@dataclass(frozen=True)
class Distance:
    r"""A distance of a run's posterior predictive to the NNGP posterior, with its standard error.

    Per test point and output, in units of the NNGP posterior's standard deviation ``s``, with its
    mean ``m``: the differences of means and of standard deviations,

    $$d^2 = \left(\frac{E f - m}{s}\right)^2 + \left(\frac{\sqrt{V f}}{s} - 1\right)^2$$

    averaged over points and outputs: the mean squared 2-Wasserstein distance of Gaussians that have
    the moments of the marginals.

    ``squared`` has no bias of the order of 1 / draws, and can be negative where the distance is
    below the noise; ``squared_error`` is its Monte-Carlo standard error.
    """

    squared: float
    squared_error: float

    @property
    def value(self) -> float:
        """The distance itself, zero where the unbiased square is negative."""
        return float(np.sqrt(max(self.squared, 0.0)))

    @property
    def interval(self) -> tuple[float, float]:
        """The distance at one standard error below and above."""
        low, high = self.squared - self.squared_error, self.squared + self.squared_error
        return float(np.sqrt(max(low, 0.0))), float(np.sqrt(max(high, 0.0)))


def has_limit(run: DataTree) -> bool:
    """Whether predictions and those of the NNGP are there to be compared."""
    return "predictions" in run.children and "nngp_mean" in run.children["constant_data"].data_vars


def distance_to_nngp(run: DataTree) -> Distance:
    """How far a run's predictions are from the infinite-width limit.

    Raises ``ValueError`` for a run that is not finished, without predictions or without a limit:
    that of an unusual network, or of a likelihood that is not Gaussian.

    Squares of averages over draws are too large by their Monte-Carlo noise. The jackknife over
    chains (Quenouille 1956) takes it off: for squares of what is linear in the draws it is exactly
    the unbiased product of two chains. The error is the jackknife's too, and NaN with fewer than
    three chains. Where scales are unknown the limit is itself an average over 50 effective values
    of theirs, whose error is in neither: with 13 of them about 0.04 of its standard deviation.
    """
    check_finished(run)
    if not has_limit(run):
        raise bad_input(
            "run",
            got="no limit beside its predictions"
            if "predictions" in run.children
            else "no predictions",
            expected="predictions and the NNGP's at the same inputs",
            probably="a likelihood that is not Gaussian or a network without a known limit, or "
            "sample(...) without x_test",
        )
    moments = _chain_moments(run)
    chains = len(moments)
    if chains < 2:
        return Distance(float("nan"), float("nan"))
    squared = _without_bias(moments)
    if chains < 3:
        return Distance(squared, float("nan"))
    left_out = np.array([_without_bias(own) for own in _without_one(moments)])
    variance = (chains - 1) / chains * np.sum((left_out - left_out.mean()) ** 2)
    return Distance(squared, float(np.sqrt(variance)))


def _chain_moments(run: DataTree) -> np.ndarray:
    """First two moments of ``(f - m) / s`` in each chain, (chains, 2, points * outputs).

    Where the readout was integrated out, the conditional moments stand in for the draws'
    (Rao-Blackwell), with far less noise.
    """
    constant, predictions = (
        run.children[group].dataset for group in ("constant_data", "predictions")
    )
    mean = constant["nngp_mean"].values
    std = constant["nngp_std"].values
    known = std > 0  # where all outputs are one number there is no unit of distance
    mean, std = mean[known], std[known]
    if "f_mean" in predictions.data_vars:
        deviation = (predictions["f_mean"].values[:, :, known] - mean) / std
        conditional = predictions["f_std"].values[:, :, known] / std
        square = deviation**2 + conditional**2
    else:
        deviation = (predictions["f"].values[:, :, known] - mean) / std
        square = deviation**2
    return np.stack([deviation.mean(axis=1), square.mean(axis=1)], axis=1)


def _squared(moments: np.ndarray) -> float:
    """The squared distance of all chains' draws together."""
    mean, square = moments.mean(axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0.0))
    return float(np.mean(mean**2 + (std - 1) ** 2))


def _without_one(moments: np.ndarray) -> list[np.ndarray]:
    return [np.delete(moments, chain, axis=0) for chain in range(len(moments))]


def _without_bias(moments: np.ndarray) -> float:
    """The squared distance less its jackknife estimate of bias."""
    chains = len(moments)
    left_out = np.mean([_squared(own) for own in _without_one(moments)])
    return float(chains * _squared(moments) - (chains - 1) * left_out)


def chains_apart(run: DataTree) -> float:
    """How far the farthest chain's predictive means lie from those of all chains.

    In posterior standard deviations, root mean square over test points and outputs.
    """
    f = run.children["predictions"].dataset["f"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = (f.mean(axis=1) - f.mean(axis=(0, 1))) / f.std(axis=(0, 1))
    same = f.min(axis=(0, 1)) == f.max(axis=(0, 1))  # no distance, and no deviation
    return float(np.max(np.sqrt(np.mean(np.where(same, 0.0, relative) ** 2, axis=(1, 2)))))


def disagreement(run: DataTree, reference: DataTree) -> float:
    """Root mean square z-score between two runs' predictive means: about 1 if they agree.

    Both must predict at the same test points and be independent, as runs of two targets or with
    two seeds are. Each difference is divided by the two Monte-Carlo
    standard errors together; correlations between test points make single values scatter, and a
    run that did not converge understates its error, so that its z-scores are too large.
    """
    ours, theirs = (r.children["predictions"].dataset["f"] for r in (run, reference))
    difference = ours.mean(("chain", "draw")) - theirs.mean(("chain", "draw"))
    errors = [np.asarray(mcse(f, method="mean")) for f in (ours, theirs)]
    squared, variance = np.asarray(difference) ** 2, errors[0] ** 2 + errors[1] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = squared / variance
    # outputs that are the same number in all draws of both agree
    return float(np.sqrt(np.mean(np.where(squared == 0, 0.0, scores))))
