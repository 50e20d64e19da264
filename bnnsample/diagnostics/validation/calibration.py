"""Simulation-based calibration: the rank of the truth among draws of its posterior is uniform."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import scipy.stats
from arviz_stats.ecdf_utils import ecdf_pit
from jaxtyping import Float, Int

from bnnsample.checks import bad_input, check_count
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.validation.replications import TargetOf, kept_draws
from bnnsample.diagnostics.validation.simulate import given_targets, probe_of, simulate_all
from bnnsample.models.posterior import Posterior
from bnnsample.numerics import full_precision
from bnnsample.repriorisation.base import check_posterior
from bnnsample.sampling.samplers.base import AbstractSampler

BINS = 8
DRAWS = 63
"""Ranks go from 0 to this many, in ``BINS`` bins of equal size."""

CURVES = 2000
"""Simulated by ArviZ for the width of a band."""


@dataclass(frozen=True)
class Calibration:
    """Ranks of the truth among ``draws`` draws, by quantity, (replications,) each.

    A rank of -1 stands for a truth or a draw that is not a number.
    ``level``: the probability of a false alarm of one test; there are two for each quantity.
    """

    ranks: dict[str, np.ndarray]
    draws: int
    level: float

    def p_values(self, name: str) -> tuple[float, float]:
        """Of the chi-square test that all bins are equally likely, and of Kolmogorov-Smirnov's."""
        counts = np.bincount(self.ranks[name] * BINS // (self.draws + 1), minlength=BINS)
        bins = scipy.stats.chisquare(counts).pvalue
        return float(bins), float(scipy.stats.kstest(self._spread(name), "uniform").pvalue)

    def bands(
        self, name: str, probability: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Points, the ranks' cumulative distribution there, and the ends of its band.

        The whole curve is inside with this ``probability`` where ranks are uniform (Säilynoja,
        Bürkner and Vehtari 2022, 2103.10522); by ArviZ.
        """
        return ecdf_pit(self._spread(name), probability, CURVES)

    @property
    def verdict(self) -> Verdict:
        """One finding for each quantity."""
        return Verdict.of(self._judge(name) for name in self.ranks)

    def _spread(self, name: str) -> np.ndarray:
        """Ranks in [0, 1], each spread evenly over its step, so that theirs is a continuous law."""
        ranks = self.ranks[name]
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        return (ranks + generator.random(len(ranks))) / (self.draws + 1)

    def _judge(self, name: str) -> Finding:
        if lost := int(np.sum(self.ranks[name] < 0)):
            return Finding(
                name=f"calibration, {name}",
                ok=False,
                figure=f"not a number in {lost} of {len(self.ranks[name])} replications",
                advice="Probably a log likelihood that is not finite where chains begin",
                threshold=self.level,
            )
        bins, curve = self.p_values(name)
        return Finding(
            name=f"calibration, {name}",
            ok=min(bins, curve) >= self.level,
            figure=f"p = {bins:.2g} of uniform ranks by bins, {curve:.2g} by their distribution "
            f"(at least {self.level:.2g})",
            advice="Draws are not of this posterior, or chains too short or thinned too little",
            value=min(bins, curve),
            threshold=self.level,
        )


@full_precision
def simulation_based_calibration(
    posterior: Posterior,
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    replications: int = 128,
    warmup: int = 200,
    thinning: int = 6,
    seed: int = 0,
    level: float = 0.001,
    on_progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Ranks of parameters' functions under their prior among draws given targets from them.

    Talts et al. 2018 (1804.06788). Of the posterior its network, prior, likelihood and inputs are
    used, not its targets. ``target`` and ``sampler`` are what is tested, by default those that
    ``bnn.sample`` would take; ``level`` is the probability that all of it raises a false alarm,
    split evenly over the quantities and their two tests. 63 draws of each replication, every
    ``thinning``-th of a chain, must be nearly independent. ``on_progress`` is called with
    transitions done and of all.

    Raises ``ValueError`` for what is no posterior, for counts below 1 and for a bad ``level``.
    """
    check_posterior(posterior)
    check_count("replications", replications, minimum=BINS)
    check_level(level)
    probe = probe_of(posterior)
    root = jax.random.fold_in(jax.random.key(seed), 1)  # other numbers than the chains'
    joints, truths = simulate_all(posterior, probe, jax.random.split(root, replications))
    posteriors = [given_targets(posterior, y) for y in np.asarray(joints.y)]
    found = kept_draws(
        posteriors, target, sampler, probe,
        seed=seed, warmup=warmup, draws=DRAWS, thinning=thinning, on_progress=on_progress,
    )  # fmt: skip
    ranks = {
        name: ranks_of(
            np.asarray(truths[name]),
            draws[:, :, 0],
            np.random.default_rng([seed, zlib.crc32(name.encode())]),
        )
        for name, draws in found.items()
    }
    return Calibration(ranks, DRAWS, level / (2 * len(ranks)))


def ranks_of(
    truth: Float[np.ndarray, " replications"],
    draws: Float[np.ndarray, "draws replications"],
    generator: np.random.Generator,
) -> Int[np.ndarray, " replications"]:
    """How many draws are below the truth, and of those equal to it any number, all as likely.

    Then ranks are uniform where a quantity is constant or has atoms too: an output at 0 of a
    network without biases, units that are off. -1 where there is a NaN.
    """
    ties = np.sum(draws == truth, axis=0)
    ranks = np.sum(draws < truth, axis=0) + generator.integers(0, ties, endpoint=True)
    return np.where(np.isnan(truth) | np.isnan(draws).any(axis=0), -1, ranks)


def check_level(level: float) -> None:
    """Raise unless ``level`` is a probability of a false alarm that a test can have."""
    if not 0 < level < 1:
        raise bad_input(
            "level",
            got=repr(level),
            expected="the probability of a false alarm, in (0, 1)",
            probably="a percentage, or a number of standard errors",
        )
