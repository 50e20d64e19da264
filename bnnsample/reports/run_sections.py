"""What a page says of one run: how it was made, how fast it was, whether its chains met."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from xarray import DataTree

from bnnsample.diagnostics.convergence import QUANTITIES, convergence, of_log_density
from bnnsample.diagnostics.findings import Finding, Verdict
from bnnsample.diagnostics.function_space import has_limit
from bnnsample.diagnostics.layers import per_layer
from bnnsample.diagnostics.verdict import ESS_PER_CHAIN
from bnnsample.reports.figures import as_svg, trace_figure
from bnnsample.reports.page import Code, Picture, Section, Table
from bnnsample.reports.run_figures import (
    MOST_POINTS,
    growth_figure,
    predictions_figure,
    rank_figure,
)
from bnnsample.reports.verdict import Statement

MARKS = {True: "✓\N{NO-BREAK SPACE}passed", False: "✗\N{NO-BREAK SPACE}failed", None: "told"}


def headline(verdict: Verdict, bad: Sequence[str] | None = None) -> Statement:
    """Whether to believe the run, in words that come first.

    ``bad``: what its predictions failed, None where they were not judged; the draws may be right
    all the same.
    """
    if verdict.ok and bad:
        return Statement(
            "Believe the draws, not the model",
            None,
            f"The sampling {verdict.summary}, but the model does not fit: {'; '.join(bad)}.",
        )
    if verdict.ok and bad is None:
        return Statement(
            "Believe the draws",
            True,
            f"The sampling {verdict.summary}. No held-out targets were given to judge the model.",
        )
    if verdict.ok:
        return Statement("Believe this run", True, f"The sampling {verdict.summary}.")
    others = [finding for finding in verdict.failed if math.isnan(finding.more_draws)]
    if not others:
        times = math.ceil(max(finding.more_draws for finding in verdict.failed))
        return Statement(f"Not yet: draw about {times} times as many", None,
                         f"The sampling {verdict.summary}.")  # fmt: skip
    return Statement(
        "Do not believe this run",
        False,
        f"The sampling {verdict.summary}. What to do first: {others[0].advice}.",
    )


def findings(verdict: Verdict) -> Section:
    """The table of findings, those that failed first."""
    first = {False: 0, None: 2, True: 1}
    ordered = sorted(verdict.findings, key=lambda finding: first[finding.ok])
    return Section(
        "Findings",
        parts=(
            Table(
                columns=("", "check", "found, and the threshold", "what to do"),
                rows=tuple(_finding(finding) for finding in ordered),
                text_columns=(0, 1, 2, 3),
            ),
        ),
    )


def _finding(finding: Finding) -> tuple[str, ...]:
    advice = "" if finding.ok else finding.advice
    return MARKS[finding.ok], finding.name, finding.figure, advice


def what_was_run(run: DataTree) -> dict[str, Any]:
    """The settings, by the words of a reader."""
    attributes = run.attrs
    data = run.children["constant_data"].dataset
    tests = f", {len(data['x_test'])} test points" if "x_test" in data else ""
    hyperparameters = json.loads(attributes["hyperparameters"])
    return {
        "data": f"{len(data['x'])} training points of shape {data['x'].shape[1:]}{tests}",
        "network": attributes["network"],
        "likelihood": attributes["likelihood"],
        "unknown scales": ", ".join(hyperparameters) or "none",
        "parameters": f"{attributes['num_parameters']}, of which {attributes['dim']} numbers are "
        "sampled",
        "target": attributes["target"],
        "sampler": json.loads(attributes["settings"])["sampler"],
        "chains": f"{attributes['chains']} of {attributes['draws']} draws after "
        f"{attributes['warmup']} warm-up transitions",
        "seed": attributes["seed"],
        "precision": attributes["dtype"],
        "device": attributes["device"],
        "versions": ", ".join(f"{n} {v}" for n, v in json.loads(attributes["versions"]).items()),
    }


def efficiency(run: DataTree) -> Section:
    """Effective draws by draw, gradient and second."""
    rows = []
    for name, figures in (convergence(run) | {"log density": of_log_density(run)}).items():
        rates = (figures.ess_per_draw, figures.ess_per_gradient, figures.ess_per_second)
        worst = (figures.ess_bulk_min, figures.ess_tail_min)
        cells = (f"{figures.ess_bulk:.0f}", *(f"{value:.0f}" for value in worst))
        rows.append((name, *cells, *(f"{rate:.3g}" for rate in rates)))
    stats, attributes = run.children["sample_stats"].dataset, run.attrs
    step = f", step size {float(stats['step_size'].mean()):.3g}" if "step_size" in stats else ""
    return Section(
        "Efficiency",
        f"{float(stats['n_gradients'].mean()):.3g} gradients a draw at acceptance "
        f"{float(stats['acceptance_rate'].mean()):.2f}{step}; compiling took "
        f"{attributes['compile_seconds']:.1f} s, warm-up {attributes['warmup_seconds']:.1f} s, "
        f"the draws {attributes['sampling_seconds']:.1f} s.",
        (
            Table(
                columns=("quantity", "ESS (median)", "worst, bulk", "worst, tail", "ESS / draw",
                         "ESS / gradient", "ESS / second"),
                rows=tuple(rows),
                caption="ESS: effective sample size of all chains together, as ArviZ's. Hidden "
                "and readout weights are random projections of them.",
            ),
        ),
    )  # fmt: skip


def chains(run: DataTree) -> Section:
    """Whether the chains met: ranks, growth of the effective sample size, traces, layers."""
    draws = _draws(run)
    needed = ESS_PER_CHAIN * run.attrs["chains"]
    pictures = [
        Picture(
            "ranks",
            "Ranks of the draws of each chain",
            "Of each kind of quantity the component whose chains differ most. Chains that explore "
            "the same distribution have flat histograms, within the grey band 19 times in 20.",
            as_svg(rank_figure(draws)),
        ),
        Picture(
            "growth",
            "Growth of the effective sample size",
            "Of the worst component of each kind. It should grow in proportion to the draws and "
            "end above the dotted line.",
            as_svg(growth_figure(draws, needed)),
        ),
    ]
    if "hidden_projection" in run.children.get("posterior", {}) and "predictions" in draws:
        pictures.append(
            Picture(
                "traces",
                "Traces",
                "The component whose chains differ most. Chains that have met overlap and look "
                "like noise.",
                as_svg(trace_figure([("this run", run)])),
            )
        )
    return Section("Convergence", parts=(*pictures, *_layers(run)))


def _draws(run: DataTree) -> dict[str, np.ndarray]:
    """What chains are compared in, whatever the numbering of hidden units."""
    draws = {}
    if "predictions" in run.children:
        group, variable = QUANTITIES["predictions"]
        draws["predictions"] = run.children[group].dataset[variable].values
    names = json.loads(run.attrs["hyperparameters"])
    if names:
        values = [run.children["posterior"].dataset[name].values for name in names]
        draws["hyperparameters"] = np.concatenate(
            [value.reshape(*value.shape[:2], -1) for value in values], axis=2
        )
    return draws | {"log density": run.children["sample_stats"].dataset["lp"].values[:, :, None]}


def _layers(run: DataTree) -> tuple[Table, ...]:
    rows = []
    for name, found in per_layer(run).items():
        sizes = (found.ess, found.ess_01, found.ess_min)
        cells = ["-" if size is None else f"{size:.0f}" for size in sizes]
        ratios = (found.rhat, found.rhat_99, found.rhat_max)
        rows.append((name, str(found.entries), *(f"{ratio:.3f}" for ratio in ratios), *cells))
    if not rows:
        return ()
    columns = ("weights", "entries", "R-hat", "of 1 %", "worst", "ESS", "of 1 %", "worst")
    caption = (
        "Every weight of each array: the median, the value that 1 % are worse than, the worst. A "
        "network stays the same when hidden units change places, so chains that agree in "
        "predictions may differ here."
    )
    return (Table(columns, tuple(rows), caption),)


def function_space(run: DataTree, verdict: Verdict) -> Section | None:
    """Predictions beside those of the infinitely wide network."""
    if "predictions" not in run.children:
        return None
    constant = run.children["constant_data"].data_vars
    limit = next((name for name in ("nngp", "laplace") if f"{name}_mean" in constant), None)
    told = {finding.name: finding.figure for finding in verdict.findings}
    text = "This network has no known limit to be compared with."
    if has_limit(run):
        text = f"Distance to the NNGP posterior: {told.get('distance to the NNGP', 'unknown')}."
    elif limit is not None:
        text = "The limit's posterior is known here by Laplace's approximation only."
    points = len(run.children["constant_data"].dataset["x_test"])
    shown = "" if points <= MOST_POINTS else f"{MOST_POINTS} of {points} "
    picture = Picture(
        "predictions",
        "Predictions",
        f"Mean and 95 % interval of the noise-free output at {shown}test points; of several "
        "outputs the one with the largest mean."
        + ("" if limit is None else " Grey bars: the infinitely wide network's posterior."),
        as_svg(predictions_figure(run, limit)),
    )
    return Section("Function space" + ("" if limit is None else ", against the NNGP"), text,
                   (picture,))  # fmt: skip


def reproduction(run: DataTree, source: str) -> Section:
    """Python that makes the run again."""
    settings = json.loads(run.attrs["settings"])
    ridge = "" if settings["ridge"] is None else f", {settings['ridge']!r}"
    x_test = 'first["constant_data"]["x_test"].values'
    has_test = "x_test" in run.children["constant_data"].data_vars
    lines = [
        "import jax",
        f"jax.config.update('jax_enable_x64', {settings['x64']})",
        "import bnnsample as bnn",
        "",
        f"first = bnn.load_run({source!r})  # the data are in it",
        "run = bnn.sample(",
        f"    bnn.{settings['target']}(bnn.posterior_of(first){ridge}),",
        f"    bnn.{settings['sampler']},",
        *(f"    {name}={settings[name]}," for name in ("chains", "warmup", "draws", "seed")),
        f"    x_test={x_test if has_test else None},",
        f"    keep={tuple(settings['keep'])!r},",
        ")",
    ]
    return Section("To make it again", parts=(Code("\n".join(lines)),))
