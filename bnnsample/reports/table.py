"""The comparison table as people read it: the same columns on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bnnsample.reports.summary import Summary


@dataclass(frozen=True)
class Column:
    """A heading, what it means, and how a summary fills it."""

    heading: str
    meaning: str
    cell: Callable[[Summary], str]


def _rate(quantity: str, rate: str) -> Callable[[Summary], str]:
    def cell(summary: Summary) -> str:
        figures = summary.diagnosis.convergence.get(quantity)
        return "-" if figures is None else f"{getattr(figures, rate):.3g}"

    return cell


def _rhat(summary: Summary) -> str:
    figures = summary.diagnosis.convergence.get("predictions")
    return "-" if figures is None else f"{figures.rhat_max:.3f}"


def _distance(summary: Summary) -> str:
    if summary.distance is None:
        return "-"
    low, high = summary.distance.interval
    return f"{summary.distance.value:.3f} ({low:.3f}-{high:.3f})"


def _disagreement(summary: Summary) -> str:
    return "-" if summary.disagreement is None else f"{summary.disagreement:.2f}"


COLUMNS = (
    Column("width", "hidden units", lambda s: str(s.width)),
    Column("target", "the density that was sampled", lambda s: s.target),
    Column("R-hat", "worst of the predictions", _rhat),
    Column("hidden /grad", "median ESS per gradient, projections of the hidden weights",
           _rate("hidden", "ess_per_gradient")),
    Column("readout /grad", "median ESS per gradient, projections of the readout",
           _rate("readout", "ess_per_gradient")),
    Column("pred. /grad", "median ESS per gradient, predictions",
           _rate("predictions", "ess_per_gradient")),
    Column("pred. /s", "median ESS per second of sampling, predictions",
           _rate("predictions", "ess_per_second")),
    Column("to NNGP", "distance to the NNGP posterior in its standard deviations "
           "(one standard error below and above)", _distance),
    Column("z", "root mean square z-score of the predictive means against the marginal target's; "
           "about 1 if they agree", _disagreement),
    Column("accept", "mean acceptance rate", lambda s: f"{s.acceptance:.2f}"),
    Column("seconds", "of sampling, without compilation and warm-up",
           lambda s: f"{s.sampling_seconds:.1f}"),
)  # fmt: skip


def cells(summary: Summary) -> list[str]:
    """One row of the table."""
    return [column.cell(summary) for column in COLUMNS]
