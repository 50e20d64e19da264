"""Figures of a comparison of runs; the only importer of matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter
from numpy.typing import ArrayLike
from xarray import DataTree

from bnnsample.diagnostics.verdict import NEARLY
from bnnsample.reports.summary import Summary
from bnnsample.reports.verdict import by_target

STYLE = {
    "standard": {"color": "#D55E00", "marker": "s", "linestyle": ":"},
    "repriorised": {"color": "#0072B2", "marker": "^", "linestyle": "--"},
    "marginal": {"color": "#000000", "marker": "o", "linestyle": "-"},
}
"""Okabe and Ito's colours for the colour-blind, told apart in print by marker and line as well."""

ROUGH = f"open markers: R-hat above {NEARLY:g}, the rate a rough one"
CHAIN_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
NNGP_COLOR = "#9A9A9A"
RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "axes.axisbelow": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "bnnsample",
}


def efficiency_figure(summaries: Sequence[Summary]) -> Figure:
    """ESS per gradient against width on log axes, a line per target, a panel per quantity."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        quantities = list(summaries[0].convergence)
        axes = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for axis, quantity in zip(axes, quantities, strict=True):
            for target, group in _by_target(summaries).items():
                found = [s.convergence[quantity] for s in group]
                line(
                    axis,
                    [s.width for s in group],
                    [own.ess_per_gradient for own in found],
                    [not own.rhat_max <= NEARLY for own in found],
                    label=target,
                    **_style(target),
                )
            weights = quantity in ("hidden", "readout")
            axis.set_title(f"{quantity} weights" if weights else quantity)
            axis.set_yscale("log")
            _width_axis(axis, summaries)
        axes[0].set_ylabel("effective draws per gradient\n(ESS / gradients)")
        axes[len(axes) // 2].set_xlabel(f"width (hidden units)\n({ROUGH})")
        legend_on_the_right(figure, axes[0])
        return figure


def distance_figure(summaries: Sequence[Summary]) -> Figure:
    """Distance to the NNGP posterior against width on log axes, with one standard error."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axis = figure.subplots()
        for target, group in _by_target(summaries).items():
            shown = [s for s in group if s.distance is not None and s.distance.value > 0]
            distances = [s.distance for s in shown if s.distance is not None]
            values = np.array([d.value for d in distances])
            low, high = (np.array([d.interval[side] for d in distances]) for side in (0, 1))
            widths = np.array([s.width for s in shown])
            errors = np.array([values - low, high - values])
            axis.errorbar(widths, values, errors, label=target, capsize=3, **_style(target))
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:g}")
        _width_axis(axis, summaries)
        axis.set_ylabel("distance to the NNGP posterior\n(in its standard deviations)")
        legend_on_the_right(figure, axis)
        return figure


def prediction_figure(narrow: DataTree, wide: DataTree, labels: tuple[str, str]) -> Figure:
    """Predictive mean and 95 % interval at each test point, of two runs and of the NNGP.

    Shown is the output whose NNGP mean is largest: for classes the predicted one.
    """
    with matplotlib.rc_context(RC):
        constant = wide.children["constant_data"].dataset
        mean, std = constant["nngp_mean"].values, constant["nngp_std"].values
        output = mean.argmax(axis=1)
        points = np.arange(len(mean))
        best = mean[points, output]
        order = np.argsort(best)
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.errorbar(
            points,
            best[order],
            1.96 * std[points, output][order],
            linestyle="none",
            marker="_",
            markersize=9,
            markeredgewidth=1.5,
            markeredgecolor="#303030",
            elinewidth=6,
            ecolor=NNGP_COLOR,
            label="NNGP limit",
        )
        looks: tuple[dict[str, Any], ...] = (
            {"color": "#D55E00", "marker": "s"},
            {"color": "#000000", "marker": "o"},
        )
        for run, label, look, shift in zip(
            (narrow, wide), labels, looks, (-0.25, 0.25), strict=True
        ):
            draws = (
                run.children["predictions"].dataset["f"].values[:, :, points, output][:, :, order]
            )
            middle = draws.mean(axis=(0, 1))
            low, high = np.quantile(draws, [0.025, 0.975], axis=(0, 1))
            errors = np.array([middle - low, high - middle])
            axis.errorbar(
                points + shift, middle, errors, linestyle="none", markersize=4, label=label, **look
            )
        axis.set_xticks(points, [str(int(p)) for p in order])
        axis.set_xlabel("test point (number in the test set, sorted by the NNGP mean)")
        axis.set_ylabel("network output with the\nlargest NNGP mean (target units)")
        axis.grid(visible=False, axis="x")
        legend_on_the_right(figure, axis)
        return figure


def trace_figure(runs: Sequence[tuple[str, DataTree]]) -> Figure:
    """Draws of one hidden-weight projection and one prediction of each run, a line per chain.

    The component shown is the one whose chain means differ most, relative to their spread.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 0.6 + 1.7 * len(runs)), layout="constrained")
        axes = figure.subplots(len(runs), 2, squeeze=False)
        for row, (label, run) in zip(axes, runs, strict=True):
            shown = (
                ("posterior", "hidden_projection", "hidden weights\n(one projection)"),
                ("predictions", "f", "output at one\ntest point"),
            )
            for axis, (group, variable, name) in zip(row, shown, strict=True):
                draws = run.children[group].dataset[variable].values
                draws = least_settled(draws.reshape(*draws.shape[:2], -1))
                for chain, line in enumerate(draws):
                    axis.plot(line, color=CHAIN_COLORS[chain % len(CHAIN_COLORS)], linewidth=0.8)
                axis.set_ylabel(name)
                axis.set_title(f"{label}: {draws.shape[1]} draws", loc="left", fontsize=10)
                axis.set_xlim(0, draws.shape[1] - 1)
        for axis in axes[-1]:
            axis.set_xlabel("draw after warm-up (a colour per chain)")
        return figure


def as_svg(figure: Figure) -> str:
    """A figure as SVG text, the same for the same data."""
    buffer = io.StringIO()
    with matplotlib.rc_context(RC):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()


def least_settled(draws: np.ndarray) -> np.ndarray:
    """Draws (chain, draw) of the component whose chain means differ most for their spread."""
    between, within = draws.mean(axis=1).std(axis=0), draws.std(axis=1).mean(axis=0)
    return draws[:, :, int(np.argmax(np.arctan2(between, within)))]


def _by_target(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Lines in the order of all figures, those of other targets last."""
    groups = by_target(summaries)
    return {name: groups[name] for name in (*STYLE, *groups) if name in groups}


def line(
    axis: Axes, x: ArrayLike, y: ArrayLike, rough: Sequence[bool] | None = None, **style: Any
) -> None:
    """A line whose markers are open where the value is a ``rough`` one."""
    axis.plot(np.asarray(x), np.asarray(y), **style)
    if rough is not None:
        where = np.asarray(rough, bool)
        look = style | {"linestyle": "none", "markerfacecolor": "white", "label": None}
        axis.plot(np.asarray(x)[where], np.asarray(y)[where], **look)


def _style(target: str) -> dict[str, Any]:
    return STYLE.get(target, {"color": "#009E73", "marker": "d"})


def _width_axis(axis: Axes, summaries: Sequence[Summary]) -> None:
    widths = sorted({s.width for s in summaries})
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(FixedLocator(widths))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.margins(x=0.08)
    axis.set_xlabel("width (hidden units)")


def legend_on_the_right(figure: Figure, axis: Axes) -> None:
    """The legend of ``axis``, outside the data."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
