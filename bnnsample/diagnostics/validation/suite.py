"""All checks of a target and a sampler, on problems small enough for a minute."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from bnnsample.checks import BadInput, check_count
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.validation.calibration import check_level, simulation_based_calibration
from bnnsample.diagnostics.validation.conjugate import conjugate_test
from bnnsample.diagnostics.validation.geweke import joint_distribution_test
from bnnsample.diagnostics.validation.limit import limit_rate
from bnnsample.diagnostics.validation.preflight import preflight
from bnnsample.diagnostics.validation.rejection import rejection_test
from bnnsample.diagnostics.validation.replications import TargetOf, choose_target
from bnnsample.diagnostics.validation.student_t import student_t_test
from bnnsample.models.builders import fcn
from bnnsample.models.layers.activation import Activation
from bnnsample.models.layers.dense import Dense
from bnnsample.models.likelihoods.gaussian import Gaussian
from bnnsample.models.network import Network
from bnnsample.models.posterior import Posterior
from bnnsample.repriorisation.base import check_posterior
from bnnsample.sampling.samplers.base import AbstractSampler

STATISTICAL = 6
"""Checks that can raise a false alarm by chance, over which its probability is split."""

TINY = 2
"""Points that prior draws meet often enough for rejection."""


def validate(
    posterior: Posterior | None = None,
    target: TargetOf | None = None,
    sampler: AbstractSampler | None = None,
    *,
    seed: int = 0,
    size: int = 1,
    level: float = 0.01,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> Verdict:
    """Run every check that applies to a target and a sampler; the verdict has all findings.

    ``target`` makes the target of a posterior, ``bnn.marginal`` for one; by default, as for
    ``sampler``, what ``bnn.sample`` would take. ``posterior`` is what preflight, calibration, the
    joint distribution and, with its first two points, rejection are run on: a small network, or
    they take long; by default one of three hidden units. Linear regression, Student's t and the
    limit have networks of their own. ``size`` multiplies replications, chains and draws.

    ``level`` is the probability that a correct sampler fails, split evenly over the six
    statistical checks, and in each over its statistics (Bonferroni); preflight has none. What does
    not apply, or cannot be told from so few draws, is told and not judged. ``on_progress`` is
    called with the name of the check that begins, how many are done, and of how many.

    Raises ``ValueError`` for what is no posterior, a target or sampler that it cannot have, and bad
    ``seed``, ``size`` and ``level``.
    """
    posterior = stand_in() if posterior is None else posterior
    check_posterior(posterior)
    check_count("seed", seed, minimum=0)
    check_count("size", size)
    check_level(level)
    checks = checks_of(posterior, target, sampler, seed=seed, size=size, level=level)
    findings: list[Finding] = []
    for number, (name, check) in enumerate(checks.items()):
        if on_progress is not None:
            on_progress(name, number, len(checks))
        try:
            findings += check().findings
        except BadInput as error:
            if name == "preflight":
                raise  # target or sampler are at fault, not the check
            findings.append(Finding(name, None, f"does not apply: {error}"))
    return Verdict.of(findings)


def checks_of(
    posterior: Posterior,
    target: TargetOf | None,
    sampler: AbstractSampler | None,
    *,
    seed: int,
    size: int,
    level: float,
) -> dict[str, Callable[[], Verdict]]:
    """The checks by name, at the sizes of ``validate``; one that does not apply raises."""
    tested: dict[str, Any] = {
        "target": target,
        "sampler": sampler,
        "seed": seed,
        "level": level / STATISTICAL,
    }

    def before_a_run() -> Verdict:
        own = choose_target(posterior, target)
        return preflight(own, sampler, seed=seed, posterior=posterior)

    def calibration() -> Verdict:
        replications = 128 * size
        return simulation_based_calibration(posterior, replications=replications, **tested).verdict

    def rejection() -> Verdict:
        tiny = first_points(posterior)
        return rejection_test(tiny, exact=4000 * size, chains=400 * size, **tested)

    def limit() -> Verdict:
        return limit_rate(*limit_problem(), draws=200 * size, **tested).verdict

    return {
        "preflight": before_a_run,
        "calibration": calibration,
        "joint distribution": partial(
            joint_distribution_test, posterior, chains=256 * size, transitions=200, **tested
        ),
        "exact rejection": rejection,
        "conjugate regression": partial(
            conjugate_test, regression_problem(), chains=64 * size, **tested
        ),
        "Student's t": partial(student_t_test, chains=64 * size, **tested),
        "limit": limit,
    }


def stand_in() -> Posterior:
    """Six points in the plane, three hidden units, one output."""
    x = np.random.default_rng(1).standard_normal((6, 2))
    y = 0.5 * np.sin(x[:, :1])
    return Posterior(fcn(1, 3, 1, "tanh", w_std=1.2, b_std=0.4), x, y, Gaussian(0.4))


def first_points(posterior: Posterior) -> Posterior:
    """The posterior given its first points alone, and their noise where each point has its own."""
    y = np.asarray(posterior.y[:TINY]).astype(posterior.x.dtype)
    likelihood = posterior.likelihood
    if likelihood.varies_by_point:
        likelihood = jax.tree.map(lambda noise: noise[:TINY], likelihood)
    return Posterior(posterior.network, posterior.x[:TINY], y, likelihood)


def regression_problem() -> Posterior:
    """Fixed features: relu of the inputs, and a readout of two outputs."""
    generator = np.random.default_rng(2)
    x, y = generator.standard_normal((7, 4)), generator.standard_normal((7, 2))
    return Posterior(Network([Activation("relu"), Dense(2, 1.4, 0.3)]), x, y, Gaussian(0.5))


def limit_problem() -> tuple[Callable[[int], Network], np.ndarray, np.ndarray, float]:
    """A family of networks by width, inputs, targets and noise."""
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((6, 2)), generator.standard_normal((6, 1))
    return lambda width: fcn(1, width, 1), x, y, 0.3
