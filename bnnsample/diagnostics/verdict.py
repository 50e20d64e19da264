"""Whether the draws of one run may be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics.convergence import QUANTITIES, Convergence, convergence
from bnnsample.diagnostics.vectorised import MIN_DRAWS
from bnnsample.sampling.draws import stuck_chains

RHAT_THRESHOLD = 1.01
ESS_PER_CHAIN = 100
"""Vehtari et al. 2021 (1903.08008), section 4: R-hat below 1.01, 100 effective draws a chain."""

NEARLY = 1.05
"""R-hat below which more draws of the same chains are the remedy."""

FEW_DIVERGENCES = 0.001
"""Fraction of draws above which divergences are a finding; arbitrary."""


@dataclass(frozen=True)
class Finding:
    """One check: whether it passed, the figure, and what to do about it if it did not."""

    name: str
    ok: bool
    figure: str
    advice: str


@dataclass(frozen=True)
class Diagnosis:
    """Whether all findings passed, the findings, and the convergence they rest on."""

    ok: bool
    findings: tuple[Finding, ...]
    convergence: dict[str, Convergence]

    def __str__(self) -> str:
        marks = {True: "ok  ", False: "FAIL"}
        lines = [
            f"{marks[f.ok]} {f.name}: {f.figure}" + ("" if f.ok else f". {f.advice}")
            for f in self.findings
        ]
        return "\n".join(["converged" if self.ok else "not converged", *lines])


def diagnose(
    run: DataTree, *, rhat: float = RHAT_THRESHOLD, ess_per_chain: float = ESS_PER_CHAIN
) -> Diagnosis:
    """Judge a run: R-hat and ESS of weights, predictions and hyperparameters; divergences."""
    found = convergence(run)
    if not found:
        raise bad_input(
            "run",
            got=f"no draws of {' or '.join(QUANTITIES)}",
            expected="a run that kept projections or predictions",
            probably="sample(..., keep=('parameters',)), or predictions without x_test",
        )
    needed = float(ess_per_chain) * run.attrs["chains"]
    remedies = _remedies(run)
    findings = [_judge(name, figures, rhat, needed, remedies) for name, figures in found.items()]
    findings += [_divergences(run), _stuck(run), _exact(run)]
    return Diagnosis(all(finding.ok for finding in findings), tuple(findings), found)


def _remedies(run: DataTree) -> str:
    """What to do about chains that have not met."""
    draws = run.children["sample_stats"].sizes
    if draws["chain"] < 2:
        return "R-hat compares chains: sample two or more"
    if draws["draw"] < MIN_DRAWS:
        return f"R-hat and ESS need {MIN_DRAWS} draws of a chain at least"
    others = ["a longer warm-up"]
    target, likelihood = run.attrs["target"], run.attrs["likelihood"]
    if target != "standard":
        others.insert(0, "a wider network")
    if target != "marginal" and likelihood.startswith("Gaussian("):
        others.insert(0, "the marginal target")
    return (
        "The chains have not met: draw many times as many; where that does not help, use "
        + " or ".join(others)
    )


def _judge(name: str, figures: Convergence, rhat: float, needed: float, remedies: str) -> Finding:
    smallest = min(figures.ess_bulk_min, figures.ess_tail_min)
    # written so that NaN fails
    ok = figures.rhat_max <= rhat and smallest >= needed
    short = needed / smallest if smallest > 0 else math.inf
    advice = (
        f"Draw about {math.ceil(max(short, 2))} times as many"
        if figures.rhat_max < NEARLY and short < 20
        else remedies
    )
    return Finding(
        name=name,
        ok=ok,
        figure=f"R-hat up to {figures.rhat_max:.3f} (at most {rhat:g}), "
        f"ESS at least {smallest:.0f} (at least {needed:.0f})",
        advice=advice,
    )


def _stuck(run: DataTree) -> Finding:
    stuck = stuck_chains(run)
    return Finding(
        name="stuck chains",
        ok=not stuck,
        figure=", ".join(f"chain {chain}" for chain in stuck) or "none",
        advice="Their last half has fewer than three positions: warm up longer, or raise "
        "target_acceptance",
    )


def _exact(run: DataTree) -> Finding:
    exact = bool(run.attrs.get("exact", True))
    return Finding(
        name="exactness",
        ok=exact,
        figure="draws of the posterior" if exact else f"{run.attrs['sampler']} is biased",
        advice="Take a sampler with an accept step",
    )


def _divergences(run: DataTree) -> Finding:
    diverging = run.children["sample_stats"].dataset["diverging"]
    count, total = int(diverging.sum()), int(diverging.size)
    return Finding(
        name="divergences",
        ok=count <= FEW_DIVERGENCES * total,
        figure=f"{count} of {total} draws",
        advice="Raise target_acceptance",
    )
