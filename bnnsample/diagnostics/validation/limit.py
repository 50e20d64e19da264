"""The infinite-width limit: how fast predictions of wider and wider networks come near it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from jax.typing import ArrayLike

from bnnsample.checks import bad_input, check_count
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.function_space import Distance, distance_to_nngp
from bnnsample.diagnostics.validation.calibration import check_level
from bnnsample.diagnostics.validation.replications import TargetOf, choose_target
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.sampling.draws import limit_at
from bnnsample.sampling.run import sample
from bnnsample.sampling.samplers.base import AbstractSampler

SLOWEST = -0.25
"""Slope that the fall must have at least: half of the slowest that theory has, so that a distance
which levels off is seen."""


@dataclass(frozen=True)
class LimitRate:
    """Distances to the NNGP posterior by width, and ``distance ~ width^slope`` fitted to them.

    ``slope`` is NaN where fewer than two distances stand out from their Monte-Carlo error. Theory
    of networks of finite width has it between -1, where the mean of the posterior is far, and -1/2.
    ``level``: the probability of a false alarm, with errors from ``chains`` chains.
    """

    widths: tuple[int, ...]
    distances: tuple[Distance, ...]
    slope: float
    slope_error: float
    chains: int
    level: float

    @property
    def verdict(self) -> Verdict:
        """Whether the distance falls as fast as it must; not judged where chains cannot tell."""
        first, last = self.distances[0], self.distances[-1]
        share = (self.widths[-1] / self.widths[0]) ** (2 * SLOWEST)
        error = np.hypot(share * first.squared_error, last.squared_error)
        z = (last.squared - share * first.squared) / error
        largest = float(scipy.stats.t.isf(self.level, self.chains - 1))
        figures = ", ".join(
            f"{each.value:.3f} at {width}"
            for width, each in zip(self.widths, self.distances, strict=True)
        )
        finding = Finding(
            name="limit, distance to the NNGP",
            ok=None if -largest < z <= largest else bool(z < 0),
            figure=f"{figures} (in its standard deviations), as width to the {self.slope:.2f} ± "
            f"{self.slope_error:.2f}; {abs(z):.1f} standard errors {'below' if z < 0 else 'above'} "
            f"one that falls as width to the {SLOWEST:g} (judged from {largest:.1f} on)",
            advice="Network and limit differ in a scale"
            if not z <= largest
            else "These chains are too few or too short to tell: give a larger size, or more draws",
            value=float(z),
            threshold=largest,
        )
        return Verdict.of([finding])


def limit_rate(
    network_of: Callable[[int], Network],
    x: ArrayLike,
    y: ArrayLike,
    noise_std: float,
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    widths: Sequence[int] = (4, 16, 64),
    x_test: ArrayLike | None = None,
    chains: int = 8,
    warmup: int = 200,
    draws: int = 500,
    seed: int = 0,
    level: float = 0.001,
) -> LimitRate:
    """Sample the network of each width and measure how far it is from the NNGP posterior.

    ``network_of`` makes the network of a width, which has a known limit. Predictions are compared
    at ``x_test``, by default at the training inputs. The limit is that of the network given, not of
    the target's. The verdict raises a false alarm with probability ``level``. Raises ``ValueError``
    for fewer than two widths, or ones that do not grow, fewer than three chains, a bad ``level``,
    and what ``Posterior`` and ``sample`` refuse.
    """
    check_level(level)
    check_count("chains", chains, minimum=3)  # fewer have no error
    if len(widths) < 2 or list(widths) != sorted(set(widths)):
        raise bad_input(
            "widths",
            got=repr(tuple(widths)),
            expected="two or more, each wider than the one before",
            probably="another order",
        )
    distances = []
    for number, width in enumerate(widths):
        posterior = Posterior(network_of(width), x, y, Gaussian(noise_std))
        test = as_test_inputs(posterior.x if x_test is None else x_test, posterior.x)
        run = sample(
            choose_target(posterior, target), sampler, chains=chains, warmup=warmup, draws=draws,
            seed=seed * len(widths) + number, x_test=test, keep=("predictions",),
        )  # fmt: skip
        constant = run.children["constant_data"]
        meant = {
            name: (constant.dataset[name].dims, values)
            for name, values in limit_at(posterior, test).items()
        }
        constant.dataset = constant.to_dataset().assign(meant)
        distances.append(distance_to_nngp(run))
    slope = _slope(widths, distances)
    return LimitRate(tuple(widths), tuple(distances), *slope, chains, level)


def _slope(widths: Sequence[int], distances: Sequence[Distance]) -> tuple[float, float]:
    """Weighted least squares of log distance on log width, and the slope's standard error."""
    seen = [
        (np.log(width), np.log(each.squared) / 2, 2 * each.squared / each.squared_error)
        for width, each in zip(widths, distances, strict=True)
        if each.squared > each.squared_error
    ]
    if len(seen) < 2:
        return float("nan"), float("nan")
    log_width, log_distance, precision = np.array(seen).T
    weights = precision**2
    centred = log_width - np.average(log_width, weights=weights)
    spread = np.sum(weights * centred**2)
    return float(np.sum(weights * centred * log_distance) / spread), float(spread**-0.5)
