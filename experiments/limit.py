"""How fast does the posterior of a finite network come near the NNGP's, over width and depth?

The distance is that of ``bnn.distance_to_nngp``, in standard deviations of the NNGP posterior, at
test points; ``distance ~ width^slope`` is fitted to the widths of each depth from ``--fit-from``
times the training points on, as narrower networks are not near the limit. To first order in
1 / width the moments of finite networks are off by as much (Yaida 2020, 1910.00019): a slope of -1.
Digits, gelu, noise_std 0.1, the marginal target.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import jax
import numpy as np
from harness import Record, Row, Settings
from matplotlib.figure import Figure
from xarray import DataTree

import bnnsample as bnn
from bnnsample.diagnostics.verdict import NEARLY
from bnnsample.reports.figures import CHAIN_COLORS, ROUGH, legend_on_the_right, line

NOISE_STD = 0.1
SCALES: dict[str, Settings] = {
    "smoke": {
        "depths": (1,), "widths": (8, 32), "points": 8, "test": 4, "fit_from": 1.0,
        "chains": 3, "warmup": 20, "draws": 30,
    },
    "two cores": {
        "depths": (1, 2, 3, 4), "widths": (16, 32, 64, 128, 256, 512, 1024, 2048), "points": 64,
        "test": 40, "fit_from": 4.0, "chains": 6, "warmup": 150, "draws": 200,
    },
    "paper": {
        "depths": (1, 2, 3, 4, 8), "widths": (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
        "points": 256, "test": 100, "fit_from": 4.0, "chains": 16, "warmup": 1000, "draws": 2000,
    },
}  # fmt: skip
type Columns = dict[str, Callable[[Row], Any]]
MARKERS = "o^sDv"
BESIDE = 1.12
"""Ratio by which markers of one width and several depths are set apart in the figure."""


def distance(about: Row, folder: Path) -> Row:
    """Of one network, its Monte-Carlo standard error, and how the chains did."""
    seed = 100_000 * about["depth"] + about["width"]  # distances are fitted as independent
    data = bnn.load("digits", train=about["points"], test=about["test"])
    network = bnn.fcn(about["depth"], about["width"], data.y_train.shape[1])
    posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(NOISE_STD))
    run = bnn.sample(
        bnn.marginal(posterior), chains=about["chains"], warmup=about["warmup"],
        draws=about["draws"], seed=seed, x_test=data.x_test, keep=("predictions",),
        out=folder / "run",
    )  # fmt: skip
    found = bnn.distance_to_nngp(run)
    low, high = found.interval
    return harness.efficiency(run) | parts(run) | {
        "distance": found.value, "low": low, "high": high,
        "squared": found.squared, "squared_error": found.squared_error,
    }  # fmt: skip


def parts(run: DataTree) -> Row:
    """What the distance is made of: root mean square shift of means, mean ratio of deviations."""
    limit, drawn = run["constant_data"].dataset, run["predictions"].dataset
    shift = (drawn["f_mean"].values - limit["nngp_mean"].values) / limit["nngp_std"].values
    spread = drawn["f_std"].values / limit["nngp_std"].values
    mean = shift.mean(axis=(0, 1))
    variance = (shift**2 + spread**2).mean(axis=(0, 1)) - mean**2
    return {
        "mean_shift": float(np.sqrt(np.mean(mean**2))),
        "std_ratio": float(np.mean(np.sqrt(variance))),
    }


def fitted(rows: list[Row], narrowest: float) -> Row:
    """``distance ~ width^slope`` by weighted least squares, and the slope's standard error.

    The error is what the distances scatter about the line by, where that is more than their
    Monte-Carlo errors explain. NaN with fewer than three distances that stand out from these.
    """
    seen = [r for r in rows if r["width"] >= narrowest and r["squared"] > 2 * r["squared_error"]]
    depth = rows[0]["depth"]
    if len(seen) < 3:
        return {"depth": depth, "slope": np.nan, "error": np.nan, "level": np.nan, "widths": []}
    widths = np.array([r["width"] for r in seen])
    logs = np.log([r["squared"] for r in seen]) / 2
    errors = np.array([r["squared_error"] / r["squared"] / 2 for r in seen])
    (slope, level), covariance = np.polyfit(np.log(widths), logs, 1, w=1 / errors, cov="unscaled")
    misfit = np.mean(((logs - level - slope * np.log(widths)) / errors) ** 2)
    error = np.sqrt(covariance[0, 0] * max(1.0, misfit * len(seen) / (len(seen) - 2)))
    return {"depth": depth, "slope": slope, "error": error, "level": level, "widths": widths}


def figure(rows: list[Row], fits: list[Row]) -> Figure:
    """Distance against width, a line for each depth, with the fitted power laws."""
    drawn, [[axis]] = harness.panels(1, 1, height=4.0)
    looks = zip(fits, CHAIN_COLORS, MARKERS, strict=False)
    for number, (fit, color, marker) in enumerate(looks):
        own = [r for r in rows if r["depth"] == fit["depth"] and r["distance"] > 0]
        values = np.array([r["distance"] for r in own])
        shift = BESIDE ** (number - (len(fits) - 1) / 2)
        widths = [shift * r["width"] for r in own]
        errors = [values - [r["low"] for r in own], [r["high"] for r in own] - values]
        style = {"color": color, "marker": marker, "linestyle": "none"}
        axis.errorbar(widths, values, errors, color=color, linestyle="none", capsize=3)
        slope = f"{fit['slope']:.2f} ± {fit['error']:.2f}"
        layers = "1 hidden layer" if fit["depth"] == 1 else f"{fit['depth']} hidden layers"
        rough = [r["predictions"]["rhat_max"] > NEARLY for r in own]
        line(axis, widths, values, rough, label=f"{layers}: slope {slope}", **style)
        if len(fit["widths"]):
            law = np.exp(fit["level"]) * fit["widths"] ** fit["slope"]
            axis.plot(shift * fit["widths"], law, color=color, linewidth=1.0)
    rough = f"{ROUGH.split(',')[0]}; markers of one width are set side by side"
    axis.set_xlabel(f"width (hidden units of each layer)\n({rough})")
    axis.set_ylabel("distance to the NNGP posterior\n(in its standard deviations)")
    harness.logarithmic(axis, sorted({r["width"] for r in rows}))
    harness.logarithmic(axis, which="y")
    legend_on_the_right(drawn, axis)
    return drawn


def table(rows: list[Row], fits: list[Row]) -> str:
    """By depth and width: distances with their slopes, and what they are made of."""
    widths = sorted({row["width"] for row in rows})
    known = {(row["depth"], row["width"]): row for row in rows}

    def over_widths(title: str, shown: str) -> Columns:
        of_width = {str(w): lambda fit, w=w: known[fit["depth"], w][shown] for w in widths}
        return {title: lambda fit: fit["depth"], **of_width}

    def local_slope(fit: Row) -> str:
        before, last = (known[fit["depth"], width]["distance"] for width in widths[-2:])
        return f"{np.log(last / before) / np.log(widths[-1] / widths[-2]):.2f}"

    slopes: Columns = {
        "slope, fitted": lambda fit: f"{fit['slope']:.2f} ± {fit['error']:.2f}",
        "between the last two": local_slope if len(widths) > 1 else lambda _: "",
    }
    distances = over_widths("hidden layers: distance", "distance") | slopes
    ratios = over_widths("hidden layers: ratio of std", "std_ratio")
    shifts = over_widths("hidden layers: shift of means", "mean_shift")
    return "\n\n".join(harness.table(fits, columns) for columns in (distances, ratios, shifts))


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "limit", SCALES)
    jax.config.update("jax_enable_x64", True)
    record = Record(options.out)
    settings = {key: scale[key] for key in ("points", "test", "chains", "warmup", "draws")}
    places = itertools.product(scale["depths"], scale["widths"])
    points = [{"depth": depth, "width": width} | settings for depth, width in places]
    rows = record.swept(distance, points, options)
    fits = [
        fitted([row for row in rows if row["depth"] == depth], scale["fit_from"] * scale["points"])
        for depth in scale["depths"]
    ]
    record.draw("limit", figure(rows, fits))
    print(table(rows, fits))


if __name__ == "__main__":
    main()
