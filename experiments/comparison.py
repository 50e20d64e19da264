"""The three targets of one posterior at many widths, under the paper's sampler and our best one.

That of 2206.07673 is underdamped Langevin, one leapfrog step a draw, on each target. Our best on
each is HMC whose trajectories warm-up tunes, by rotation where there is a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import RATES, Row, Settings
from matplotlib.figure import Figure

import bnnsample as bnn
from bnnsample.diagnostics.verdict import NEARLY
from bnnsample.reports.figures import ROUGH, STYLE, legend_on_the_right, line
from bnnsample.reports.settings import SAMPLERS
from bnnsample.repriorisation.targets import TARGETS

LANGEVIN, BEST = "langevin", "hmc"
TITLES = {LANGEVIN: "underdamped Langevin", BEST: "HMC of tuned length"}


def points(place: Row, scale: Settings) -> Iterator[Row]:
    """The settings of a run for each sampler and target at a place.

    Of the scale: ``samplers``, ``chains``, and of each sampler ``langevin_warmup``,
    ``langevin_draws``.
    """
    for sampler in scale["samplers"]:
        for target in TARGETS:
            about = place | {"target": target, "sampler": sampler, "chains": scale["chains"]}
            yield about | {key: scale[f"{sampler}_{key}"] for key in ("warmup", "draws")}


def sampled(posterior: bnn.Posterior, x_test: np.ndarray, about: Row, folder: Path) -> Row:
    """The run of such settings, kept in ``folder``, and what it achieved."""
    target, best = about["target"], about["sampler"] == BEST
    run = bnn.sample(
        TARGETS[target](posterior),
        SAMPLERS[target] if best else bnn.Langevin(integrator="leapfrog"),
        chains=about["chains"],
        warmup=about["warmup"],
        draws=about["draws"],
        x_test=x_test,
        keep=("predictions", "projections"),
        out=folder / "run",
    )
    return harness.efficiency(run)


def efficiency_figure(rows: list[Row], width_name: str) -> Figure:
    """ESS of the predictions by draw, gradient and second against width, a row for each sampler."""
    widths = sorted({row["width"] for row in rows})
    samplers = [name for name in TITLES if any(row["sampler"] == name for row in rows)]
    height = 1.0 + 2.4 * len(samplers)
    figure, axes = harness.panels(
        len(samplers), len(RATES), height=height, sharex=True, sharey="col"
    )
    for sampler, row in zip(samplers, axes, strict=True):
        for axis, rate in zip(row, RATES, strict=True):
            for target, style in STYLE.items():
                own = [r for r in rows if (r["target"], r["sampler"]) == (target, sampler)]
                line(
                    axis,
                    [r["width"] for r in own],
                    [r["predictions"][rate] for r in own],
                    [r["predictions"]["rhat_max"] > NEARLY for r in own],
                    label=target,
                    **style,
                )
            axis.set_yscale("log")
            harness.logarithmic(axis, sorted(widths[::-2]) if len(widths) > 5 else widths)
        row[0].set_ylabel(f"{TITLES[sampler]}\neffective draws of predictions")
    for axis, rate in zip(axes[0], RATES, strict=True):
        axis.set_title(rate.removeprefix("ess_").replace("_", " "))
    axes[-1][1].set_xlabel(f"{width_name}\n({ROUGH})")
    legend_on_the_right(figure, axes[0][0])
    return figure


def table(rows: list[Row], places: Mapping[str, Callable[[Row], Any]]) -> str:
    """The runs as Markdown, what ``places`` show of each first.

    A gain is over the standard target, at that place and by that sampler. Where that has an R-hat
    of 2 and more, its chains never met: its ESS, about one and a half a chain, is the least that
    the estimator gives, and the gain too small.
    """

    def setting(row: Row) -> tuple[Any, ...]:
        return row["sampler"], *(show(row) for show in places.values())

    standard = {setting(row): row for row in rows if row["target"] == "standard"}

    def gain(row: Row, quantity: str, rate: str) -> float:
        return row[quantity][rate] / standard[setting(row)][quantity][rate]

    columns: dict[str, Callable[[Row], Any]] = {
        **places,
        "sampler": lambda r: (
            "Langevin" if r["sampler"] == LANGEVIN else f"HMC, {r['steps']:.0f} steps"
        ),
        "target": lambda r: r["target"],
        "acceptance": lambda r: f"{r['acceptance']:.2f}",
        "R-hat, predictions": lambda r: f"{r['predictions']['rhat_max']:.2f}",
        "R-hat, hidden": lambda r: f"{r['hidden']['rhat_max']:.2f}",
        "ESS a draw": lambda r: r["predictions"]["ess_per_draw"],
        "a gradient": lambda r: r["predictions"]["ess_per_gradient"],
        "a second": lambda r: r["predictions"]["ess_per_second"],
        "gain by gradient": lambda r: gain(r, "predictions", "ess_per_gradient"),
        "by second": lambda r: gain(r, "predictions", "ess_per_second"),
        "hidden, by gradient": lambda r: gain(r, "hidden", "ess_per_gradient"),
    }
    return harness.table(rows, columns)
