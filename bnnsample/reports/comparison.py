"""The page that compares several runs: widths, samplers, targets, or posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from xarray import DataTree

from bnnsample.diagnostics.convergence import Convergence, convergence
from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.function_space import (
    Distance,
    disagreement,
    distance_to_nngp,
    has_limit,
)
from bnnsample.diagnostics.verdict import diagnose
from bnnsample.reports.comparison_figure import rates_figure
from bnnsample.reports.figures import as_svg
from bnnsample.reports.page import Facts, Picture, Section, Table, render_page
from bnnsample.reports.run_sections import headline, what_was_run
from bnnsample.reports.verdict import LARGEST_AGREEING_Z, Statement


class Row(NamedTuple):
    """A run's figures."""

    verdict: Verdict
    convergence: dict[str, Convergence]
    distance: Distance | None
    disagreement: float | None


def page(runs: Mapping[str, DataTree]) -> str:
    """The page as HTML text."""
    reference = next(iter(runs))
    rows = {
        name: Row(
            diagnose(run),
            convergence(run),
            distance_to_nngp(run) if has_limit(run) else None,
            None if name == reference else _disagreement(run, runs[reference]),
        )
        for name, run in runs.items()
    }
    statements = [*_verdicts(rows), *_fastest(rows), *_agreement(rows, reference)]
    pictures = [
        Picture(
            "rates",
            "Effective draws",
            "Median effective sample size for each gradient and each second of sampling, on "
            "logarithmic axes; higher is better. Hollow: R-hat above 1.01, a rough figure.",
            as_svg(rates_figure({name: row.convergence for name, row in rows.items()})),
        )
    ]
    sections = [
        Section("Table", parts=(_table(runs, rows, reference),)),
        Section("Efficiency", parts=tuple(pictures)),
        Section("How they were made", parts=(Facts({n: _how(run) for n, run in runs.items()}),)),
    ]
    return render_page(f"Comparison of {len(runs)} runs", statements, sections)


def _how(run: DataTree) -> str:
    told = what_was_run(run)
    kept = ("data", "network", "likelihood", "sampler", "chains", "seed", "device")
    return "; ".join(f"{name}: {told[name]}" for name in kept)


def _disagreement(run: DataTree, reference: DataTree) -> float | None:
    """With the reference's predictive means, where both predict at the same inputs."""
    inputs = [r.children["constant_data"].dataset.get("x_test") for r in (run, reference)]
    predictions = [r.children.get("predictions") for r in (run, reference)]
    if any(each is None for each in (*inputs, *predictions)):
        return None
    x, x_reference = (np.asarray(each) for each in inputs)
    shapes = {each.dataset["f"].shape[2:] for each in predictions if each is not None}
    same = np.array_equal(x, x_reference) and len(shapes) == 1
    return disagreement(run, reference) if same else None


def _verdicts(rows: Mapping[str, Row]) -> list[Statement]:
    statements = []
    for name, row in rows.items():
        told = headline(row.verdict)
        statements.append(Statement(f"{name}: {told.question}", told.good, told.text))
    return statements


def _fastest(rows: Mapping[str, Row]) -> list[Statement]:
    rates = {
        name: row.convergence["predictions"].ess_per_second
        for name, row in rows.items()
        if "predictions" in row.convergence
    }
    if len(rates) < 2:
        return []
    best = max(rates, key=lambda name: rates[name])
    listed = ", ".join(f"“{name}” {rate:.3g}" for name, rate in rates.items())
    return [
        Statement(
            "Which samples fastest?",
            None,
            f"“{best}”, by effective draws of the predictions a second: {listed}. A figure of a "
            "run that failed its checks, or of another posterior, is a rough one.",
        )
    ]


def _agreement(rows: Mapping[str, Row], reference: str) -> list[Statement]:
    scores = {n: row.disagreement for n, row in rows.items() if row.disagreement is not None}
    if not scores:
        return []
    listed = ", ".join(f"“{name}” {score:.2f}" for name, score in scores.items())
    return [
        Statement(
            f"Do they predict the same as “{reference}”?",
            None,
            "Root mean square difference of the predictive means, in Monte-Carlo standard errors; "
            f"about 1 for runs of one posterior, above {LARGEST_AGREEING_Z:g} for different ones "
            f"or chains that have not met: {listed}.",
        )
    ]


def _table(runs: Mapping[str, DataTree], rows: Mapping[str, Row], reference: str) -> Table:
    cells = []
    for name, row in rows.items():
        attributes, found = runs[name].attrs, row.convergence.get("predictions")
        rates = ("-",) * 4
        if found is not None:
            rates = (f"{found.rhat_max:.3f}", f"{found.ess_bulk_min:.0f}",
                     f"{found.ess_per_gradient:.3g}", f"{found.ess_per_second:.3g}")  # fmt: skip
        cells.append(
            (
                name,
                "yes" if row.verdict.ok else "no",
                str(attributes["num_parameters"]),
                attributes["target"],
                attributes["sampler"],
                *rates,
                "-" if row.distance is None else f"{row.distance.value:.3f}",
                "-" if row.disagreement is None else f"{row.disagreement:.2f}",
            )
        )
    return Table(
        columns=("run", "passed", "parameters", "target", "sampler", "R-hat", "ESS (worst)",
                 "ESS / gradient", "ESS / second", "to NNGP", "z"),
        rows=tuple(cells),
        caption="R-hat and effective sample sizes are of the predictions. To NNGP: distance in its "
        "standard deviations. z: root mean square z-score of predictive means against those of "
        f"{reference}.",
        text_columns=(0, 3, 4),
    )  # fmt: skip
