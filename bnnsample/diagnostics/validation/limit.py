"""The infinite-width limit: how fast predictions of wider and wider networks come near it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from bnnsample.checks import bad_input
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.function_space import Distance, distance_to_nngp
from bnnsample.diagnostics.validation.replications import TargetOf, choose_target
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior, as_test_inputs
from bnnsample.sampling.draws import limit_at
from bnnsample.sampling.run import sample
from bnnsample.sampling.samplers.base import AbstractSampler

LEAST_Z = 3.0
"""Standard errors by which the distance must fall from the narrowest to the widest network."""

SLOWEST = -0.25
"""Slope that the fall must have at least: half of the slowest that theory has, so that a distance
which levels off is seen."""


@dataclass(frozen=True)
class LimitRate:
    """Distances to the NNGP posterior by width, and ``distance ~ width^slope`` fitted to them.

    ``slope`` is NaN where fewer than two distances stand out from their Monte-Carlo error. Theory
    of networks of finite width has it between -1, where the mean of the posterior is far, and -1/2.
    """

    widths: tuple[int, ...]
    distances: tuple[Distance, ...]
    slope: float
    slope_error: float

    @property
    def verdict(self) -> Verdict:
        """Whether the distance falls, and does not level off."""
        first, last = self.distances[0], self.distances[-1]
        z = (first.squared - last.squared) / np.hypot(first.squared_error, last.squared_error)
        figures = ", ".join(
            f"{each.value:.3f} at {width}"
            for width, each in zip(self.widths, self.distances, strict=True)
        )
        finding = Finding(
            name="limit, distance to the NNGP",
            ok=bool(z >= LEAST_Z and not self.slope > SLOWEST),
            figure=f"{figures} (in its standard deviations): falls by {z:.1f} standard errors (at "
            f"least {LEAST_Z:g}), as width to the {self.slope:.2f} ± {self.slope_error:.2f} (at "
            f"most {SLOWEST:g})",
            advice="Network and limit differ in a scale, or chains are too short",
            value=self.slope,
            threshold=SLOWEST,
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
) -> LimitRate:
    """Sample the network of each width and measure how far it is from the NNGP posterior.

    ``network_of`` makes the network of a width, which has a known limit. Predictions are compared
    at ``x_test``, by default at the training inputs. The limit is that of the network given, not of
    the target's. Raises ``ValueError`` for fewer than two widths, or ones that do not grow, and
    what ``Posterior`` and ``sample`` refuse.
    """
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
    return LimitRate(tuple(widths), tuple(distances), *_slope(widths, distances))


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
