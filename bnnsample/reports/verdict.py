"""The verdict of a comparison in words: converged? how much faster? how far from the limit?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnnsample.reports.summary import Summary


@dataclass(frozen=True)
class Statement:
    """One sentence of the verdict and whether it is good news, bad news (False) or neither."""

    good: bool | None
    text: str


def verdict(summaries: Sequence[Summary]) -> list[Statement]:
    """What a reader wants to know first, in order."""
    statements = _convergence(summaries)
    statements += _speed(summaries)
    statements += _agreement(summaries)
    return statements + _limit(summaries)


def _convergence(summaries: Sequence[Summary]) -> list[Statement]:
    statements = []
    for target in dict.fromkeys(s.target for s in summaries):
        group = [s for s in summaries if s.target == target]
        for quantity in ("predictions", "hidden"):
            judged = [(s.width, _passed(s, quantity)) for s in group if _has(s, quantity)]
            good = [str(width) for width, ok in judged if ok]
            bad = [str(width) for width, ok in judged if not ok]
            what = "predictions" if quantity == "predictions" else "hidden weights"
            parts = [f"converged at width {_join(good)}"] if good else []
            parts += [f"did not converge at width {_join(bad)}"] if bad else []
            if parts:
                statements.append(
                    Statement(not bad, f"The {target} target's {what} {' and '.join(parts)}.")
                )
    return statements


def _speed(summaries: Sequence[Summary]) -> list[Statement]:
    widths = sorted({s.width for s in summaries})
    ratios = {}
    for width in widths:
        pair = [_find(summaries, width, target) for target in ("marginal", "standard")]
        if pair[0] is not None and pair[1] is not None:
            fast, slow = (s.diagnosis.convergence.get("predictions") for s in pair if s)
            if fast is not None and slow is not None:
                ratios[width] = (
                    fast.ess_per_gradient / slow.ess_per_gradient,
                    fast.ess_per_second / slow.ess_per_second,
                )
    if not ratios:
        return []
    parts = [
        f"{gradient:.3g} times per gradient and {second:.3g} times per second at width {width}"
        for width, (gradient, second) in ratios.items()
    ]
    widest = max(ratios)
    return [
        Statement(
            ratios[widest][0] > 1,
            "Effective draws of the predictions, marginal over standard target: "
            f"{_join(parts)}.{_caveat(summaries, list(ratios))}",
        )
    ]


def _caveat(summaries: Sequence[Summary], widths: list[int]) -> str:
    unsure = [
        str(width)
        for width in widths
        if (standard := _find(summaries, width, "standard"))
        and not _passed(standard, "predictions")
    ]
    if not unsure:
        return ""
    return (
        f" The standard chains at width {_join(unsure)} did not converge, so their own effective"
        " sample size is a rough figure."
    )


def _agreement(summaries: Sequence[Summary]) -> list[Statement]:
    compared = [s for s in summaries if s.disagreement is not None]
    settled = [s for s in compared if _passed(s, "predictions")]
    if not compared:
        return []
    if not settled:
        return [
            Statement(None, "No other target converged, so none can be held against the marginal.")
        ]
    worst = max(settled, key=lambda s: s.disagreement or 0.0)
    ok = (worst.disagreement or 0.0) < 2
    return [
        Statement(
            ok,
            f"Where they converged, the targets {'agree' if ok else 'do not agree'}: predictive "
            "means differ from the marginal target's by at most "
            f"{worst.disagreement:.2f} Monte-Carlo standard errors (root mean square; about 1 is "
            f"expected), for {worst.target} at width {worst.width}.",
        )
    ]


def _limit(summaries: Sequence[Summary]) -> list[Statement]:
    rows = [s for s in summaries if s.distance is not None]
    best = [s for s in rows if s.target == "marginal"] or rows
    if len({s.width for s in best}) < 2:
        return []
    best = sorted(best, key=lambda s: s.width)
    distances = [s.distance.value for s in best if s.distance is not None]
    falls = all(a > b for a, b in zip(distances, distances[1:], strict=False))
    path = _join([f"{d:.3f} at width {s.width}" for d, s in zip(distances, best, strict=True)])
    return [
        Statement(
            falls,
            f"Distance of the posterior predictive to the NNGP limit, in its standard deviations "
            f"({best[0].target} target): {path}; it {'falls' if falls else 'does not fall'} "
            "with width.",
        )
    ]


def _find(summaries: Sequence[Summary], width: int, target: str) -> Summary | None:
    return next((s for s in summaries if s.width == width and s.target == target), None)


def _has(summary: Summary, quantity: str) -> bool:
    return quantity in summary.diagnosis.convergence


def _passed(summary: Summary, quantity: str) -> bool:
    return all(f.ok for f in summary.diagnosis.findings if f.name == quantity)


def _join(parts: Sequence[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
