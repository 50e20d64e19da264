"""What a page says of a run's predictions: checks of the model, scores, calibration."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike
from xarray import DataTree

from bnnsample.checks import BadInput, bad_input
from bnnsample.diagnostics.findings import Verdict
from bnnsample.diagnostics.quality.coverage import LEAST_P
from bnnsample.diagnostics.quality.loo import loo
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.diagnostics.quality.predictive_checks import posterior_predictive_check
from bnnsample.diagnostics.quality.quality import Quality, quality
from bnnsample.models.posterior import Posterior
from bnnsample.reports.figures import as_svg
from bnnsample.reports.page import Picture, Section, Table
from bnnsample.reports.run_figures import pit_figure, reliability_figure
from bnnsample.reports.verdict import Statement


class Judged(NamedTuple):
    """What a page says of the predictions, first in statements and then in sections.

    ``bad``: what they failed, in a few words each; None where nothing held out judged them.
    """

    statements: tuple[Statement, ...]
    sections: tuple[Section, ...]
    bad: tuple[str, ...] | None


def judged(
    run: DataTree,
    y_test: ArrayLike | None,
    baselines: Mapping[str, Predictive] | None,
    posterior: Posterior | None,
) -> Judged:
    """By targets that were held out, and by the training data where parameters were kept."""
    _check_baselines(baselines, y_test)
    statements, bad = [], []
    failed, sections = _at_training_inputs(run, posterior)
    bad += [f"{name} of the training targets" for name in failed]
    if y_test is not None:
        found = quality(run, y_test, posterior=posterior)
        others = {name: quality(own, y_test) for name, own in (baselines or {}).items()}
        calibrated = _calibrated(found)
        if not calibrated.good:
            bad.append(f"predictions are {found.direction}")
        checks = posterior_predictive_check(run, y_test, posterior=posterior)
        bad += [f"{finding.name} of the held-out targets" for finding in checks.failed]
        statements.append(calibrated)
        left_out = getattr(baselines, "left_out", {})
        sections += [_checks(checks), _scores(found, others, left_out), _calibration(found)]
    judged = bad or y_test is not None
    return Judged(tuple(statements), tuple(sections), tuple(bad) if judged else None)


def _check_baselines(baselines: object, y_test: ArrayLike | None) -> None:
    if baselines is None:
        return
    named = isinstance(baselines, Mapping)
    if not named or not all(isinstance(own, Predictive) for own in baselines.values()):
        raise bad_input(
            "baselines",
            got=f"a {type(baselines).__name__}",
            expected="predictives by name, as of bnn.baselines(posterior, x_test)",
            probably="the names of baselines, or their scores",
        )
    if y_test is None:
        raise bad_input(
            "baselines",
            got="baselines without y_test",
            expected="targets at the test inputs, by which they are scored",
            probably="y_test, or --y-test on the command line, was left out",
        )


def _calibrated(found: Quality) -> Statement:
    if found.reliability is not None:
        low, high = found.reliability.error_band
        text = (
            f"Expected calibration error {found.reliability.error:.3f}; 95 % of calibrated "
            f"predictions of as many labels have {low:.3f} to {high:.3f}. Such an error, or such a "
            f"difference of confidence and accuracy on the whole, has p = "
            f"{found.reliability.p_value:.2g} (bad below {LEAST_P:g})."
        )
    else:
        shares = ", ".join(
            f"{own.coverage:.0%} in the {own.level:.0%} one" for own in found.intervals
        )
        text = (
            f"Held-out targets inside the central intervals: {shares}. Their probability "
            f"integral transform is uniform, with p = {found.pit_p_value:.2g} (bad below "
            f"{LEAST_P:g}) together with these shares, by sets of targets drawn from the "
            "predictions."
        )
    if not found.ok:
        text = f"They are {found.direction}. {text}"
    return Statement("Are the predictions as sure as they should be?", found.ok, text)


def _at_training_inputs(
    run: DataTree, posterior: Posterior | None
) -> tuple[list[str], list[Section]]:
    """Posterior predictive checks and leave-one-out, where there are parameters to compute them.

    First the names of the statistics that failed.
    """
    try:
        checks = posterior_predictive_check(run, posterior=posterior)
    except BadInput as error:
        told = f"Not made at the training inputs: {error}"
        return [], [Section("Posterior predictive checks", told)]
    made = Section(
        "Posterior predictive checks",
        "Statistics of targets drawn from the posterior, at the training inputs, beside those of "
        "the data.",
        (_check_table(checks),),
    )
    left_out = Section("Leave-one-out", _left_out(run, posterior))
    return [finding.name for finding in checks.failed], [made, left_out]


def _left_out(run: DataTree, posterior: Posterior | None) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of high Pareto k, which are told below
            found = loo(run, posterior=posterior)
    except BadInput as error:
        return f"Not estimated: {error}"
    high = int(np.sum(np.asarray(found.pareto_k) > found.good_k))
    advice = " Those are not estimated reliably: held-out targets would judge the predictions."
    return (
        f"Expected log predictive density (PSIS-LOO, by ArviZ): {found.elpd:.1f} ± {found.se:.1f} "
        f"in all, {found.elpd / found.n_data_points:.3f} a point; effective number of parameters "
        f"{found.p:.1f}. Pareto k is above {found.good_k:.2f} for {high} of {found.n_data_points} "
        f"points.{advice if high else ''}"
    )


def _checks(checks: Verdict) -> Section:
    return Section(
        "Predictive checks at the test inputs",
        "Statistics of predicted targets beside those that were held out.",
        (_check_table(checks),),
    )


def _check_table(checks: Verdict) -> Table:
    marks = {None: "told", False: "✗\N{NO-BREAK SPACE}failed"}
    told = 4 if checks.failed else 3
    rows = ((own.name, marks[own.ok], own.figure, own.advice) for own in checks.findings)
    return Table(
        columns=("statistic", "verdict", "observed and replicated", "what to do")[:told],
        rows=tuple(row[:told] for row in rows),
        caption="p: twice the smaller share of replications as far out; judged only below "
        f"{checks.findings[0].threshold:g}.",
        text_columns=tuple(range(told)),
    )


def _scores(found: Quality, others: Mapping[str, Quality], left_out: Mapping[str, str]) -> Section:
    names = tuple(found.scores)
    rows = [("this run", *(str(found.scores[name]) for name in names))]
    rows += [(name, *(str(own.scores[score]) for score in names)) for name, own in others.items()]
    better = {"log density": "higher", "accuracy": "higher"}
    told = ", ".join(f"{name} ({better.get(name, 'lower')} is better)" for name in names)
    return Section(
        "Scores at the test inputs",
        parts=(
            Table(
                columns=("predictions of", *names),
                rows=tuple(rows),
                caption=f"Means over test points ± standard errors: {told}."
                + (" RMSE and CRPS are in units of the run's targets." if "RMSE" in names else "")
                + "".join(f" {name} is left out: {why}" for name, why in left_out.items()),
            ),
        ),
    )


def _calibration(found: Quality) -> Section:
    if found.reliability is not None:
        own = found.reliability
        picture = Picture(
            "reliability",
            "Reliability",
            "Share of labels that were right against how sure the predictions were of them, by "
            "bins of confidence. Bars: where 95 % of calibrated predictions would be.",
            as_svg(reliability_figure(own)),
        )
        return Section("Calibration", parts=(picture,))
    assert found.pit is not None
    picture = Picture(
        "calibration",
        "Calibration",
        "Left, the predictive distribution function at each held-out target, uniform for "
        "calibrated predictions: a hump means too wide ones, a valley too narrow ones. Right, how "
        "many targets central intervals hold; bars: 95 % of sets drawn from the predictions.",
        as_svg(pit_figure(found)),
    )
    rows: tuple[Any, ...] = tuple(
        (f"{own.level:.0%}", f"{own.coverage:.1%}", f"{own.low:.1%} to {own.high:.1%}",
         f"{own.width:.4g}") for own in found.intervals
    )  # fmt: skip
    table = Table(
        ("central interval", "targets inside", "95 % of shares, if calibrated", "mean width"), rows,
        "Width, or sharpness, is in units of the run's targets.",
    )  # fmt: skip
    return Section("Calibration", parts=(picture, table))
