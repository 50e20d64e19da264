"""What the UCI experiment found: a table and a figure beside published results of MC dropout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import harness
import numpy as np
from harness import Row
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from bnnsample.reports.figures import legend_on_the_right

PUBLISHED = {
    "boston": (2.90, -2.40),
    "concrete": (4.82, -2.93),
    "energy": (0.54, -1.21),
    "wine": (0.62, -0.93),
    "yacht": (0.67, -1.25),
    "kin8nm": (0.08, 1.14),
    "naval": (0.00, 4.45),
    "power": (4.01, -2.80),
    "protein": (4.27, -2.87),
}
"""Error and log density of MC dropout with grid search, means over the splits (Mukhoti, Stenetorp
and Gal 2018, 1811.09385)."""

PUBLISHED_SPLITS = {"protein": 5}
DROPOUT = "MC dropout"
METHODS = {"bnn": "sampled network", "nngp": "NNGP, fitted"}
NEAR = 0.1
"""Nats up to which differences of log density are drawn in proportion, not to their logarithm."""
LOOKS = (("#D55E00", "o", -0.12), ("#0072B2", "s", 0.12))
"""Of the methods: colour, marker, and how far off a set's line."""


def summary(rows: list[Row], method: str) -> tuple[np.ndarray, np.ndarray]:
    """Means over the splits of error and log density, and their standard errors."""
    values = np.array([row[method] for row in rows])
    return values.mean(axis=0), values.std(axis=0, ddof=len(rows) > 1) / len(rows) ** 0.5


def figure(rows: list[Row]) -> Figure:
    """Error over MC dropout's, and log density less its, for each set."""
    splits = Counter(row["name"] for row in rows)
    names = [name for name in PUBLISHED if splits[name]]
    shown = [f"{name} (one split)" if splits[name] == 1 else name for name in names]
    drawn, [[error_axis, density_axis]] = harness.panels(1, 2, height=1.6 + 0.35 * len(names))
    density_axis.set_xscale("symlog", linthresh=NEAR)
    for (method, title), (color, marker, offset) in zip(METHODS.items(), LOOKS, strict=True):
        for place, name in enumerate(names):
            mean, se = summary([row for row in rows if row["name"] == name], method)
            error, density = PUBLISHED[name]
            look = {"color": color, "marker": marker, "linestyle": "", "capsize": 2}
            look |= {"label": title if place == 0 else None}
            if error > 0:
                error_axis.errorbar(mean[0] / error, place + offset, xerr=se[0] / error, **look)
            density_axis.errorbar(mean[1] - density, place + offset, xerr=se[1], **look)
    for axis, same, label in (
        (error_axis, 1, "RMSE / RMSE of MC dropout\n(left is better; ± 1 standard error)"),
        (
            density_axis,
            0,
            "log density - that of MC dropout\n"
            f"(nats a point, right is better;\nlogarithmic beyond {NEAR})",
        ),
    ):
        axis.axvline(same, color="#9A9A9A", label="MC dropout")
        axis.set_yticks(range(len(names)), shown if axis is error_axis else [""] * len(names))
        axis.invert_yaxis()
        axis.set_xlabel(label)
    density_axis.set_xticks([-0.1, 0, 0.1, 0.3, 1, 3], ["-0.1", "0", "0.1", "0.3", "1", "3"])
    density_axis.xaxis.set_minor_locator(NullLocator())
    legend_on_the_right(drawn, error_axis)
    return drawn


def table(rows: list[Row]) -> str:
    """Means over splits and their standard errors, beside the published figures."""

    def score(method: str, own: list[Row], which: int) -> str:
        if method == DROPOUT:
            return f"{PUBLISHED[own[0]['name']][which]:.2f}"
        mean, error = (values[which] for values in summary(own, method))
        return f"{mean:.4g} ± {error:.2g}" if len(own) > 1 else f"{mean:.4g}"

    def rhats(method: str, own: list[Row], which: str) -> str:
        found = [row[which] for row in own]
        return f"{np.median(found):.2f}, {max(found):.2f}" if method == "bnn" else ""

    def splits(method: str, own: list[Row]) -> int:
        return PUBLISHED_SPLITS.get(own[0]["name"], 20) if method == DROPOUT else len(own)

    columns: dict[str, Callable[[tuple[str, list[Row]]], object]] = {
        "set": lambda line: line[1][0]["name"],
        "splits": lambda line: splits(*line),
        "method": lambda line: METHODS.get(line[0], DROPOUT),
        "RMSE": lambda line: score(*line, 0),
        "log density": lambda line: score(*line, 1),
        "R-hat of predictions, median and largest": lambda line: rhats(*line, "rhat"),
        "of hyperparameters": lambda line: rhats(*line, "rhat_hyperparameters"),
    }
    sets = ([row for row in rows if row["name"] == name] for name in PUBLISHED)
    lines = [(method, own) for own in sets if own for method in (*METHODS, DROPOUT)]
    return harness.table(lines, columns)
