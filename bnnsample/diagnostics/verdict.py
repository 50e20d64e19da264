"""Whether the draws of one run may be believed.

Nothing that is judged depends on how hidden units are numbered: a network stays the same when they
change places, so chains whose predictions agree may differ in their weights. Weights that have not
met are told, and not judged.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator

from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics import sampler_checks
from bnnsample.diagnostics.convergence import (
    QUANTITIES,
    Convergence,
    convergence,
    of_log_density,
)
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.function_space import chains_apart, distance_to_nngp, has_limit
from bnnsample.diagnostics.vectorised import MIN_DRAWS

RHAT = 1.01
ESS_PER_CHAIN = 100
"""Vehtari et al. 2021 (1903.08008), section 4: R-hat below 1.01, 100 effective draws a chain."""

NEARLY = 1.05
"""R-hat below which more draws of the same chains are the remedy; and the most that the worst of
many components may have: one in three sets of 1000 components of 4 times 300 independent draws has
one above 1.01."""

MOST_TIMES = 20
"""As many draws that more of them are the remedy; arbitrary."""

WEIGHTS = ("hidden", "readout")
"""What changes when hidden units change places."""


def diagnose(
    run: DataTree,
    *,
    rhat: float = RHAT,
    ess_per_chain: float = ESS_PER_CHAIN,
    mcse: float = 0.1,
    chains_apart: float = 0.2,
    divergences: float = 0.001,
    acceptance: float = 0.2,
    bfmi: float = 0.3,
    distance: float = math.inf,
    points_per_feature: float = 0.5,
) -> Verdict:
    """Judge a run: ``ok``, and ``findings``, one for each check; printed, a line for each.

    Thresholds: ``rhat``, of 99 % of the components, the others below 1.05, and ``ess_per_chain``,
    bulk and tail, of predictions, hyperparameters and log density. ``mcse``: largest Monte-Carlo
    error of a predictive mean, in posterior standard deviations. ``chains_apart``: root mean square
    distance of a chain's predictive means from those of all, in the same unit; twice what 100
    effective draws leave. ``divergences``: share of the draws. ``acceptance``: how far a chain's
    may lie below what warm-up aimed at. ``bfmi``: least energy diagnostic (Betancourt 2016,
    1604.00695). ``distance`` to the NNGP posterior, in its standard deviations; told and not judged
    unless given, as a finite network may well be far. ``points_per_feature``: n / p up to which the
    map of the readout is known to pay for ``Gaussian`` noise (``experiments/README.md``), of other
    likelihoods it is 5; told and not judged.

    Raises ``ValueError`` for a run that is not finished or kept nothing that can be judged.
    """
    thresholds = (rhat, ess_per_chain, mcse, chains_apart, divergences, acceptance, bfmi, distance)
    for value in (*thresholds, points_per_feature):
        if not isinstance(value, numbers.Real) or math.isnan(value):
            raise bad_input(
                "threshold",
                got=repr(value),
                expected="a number",
                probably="the name of a check, or text that was not read as a number",
            )
    found = convergence(run)
    if not found:
        raise bad_input(
            "run",
            got=f"no draws of {' or '.join(QUANTITIES)}",
            expected="a run that kept projections or predictions",
            probably="sample(..., keep=('parameters',)), or predictions without x_test",
        )
    needed = float(ess_per_chain) * run.attrs["chains"]
    short = run.children["sample_stats"].sizes["draw"] < MIN_DRAWS
    remedies = _remedies(run)
    quantities = found | {"log density": of_log_density(run)}
    findings = [
        _judge(name, each, rhat, needed, remedies, short=short) for name, each in quantities.items()
    ]
    findings += [_monte_carlo_error(name, each, mcse) for name, each in found.items()
                 if name not in WEIGHTS and (short or each.constant < each.components)]  # fmt: skip
    findings += _in_function_space(run, chains_apart, distance)
    findings += [
        sampler_checks.divergences(run, divergences),
        sampler_checks.stuck(run),
        *sampler_checks.acceptance(run, acceptance),
        *sampler_checks.energy(run, bfmi),
        sampler_checks.exact(run),
        *sampler_checks.regime(run, points_per_feature),
    ]
    return Verdict.of(findings)


def _remedies(run: DataTree) -> str:
    """What to do about chains that have not met."""
    draws = run.children["sample_stats"].sizes
    if draws["chain"] < 2:
        return "R-hat compares chains: sample two or more"
    if draws["draw"] < MIN_DRAWS:
        return f"R-hat and ESS need {MIN_DRAWS} draws of a chain at least"
    others = ["a longer warm-up"]
    target = run.attrs["target"]
    if target != "standard":
        others.insert(0, "a wider network")
    if target != "marginal" and sampler_checks.has_gaussian_noise(run):
        others.insert(0, "the marginal target")
    return (
        "The chains have not met: draw many times as many; where that does not help, use "
        + " or ".join(others)
    )


def _judge(
    name: str, figures: Convergence, rhat: float, needed: float, remedies: str, *, short: bool
) -> Finding:
    if figures.constant == figures.components and not short:
        return Finding(name, None, "one number in all draws")
    smallest = min(figures.ess_bulk_min, figures.ess_tail_min)
    # written so that NaN fails
    ok = figures.rhat_99 <= rhat and figures.rhat_max <= max(rhat, NEARLY) and smallest >= needed
    many = figures.rhat_99 != figures.rhat_max
    told = f", of 99 % up to {figures.rhat_99:.3f}" if many else ""
    constant = f"; {figures.constant} constant ones left out" if figures.constant else ""
    # R-hat is above 1 by about the inverse of the effective draws
    times = math.inf
    if smallest > 0 and rhat > 1:
        times = max(needed / smallest, (figures.rhat_99 - 1) / (rhat - 1), 2)
    nearly = figures.rhat_max < NEARLY and times < MOST_TIMES
    advice = f"Draw about {math.ceil(times)} times as many" if nearly else remedies
    if name in WEIGHTS:
        advice = (
            "Not judged: a network stays the same when its hidden units change places, so that "
            "chains that agree in predictions may differ here"
        )
    return Finding(
        name=name,
        ok=ok or (None if name in WEIGHTS else False),
        figure=f"R-hat up to {figures.rhat_max:.3f}{told} (at most {rhat:g}), "
        f"ESS at least {smallest:.0f} (at least {needed:.0f}){constant}",
        advice=advice,
        value=figures.rhat_99,
        threshold=rhat,
        more_draws=times if nearly else math.nan,
    )


def _monte_carlo_error(name: str, figures: Convergence, largest: float) -> Finding:
    return Finding(
        name=f"Monte-Carlo error of {name}",
        ok=figures.mcse_max <= largest,
        figure=f"up to {figures.mcse_max:.3f} posterior standard deviations (at most {largest:g})",
        advice="It falls with the root of the number of draws",
        value=figures.mcse_max,
        threshold=largest,
        more_draws=(figures.mcse_max / largest) ** 2 if largest > 0 else math.nan,
    )


def _in_function_space(run: DataTree, apart: float, farthest: float) -> Iterator[Finding]:
    if "predictions" in run.children and run.attrs["chains"] > 1:
        value = chains_apart(run)
        yield Finding(
            name="chains in function space",
            ok=value <= apart,
            figure=f"the farthest chain's predictive means lie {value:.3f} posterior standard "
            f"deviations from those of all (at most {apart:g})",
            advice="The chains are in different places: draw more, or warm up longer",
            value=value,
            threshold=apart,
        )
    if has_limit(run) and run.attrs["chains"] > 1:
        found = distance_to_nngp(run)
        told = math.isinf(farthest)
        low, high = found.interval
        error = "unknown, of two chains" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
        yield Finding(
            name="distance to the NNGP",
            ok=None if told else found.value <= farthest,
            figure=f"{found.value:.3f} of its standard deviations (one standard error: {error}"
            + (")" if told else f"; at most {farthest:g})"),
            advice="" if told else "A wider network is nearer to its limit",
            value=found.value,
            threshold=farthest,
        )
