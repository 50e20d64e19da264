"""The verdict of a comparison in words: convergence, speed, agreement, distance to the limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bnnsample.diagnostics.verdict import ESS_PER_CHAIN, RHAT_THRESHOLD
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
        parts = []
        for quantity, name in (("predictions", "Predictions"), ("hidden", "Hidden weights")):
            judged = [(s.width, _passed(s, quantity)) for s in group if _has(s, quantity)]
            yes = [str(width) for width, ok in judged if ok]
            no = [str(width) for width, ok in judged if not ok]
            answers = [f"yes at width {_join(yes)}"] if yes else []
            answers += [f"no at width {_join(no)}"] if no else []
            if answers:
                parts.append(f"{name}: {', '.join(answers)}.")
        if parts:
            good = all(_passed(s, "predictions") for s in group)
            question = f"Did the {target} target's chains converge?"
            statements.append(Statement(question, good, " ".join([*parts, *_worst(group)])))
    return statements


def _worst(group: Sequence[Summary]) -> list[str]:
    found = [s.diagnosis.convergence["predictions"] for s in group if _has(s, "predictions")]
    if not found:
        return []
    rhat = max(figures.rhat_max for figures in found)
    smallest = min(min(figures.ess_bulk_min, figures.ess_tail_min) for figures in found)
    return [
        f"R-hat of the predictions is at most {rhat:.3f} (wanted: {RHAT_THRESHOLD:g}), their ESS "
        f"at least {smallest:.0f} (wanted: {ESS_PER_CHAIN} a chain)."
    ]


def _speed(summaries: Sequence[Summary]) -> list[Statement]:
    parts, ratio, unsure = [], float("nan"), []
    for width in sorted({s.width for s in summaries}):
        marginal = _find(summaries, width, "marginal")
        standard = _find(summaries, width, "standard")
        if not (marginal and standard and _has(marginal, "predictions")):
            continue
        fast = marginal.diagnosis.convergence["predictions"]
        slow = standard.diagnosis.convergence["predictions"]
        ratio = fast.ess_per_gradient / slow.ess_per_gradient
        per_second = fast.ess_per_second / slow.ess_per_second
        parts.append(f"{ratio:.3g} ({per_second:.3g}) at width {width}")
        unsure += [] if _passed(standard, "predictions") else [str(width)]
    if not parts:
        return []
    caveat = (
        f" The standard chains at width {_join(unsure)} did not converge, so their own effective"
        " sample size is a rough figure."
    )
    return [
        Statement(
            "How much faster is the map?",
            ratio > 1,
            "Effective draws of the predictions per gradient (per second), marginal over standard "
            f"target: {_join(parts)}.{caveat if unsure else ''}",
        )
    ]


def _agreement(summaries: Sequence[Summary]) -> list[Statement]:
    statements = []
    for target, group in by_target(summaries).items():
        scores = {s.width: s.disagreement for s in group if s.disagreement is not None}
        if scores:
            agree = all(score < LARGEST_AGREEING_Z for score in scores.values())
            settled = all(
                s.diagnosis.convergence["predictions"].rhat_max < WEAK_RHAT for s in group
            )
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
    falls = all(a.value > b.value or b.squared <= 0 for (_, a), (_, b) in pairwise(measured))
    path = _join([f"{distance.value:.3f} at width {width}" for width, distance in measured])
    trend = f"; it {'falls' if falls else 'does not fall'} with width" if measured[1:] else ""
    return [
        Statement(
            "How far is the NNGP limit?",
            falls if measured[1:] else None,
            "Distance of the posterior predictive to the limit's, in its standard deviations "
            f"({target} target): {path}{trend}.",
        )
    ]


def by_target(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Summaries of each target, by width."""
    targets = dict.fromkeys(s.target for s in summaries)
    return {
        target: sorted((s for s in summaries if s.target == target), key=lambda s: s.width)
        for target in targets
    }


def _find(summaries: Sequence[Summary], width: int, target: str) -> Summary | None:
    return next((s for s in summaries if s.width == width and s.target == target), None)


def _has(summary: Summary, quantity: str) -> bool:
    return quantity in summary.diagnosis.convergence


def _passed(summary: Summary, quantity: str) -> bool:
    judged = {finding.name: finding.ok for finding in summary.diagnosis.findings}
    return judged.get(quantity, False) and judged.get("divergences", True)


def _join(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
