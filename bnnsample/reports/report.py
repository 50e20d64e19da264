"""Pages of runs: what ``bnn.report`` and ``bnn.compare`` write.

Plotting is imported when a page is made, not with the package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from jax.typing import ArrayLike
from xarray import DataTree

from bnnsample.checks import bad_input
from bnnsample.diagnostics.convergence import check_finished
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.diagnostics.verdict import diagnose
from bnnsample.files import write_whole
from bnnsample.models.posterior import Posterior
from bnnsample.reports.page import Facts, Section, render_page
from bnnsample.sampling.store import load_run

PAGE = "report.html"

type Path_ = str | os.PathLike[str]


def report(
    run: DataTree | Path_,
    out: Path_ | None = None,
    *,
    y_test: ArrayLike | None = None,
    baselines: Mapping[str, Predictive] | None = None,
    posterior: Posterior | None = None,
    about: Sequence[Section] = (),
) -> Path:
    """Write the page of a run, one HTML file that needs no other and no network; returns its path.

    ``run``: a run, or where one is: a folder of ``sample(..., out=...)`` or a file of ``save_run``.
    ``out``: the file to write, ``.html``, or a folder for ``report.html``; by default that in the
    run's folder. ``y_test``: targets at the run's test inputs, by which its predictions are judged,
    beside those of ``baselines``, which ``bnn.baselines(posterior, x_test)`` makes.
    ``posterior`` is needed only for networks with functions of one's own, as in ``bnn.predict``.
    ``about``: sections on where the data are from, which come first.

    The verdict of ``diagnose`` comes first, then what was run, efficiency, convergence, function
    space beside the NNGP, predictions and their calibration, all findings, and Python that makes
    the run again. Raises ``ValueError`` for what is not a finished run.
    """
    from bnnsample.reports import predictive_sections, run_sections

    source = None if isinstance(run, DataTree) else Path(run)
    tree = run if isinstance(run, DataTree) else load_run(run)
    check_finished(tree)
    _check_settings(tree)
    page = _page_path(out, source)
    verdict = diagnose(tree)
    predictions = predictive_sections.judged(tree, y_test, baselines, posterior)
    sections: list[Section | None] = [
        *about,
        Section("What was run", parts=(Facts(run_sections.what_was_run(tree)),)),
        run_sections.efficiency(tree),
        run_sections.chains(tree),
        run_sections.function_space(tree, verdict),
        *predictions.sections,
        run_sections.findings(verdict),
        run_sections.reproduction(tree, str(source or "RUN")),
    ]
    html = render_page(
        f"Posterior of a network of {tree.attrs['num_parameters']} parameters",
        predictions.statements,
        [section for section in sections if section is not None],
        headline=run_sections.headline(verdict, predictions.bad),
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, html)
    return page


def compare(runs: Mapping[str, DataTree], out: Path_) -> Path:
    """Write a page that compares ``runs`` of any posteriors, by name; returns its path.

    Verdicts, effective draws, distance to the NNGP posterior, and whether predictive means agree
    with those of the first run where both predict at the same inputs. ``out`` is as in ``report``.
    Raises ``ValueError`` for fewer than two runs, and for what is not a finished run.
    """
    from bnnsample.reports import comparison

    if not isinstance(runs, Mapping) or len(runs) < 2:
        raise bad_input(
            "runs",
            got=f"a {type(runs).__name__}" if not isinstance(runs, Mapping) else f"{len(runs)}",
            expected="two runs or more by name: {'width 64': run, 'width 512': other}",
            probably="one run, whose page bnn.report makes",
        )
    for run in runs.values():
        check_finished(run)
    page = _page_path(out, None)
    html = comparison.page(runs)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_whole(page, html)
    return page


def _page_path(out: Path_ | None, source: Path | None) -> Path:
    if out is not None:
        path = Path(out)
        return path if path.suffix == ".html" else path / PAGE
    if source is None:
        raise bad_input(
            "out",
            got="none, for a run in memory",
            expected="the page to write, or a folder for it",
            probably="bnn.report(run, 'results/first')",
        )
    return source / PAGE if source.is_dir() else source.with_suffix(".html")


def _check_settings(run: DataTree) -> None:
    if "settings" not in run.attrs:
        raise bad_input(
            "run",
            got="one without its settings",
            expected="a run that this version of bnnsample made",
            probably="a run of an older version; bnn.diagnose(run) still judges it",
        )
