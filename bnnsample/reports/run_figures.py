"""Figures of one run: ranks, growth of the effective sample size, predictions, calibration."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binom, rankdata
from xarray import DataTree

from bnnsample.diagnostics.quality.classes import Reliability
from bnnsample.diagnostics.quality.quality import Quality
from bnnsample.diagnostics.vectorised import ess_bulk, ess_tail
from bnnsample.reports.figures import (
    CHAIN_COLORS,
    NNGP_COLOR,
    RC,
    least_settled,
    legend_on_the_right,
)

RANK_BINS = 20
DRAWS_PER_BIN = 10
"""Fewer bins than ``RANK_BINS`` where chains have fewer draws than this in each; arbitrary."""

GROWTH_POINTS = 12
MOST_POINTS = 40
"""Test points of the predictions figure at most, evenly over the sorted ones."""


def rank_figure(draws: dict[str, np.ndarray]) -> Figure:
    """Histograms of each chain's ranks among all draws (chain, draw, ...), of the worst component.

    Uniform where chains explore the same distribution (Vehtari et al. 2021, 1903.08008).
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 2.9), layout="constrained")
        axes = figure.subplots(1, len(draws), squeeze=False)[0]
        for axis, (name, values) in zip(axes, draws.items(), strict=True):
            worst = least_settled(values.reshape(*values.shape[:2], -1))
            ranks = rankdata(worst).reshape(worst.shape) / worst.size
            bins = max(4, min(RANK_BINS, worst.shape[1] // DRAWS_PER_BIN))
            low, high = binom.interval(0.95, worst.shape[1], 1 / bins)
            axis.axhspan(low, high, color="#ECECEC", label="95 % of bins, if uniform")
            for chain, row in enumerate(ranks):
                counts, edges = np.histogram(row, bins, (0, 1))
                axis.stairs(
                    counts, edges, color=CHAIN_COLORS[chain % len(CHAIN_COLORS)], linewidth=1.4,
                    linestyle=("-", "--", "-.", ":")[chain % 4], label=f"chain {chain}",
                )  # fmt: skip
            axis.set_title(name)
            axis.set_xlabel("rank among all draws (share)")
            axis.set_xticks((0, 0.5, 1))
            axis.set_xlim(0, 1)
            axis.set_ylim(bottom=0)
        axes[0].set_ylabel("draws in a bin")
        legend_on_the_right(figure, axes[0])
        return figure


def growth_figure(draws: dict[str, np.ndarray], needed: float) -> Figure:
    """Effective draws of the worst component against draws used, with what is ``needed``."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 2.9), layout="constrained")
        axes = figure.subplots(1, len(draws), squeeze=False, sharey=True)[0]
        for axis, (name, values) in zip(axes, draws.items(), strict=True):
            chains, total = values.shape[:2]
            columns = values.reshape(chains, total, -1)
            counts = np.unique(np.linspace(min(8, total), total, GROWTH_POINTS).astype(int))
            for label, ess, style in (
                ("bulk", ess_bulk, {"color": "#0072B2", "marker": "o"}),
                ("tail", ess_tail, {"color": "#D55E00", "marker": "s", "linestyle": "--"}),
            ):
                smallest = [np.min(ess(columns[:, :count])) for count in counts]
                axis.plot(counts * chains, smallest, label=label, markersize=4, **style)
            axis.axhline(needed, color="#303030", linestyle=":", label=f"needed ({needed:.0f})")
            axis.set_title(name)
            axis.set_xlabel("draws of all chains")
        axes[0].set_ylim(bottom=0)
        axes[0].set_ylabel("effective draws (ESS)\nof the worst component")
        legend_on_the_right(figure, axes[0])
        return figure


def predictions_figure(run: DataTree, limit: str | None) -> Figure:
    """Predictive mean and 95 % interval at test points, beside those of the ``limit`` if known.

    Of each point the output whose mean is largest: for classes the predicted one.
    """
    with matplotlib.rc_context(RC):
        f = run.children["predictions"].dataset["f"].values
        flat = f.reshape(-1, *f.shape[2:])
        output = flat.mean(axis=0).argmax(axis=1)
        chosen = np.take_along_axis(flat, output[None, :, None], axis=2)[:, :, 0]
        order = np.argsort(chosen.mean(axis=0))
        order = order[np.linspace(0, len(order) - 1, min(len(order), MOST_POINTS)).astype(int)]
        places = np.arange(len(order))
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        axis = figure.subplots()
        if limit is not None:
            constant = run.children["constant_data"].dataset
            mean, std = (
                constant[f"{limit}_{part}"].values[order, output[order]] for part in ("mean", "std")
            )
            axis.errorbar(
                places, mean, 1.96 * std, linestyle="none", marker="_", markersize=9,
                markeredgewidth=1.5, markeredgecolor="#303030", elinewidth=6, ecolor=NNGP_COLOR,
                label="NNGP limit" + ("" if limit == "nngp" else "\n(Laplace)"),
            )  # fmt: skip
        middle = chosen.mean(axis=0)[order]
        low, high = np.quantile(chosen[:, order], [0.025, 0.975], axis=0)
        axis.errorbar(
            places, middle, [middle - low, high - middle], linestyle="none", color="#0072B2",
            marker="o", markersize=4, label="this run",
        )  # fmt: skip
        axis.set_xticks(places, [str(int(point)) for point in order], fontsize=8, rotation=90)
        axis.set_xlabel("test point (number in the test set, sorted by the mean)")
        axis.set_ylabel("network output (units of\nthe targets or logits)")
        axis.grid(visible=False, axis="x")
        legend_on_the_right(figure, axis)
        return figure


def pit_figure(found: Quality) -> Figure:
    """Histogram of the probability integral transform, and coverage of central intervals."""
    assert found.pit_histogram is not None
    assert found.pit_band is not None
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        shares, (low, high) = found.pit_histogram, found.pit_band
        edges = np.linspace(0, 1, len(shares) + 1)
        left.stairs(
            high,
            edges,
            baseline=low,
            fill=True,
            color="#C9C9C9",
            label="95 % of bins,\nif calibrated",
        )
        left.stairs(shares, edges, color="#0072B2", linewidth=2, label="test points")
        left.set_xlabel("probability integral transform")
        left.set_ylabel("share of test points in a bin")
        left.set_ylim(bottom=0)
        levels, shares, lows, highs, _ = np.array(found.intervals).T
        right.vlines(levels, lows, highs, color="#C9C9C9", linewidth=7, label="95 %, if right")
        _diagonal(right)
        right.plot(levels, shares, color="#D55E00", marker="s", linewidth=1, label="intervals")
        right.set_xlabel("nominal coverage of central intervals")
        right.set_ylabel("share of targets inside")
        handles, labels = left.get_legend_handles_labels()
        more = right.get_legend_handles_labels()
        figure.legend(
            [*handles, *more[0]], [*labels, *more[1]], loc="outside right upper", frameon=False
        )
        return figure


def reliability_figure(found: Reliability) -> Figure:
    """Accuracy against confidence by bins, beside where calibrated predictions would be."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        axis = figure.subplots()
        _diagonal(axis)
        filled = found.count > 0
        sure, right = found.confidence[filled], found.accuracy[filled]
        axis.vlines(
            sure, *found.band[:, filled], color="#C9C9C9", linewidth=7,
            label="95 % of bins,\nif calibrated",
        )  # fmt: skip
        axis.plot(sure, right, color="#D55E00", marker="s", linewidth=1, label="predictions")
        for x, y, count in zip(sure, right, found.count[filled], strict=True):
            axis.annotate(
                f"{int(count)}", (x, y), textcoords="offset points", xytext=(6, -11),
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
            )  # fmt: skip
        axis.set_xlabel("confidence (probability of the predicted class)")
        axis.set_ylabel("accuracy (number: test points)")
        axis.set_xlim(0, 1.06)
        axis.set_ylim(0, 1.03)
        legend_on_the_right(figure, axis)
        return figure


def _diagonal(axis: Axes) -> None:
    axis.plot((0, 1), (0, 1), color="#303030", linestyle=":", label="calibrated")
