"""The verdict of a comparison in words: convergence, speed, agreement, distance to the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bnnsample.diagnostics.function_space import Distance
from bnnsample.diagnostics.verdict import ESS_PER_CHAIN, NEARLY, RHAT
from bnnsample.reports.summary import Summary

WEAK_RHAT = 1.1
"""R-hat above which Monte-Carlo standard errors, and so z-scores, mean little."""

LARGEST_AGREEING_Z = 2.0
"""A root mean square z-score over many correlated predictions; above it the targets disagree."""


@dataclass(frozen=True)
class Statement:
    """One answer of the verdict: good news, bad news (False) or neither (None)."""

    question: str
    good: bool | None
    text: str


def verdict(summaries: Sequence[Summary]) -> list[Statement]:
    """Answers to what a reader wants to know first, in order."""
    answers = [*_convergence(summaries), *_speed(summaries), *_agreement(summaries)]
    return [*answers, *_limit(summaries)]


def _convergence(summaries: Sequence[Summary]) -> list[Statement]:
    statements = []
    for target, group in by_target(summaries).items():
        judged = [s for s in group if _has(s, "predictions")]
        if not judged:
            continue
        passed = [_passed(s, "predictions") for s in judged]
        nearly = all(s.convergence["predictions"].rhat_max < NEARLY for s in judged)
        hidden = [_grade(s, "hidden") for s in judged if _has(s, "hidden")]
        statements.append(
            Statement(
                f"Did the {target} target's chains converge?",
                True if all(passed) else None if nearly else False,
                f"Predictions {_join([_grade(s, 'predictions') for s in judged])}. "
                f"{f'Hidden weights {_join(hidden)}. ' if hidden else ''}"
                f"Yes asks for an R-hat of {RHAT:g} and {ESS_PER_CHAIN} effective draws "
                f"a chain for every component, nearly for an R-hat below {NEARLY:g}.",
            )
        )
    return statements


def _grade(summary: Summary, quantity: str) -> str:
    figures = summary.convergence[quantity]
    nearly = "nearly" if figures.rhat_max < NEARLY else "no"
    grade = "yes" if _passed(summary, quantity) else nearly
    smallest = min(figures.ess_bulk_min, figures.ess_tail_min)
    return (
        f"{grade} at width {summary.width} (R-hat up to {figures.rhat_max:.3f}, "
        f"ESS at least {smallest:.0f})"
    )


def _speed(summaries: Sequence[Summary]) -> list[Statement]:
    parts, steps, ratios, unsure = [], [], [], []
    for width in sorted({s.width for s in summaries}):
        marginal = _find(summaries, width, "marginal")
        standard = _find(summaries, width, "standard")
        if not (marginal and standard and _has(marginal, "predictions")):
            continue
        fast = marginal.convergence["predictions"]
        slow = standard.convergence["predictions"]
        per_gradient = fast.ess_per_gradient / slow.ess_per_gradient
        per_second = fast.ess_per_second / slow.ess_per_second
        ratios += [per_gradient, per_second]
        parts.append(f"{per_gradient:.3g} ({per_second:.3g}) at width {width}")
        steps.append(f"{marginal.gradients_per_draw:.3g} against {standard.gradients_per_draw:.3g}")
        unsure += [
            f"{s.target} at width {width}"
            for s in (standard, marginal)
            if not _passed(s, "predictions")
        ]
    if not parts:
        return []
    caveat = (
        " Chains that did not pass, whose effective sample size is a rough figure: "
        f"{_join(unsure)}."
    )
    return [
        Statement(
            "How much faster is the map?",
            _all_above_one(ratios),
            "Effective draws of the predictions per gradient (per second), marginal over standard "
            f"target: {_join(parts)}. Gradients a draw: {_join(steps)}.{caveat if unsure else ''}",
        )
    ]


def _all_above_one(ratios: Sequence[float]) -> bool | None:
    """False where none is; None where some are, or are not numbers."""
    if any(map(math.isnan, ratios)):
        return None
    above = [ratio > 1 for ratio in ratios]
    return True if all(above) else None if any(above) else False


def _agreement(summaries: Sequence[Summary]) -> list[Statement]:
    statements = []
    for target, group in by_target(summaries).items():
        scores = {s.width: s.disagreement for s in group if s.disagreement is not None}
        if scores:
            agree = all(score < LARGEST_AGREEING_Z for score in scores.values())
            settled = all(s.convergence["predictions"].rhat_max < WEAK_RHAT for s in group)
            listed = _join([f"{score:.2f} at width {width}" for width, score in scores.items()])
            caveat = (
                "" if settled else " These chains mixed too badly for this to say much either way."
            )
            statements.append(
                Statement(
                    f"Do the {target} and the marginal target agree?",
                    agree if settled else None,
                    "Root mean square difference of the predictive means, in Monte-Carlo standard "
                    f"errors (about 1 if they are one posterior): {listed}.{caveat}",
                )
            )
    return statements


def _limit(summaries: Sequence[Summary]) -> list[Statement]:
    groups = by_target([s for s in summaries if s.distance is not None])
    if not groups:
        return []
    target = "marginal" if "marginal" in groups else next(iter(groups))
    measured = [(s.width, s.distance) for s in groups[target] if s.distance is not None]
    worst = max(s.convergence["predictions"].rhat_max for s in groups[target])
    path = _join([_interval(width, distance) for width, distance in measured])
    falls = _falls([distance for _, distance in measured]) if worst < WEAK_RHAT else None
    trend = {
        True: " It falls with width.",
        False: " It does not fall with width.",
        None: " Whether it falls with width cannot be told from these draws.",
    }
    return [
        Statement(
            "How far is the NNGP limit?",
            falls,
            "Distance of the posterior predictive to the limit's, in its standard deviations "
            f"({target} target): {path}.{trend[falls] if measured[1:] else ''}",
        )
    ]


def _interval(width: int, distance: Distance) -> str:
    low, high = distance.interval
    known = f"{low:.3f} to {high:.3f}" if math.isfinite(distance.squared_error) else "error unknown"
    return f"{distance.value:.3f} ({known}) at width {width}"


def _falls(distances: Sequence[Distance]) -> bool | None:
    """Whether every distance lies below the one before, by two standard errors of the squares."""
    answers = []
    for before, after in pairwise(distances):
        error = 2 * math.hypot(before.squared_error, after.squared_error)
        fall = before.squared - after.squared
        answers.append(None if not abs(fall) > error else fall > 0)
    if False in answers:
        return False
    return True if answers and None not in answers else None


def by_target(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Summaries of each target, by width; the marginal target, the reference, first."""
    names = dict.fromkeys(s.target for s in summaries)
    targets = sorted(names, key=lambda name: name != "marginal")
    return {
        target: sorted((s for s in summaries if s.target == target), key=lambda s: s.width)
        for target in targets
    }


def _find(summaries: Sequence[Summary], width: int, target: str) -> Summary | None:
    return next((s for s in summaries if s.width == width and s.target == target), None)


def _has(summary: Summary, quantity: str) -> bool:
    return quantity in summary.convergence


def _passed(summary: Summary, quantity: str) -> bool:
    judged = {finding.name: finding.ok for finding in summary.verdict.findings}
    return bool(judged.get(quantity)) and judged.get("divergences") is not False


def _join(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
