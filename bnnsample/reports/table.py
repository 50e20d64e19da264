"""The comparison table as people read it: the same columns on the terminal and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnnsample.reports.page import Table
from bnnsample.reports.summary import Summary


@dataclass(frozen=True)
class Column:
    """A heading, the room its cells take on a terminal, what it means, how a summary fills it."""

    heading: str
    size: int
    meaning: str
    cell: Callable[[Summary], str]


def _rate(quantity: str, rate: str) -> Callable[[Summary], str]:
    def cell(summary: Summary) -> str:
        figures = summary.convergence.get(quantity)
        return "-" if figures is None else f"{getattr(figures, rate):.3g}"

    return cell


def _rhat(summary: Summary) -> str:
    figures = summary.convergence.get("predictions")
    return "-" if figures is None else f"{figures.rhat_max:.3f}"


def _distance(summary: Summary) -> str:
    if summary.distance is None:
        return "-"
    low, high = summary.distance.interval
    if math.isnan(low):
        return f"{summary.distance.value:.3f}"
    return f"{summary.distance.value:.3f} ({low:.3f}-{high:.3f})"


def _disagreement(summary: Summary) -> str:
    return "-" if summary.disagreement is None else f"{summary.disagreement:.2f}"


COLUMNS = (
    Column("width", 5, "hidden units", lambda s: str(s.width)),
    Column("target", 11, "the density that was sampled", lambda s: s.target),
    Column("R-hat", 6, "worst of the predictions", _rhat),
    Column("hidden /grad", 12, "median ESS per gradient, projections of the hidden weights",
           _rate("hidden", "ess_per_gradient")),
    Column("readout /grad", 13, "median ESS per gradient, projections of the readout",
           _rate("readout", "ess_per_gradient")),
    Column("pred. /grad", 11, "median ESS per gradient, predictions",
           _rate("predictions", "ess_per_gradient")),
    Column("pred. /s", 8, "median ESS per second of sampling, predictions",
           _rate("predictions", "ess_per_second")),
    Column("to NNGP", 20, "distance to the NNGP posterior in its standard deviations "
           "(one standard error below and above)", _distance),
    Column("z", 5, "root mean square z-score of predictive means against the marginal target's; "
           "about 1 if they agree", _disagreement),
    Column("accept", 6, "mean acceptance rate", lambda s: f"{s.acceptance:.2f}"),
    Column("seconds", 7, "of sampling, without compilation and warm-up",
           lambda s: f"{s.sampling_seconds:.1f}"),
)  # fmt: skip


def cells(summary: Summary) -> list[str]:
    """One row of the table."""
    return [column.cell(summary) for column in COLUMNS]


def table_of(summaries: Sequence[Summary]) -> Table:
    """The table for a page, with what its columns mean."""
    meanings = "; ".join(f"{column.heading}: {column.meaning}" for column in COLUMNS)
    return Table(
        columns=tuple(column.heading for column in COLUMNS),
        rows=tuple(tuple(cells(summary)) for summary in summaries),
        caption=f"{meanings}. ESS is the effective sample size (bulk) of all chains together, by "
        "ArviZ.",
        text_columns=(1,),
        grouped=True,
    )
