"""Which sampler on which target makes most effective draws, per gradient and per second.

Digits, one hidden gelu layer, noise_std 0.1: every sampler on the marginal target, some on the
repriorised one, and leapfrog HMC on the weights as they are, over trajectory lengths and acceptance
rates. All runs take about as many gradients, or likelihoods where a sampler takes no gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import harness
import jax
import numpy as np
from harness import Record, Row, Settings, three_digits
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterSciNotation, LogLocator
from xarray import DataTree

import bnnsample as bnn
from bnnsample.diagnostics.verdict import NEARLY
from bnnsample.reports.figures import ROUGH, STYLE
from bnnsample.repriorisation.targets import TARGETS
from bnnsample.sampling.samplers.base import AbstractSampler

NOISE_STD = 0.1
SAMPLERS: dict[str, dict[str, AbstractSampler]] = {
    "standard": {
        "HMC(16, leapfrog)": bnn.HMC(16, integrator="leapfrog"),
        "HMC(32, leapfrog)": bnn.HMC(32, integrator="leapfrog"),
        "HMC(64, leapfrog)": bnn.HMC(64, integrator="leapfrog"),
        "HMC(128, leapfrog)": bnn.HMC(128, integrator="leapfrog"),
        "HMC(64, leapfrog, 0.65)": bnn.HMC(64, integrator="leapfrog", target_acceptance=0.65),
        "HMC(128, leapfrog, 0.65)": bnn.HMC(128, integrator="leapfrog", target_acceptance=0.65),
        "NUTS(leapfrog, 127 at most)": bnn.NUTS(integrator="leapfrog", max_doublings=7),
        "Langevin(leapfrog)": bnn.Langevin(integrator="leapfrog"),
        "HMC(8)": bnn.HMC(8),
    },
    "repriorised": {
        "HMC(1)": bnn.HMC(1),
        "HMC(2)": bnn.HMC(2),
        "HMC()": bnn.HMC(),
        "AlternatingHMC()": bnn.AlternatingHMC(),
        "NUTS()": bnn.NUTS(),
        "Langevin()": bnn.Langevin(),
    },
    "marginal": {
        "HMC(1)": bnn.HMC(1),
        "HMC(1, 0.65)": bnn.HMC(1, target_acceptance=0.65),
        "HMC(2)": bnn.HMC(2),
        "HMC(4)": bnn.HMC(4),
        "HMC(8)": bnn.HMC(8),
        "HMC()": bnn.HMC(),
        "NUTS()": bnn.NUTS(),
        "MALA()": bnn.MALA(),
        "PCNL()": bnn.PCNL(),
        "PCN()": bnn.PCN(),
        "EllipticalSlice()": bnn.EllipticalSlice(),
        "Langevin()": bnn.Langevin(),
        "microcanonical": bnn.MicrocanonicalLangevin(),
        "microcanonical, biased": bnn.UnadjustedMicrocanonicalLangevin(),
    },
}
"""By target; a number below 1 is the acceptance that warm-up aims at, where it is not the usual."""

SCALES: dict[str, Settings] = {
    "smoke": {
        "targets": ("repriorised",), "widths": (8,), "points": 12, "test": 4, "chains": 2,
        "warmup": 10, "pilot": 8, "gradients": 400,
    },
    "two cores": {
        "targets": tuple(SAMPLERS), "widths": (64, 256, 1024), "points": 64, "test": 20,
        "chains": 4, "warmup": 200, "pilot": 20, "gradients": 12_800,
    },
    "paper": {
        "targets": tuple(SAMPLERS), "widths": (64, 256, 1024, 4096, 16_384), "points": 256,
        "test": 50, "chains": 8, "warmup": 1000, "pilot": 50, "gradients": 128_000,
    },
}  # fmt: skip
"""``gradients``: of each chain's draws; ``pilot``: draws that show how many a draw takes."""

SHOWN = {"predictions": "predictions", "hidden": "hidden weights"}
QUANTITIES = tuple(SHOWN)
UNITS = ("gradient", "second")
MARKERS = "o^sDv"
BESIDE = 0.2
"""Between the marks of two widths, of the distance of two lines."""


def draws_of(about: Row, folder: Path) -> DataTree:
    """Of a run as long as its gradients allow, by what a draw of a short one takes."""
    data = bnn.load("digits", train=about["points"], test=about["test"])
    network = bnn.fcn(1, about["width"], data.y_train.shape[1])
    posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(NOISE_STD))

    def run(draws: int, name: str) -> DataTree:
        return bnn.sample(
            TARGETS[about["target"]](posterior), SAMPLERS[about["target"]][about["sampler"]],
            chains=about["chains"], warmup=about["warmup"], draws=draws, x_test=data.x_test,
            keep=("predictions", "projections"), out=folder / name,
        )  # fmt: skip

    steps = float(run(about["pilot"], "pilot")["sample_stats"].dataset["n_steps"].mean())
    return run(round(about["gradients"] / steps), "run")


def measure(about: Row, folder: Path) -> Row:
    """One run, of about as many gradients as all others of its width, and what it achieved."""
    run = draws_of(about, folder)
    found = bnn.convergence(run)
    stats = {str(name): array.values for name, array in run["sample_stats"].to_dataset().items()}
    row: Row = {
        "draws": stats["n_steps"].shape[1],
        "steps": float(stats["n_steps"].mean()),
        "acceptance": float(stats["acceptance_rate"].mean()),
    }
    for name in QUANTITIES:
        row[name] = {
            "rhat_max": found[name].rhat_max,
            "ess_bulk": found[name].ess_bulk,
            "ess_per_gradient": found[name].ess_bulk / float(stats["n_steps"].sum()),
            "ess_per_second": found[name].ess_per_second,
        }
    return row


def figure(rows: list[Row]) -> Figure:
    """Effective draws by gradient and by second, a line for each sampler, a mark for each width."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    lines = [(target, name) for target in targets for name in ("", *SAMPLERS[target])][::-1]
    widths = sorted({row["width"] for row in rows})
    drawn, axes = harness.panels(1, 4, height=1.6 + 0.25 * len(lines), sharey=True)
    places = list(itertools.product(QUANTITIES, UNITS))
    for axis, (quantity, unit) in zip(axes[0], places, strict=True):
        for row in rows:
            color, nth = STYLE[row["target"]]["color"], widths.index(row["width"])
            axis.plot(
                row[quantity][f"ess_per_{unit}"],
                lines.index((row["target"], row["sampler"])) - BESIDE * (nth - len(widths) // 2),
                color=color,
                marker=MARKERS[nth],
                markerfacecolor="white" if row[quantity]["rhat_max"] > NEARLY else color,
                markersize=5,
            )
        harness.logarithmic(axis)
        axis.margins(x=0.15)
        axis.xaxis.set_major_locator(LogLocator(numticks=9))
        axis.xaxis.set_major_formatter(LogFormatterSciNotation())
        axis.tick_params(axis="x", labelsize=7)
        axis.set_xlabel(f"ESS of\n{SHOWN[quantity]}\nper {unit}")
    axes[0][0].set_yticks(range(len(lines)), [name or target for target, name in lines])
    for label, (target, name) in zip(axes[0][0].get_yticklabels(), lines, strict=True):
        label.set(color=STYLE[target]["color"], fontweight="normal" if name else "bold")
    handles = [
        axes[0][0].plot([], [], linestyle="", color="#9A9A9A", marker=m, label=f"width {w}")[0]
        for w, m in zip(widths, MARKERS, strict=False)
    ]
    drawn.legend(handles=handles, loc="outside right center", frameon=False)
    names = "in brackets: steps of a draw, the integrator, the acceptance aimed at"
    drawn.supxlabel(f"{ROUGH}\n{names}", fontsize=10)
    return drawn


def slower(row: Row) -> float:
    """Effective draws a second of the slower of predictions and hidden weights."""
    return float(np.min([row[name]["ess_per_second"] for name in QUANTITIES]))


def table(rows: list[Row]) -> str:
    """A line for each sampler, its figures by width; a star where R-hat is too high."""
    rows = sorted(rows, key=lambda row: row["width"])
    names = list(dict.fromkeys((row["target"], row["sampler"]) for row in rows))
    lines = [[r for r in rows if (r["target"], r["sampler"]) == name] for name in names]

    def rates(line: list[Row], quantity: str, unit: str, times: float = 1.0) -> str:
        shown = [
            three_digits(times * row[quantity][f"ess_per_{unit}"])
            + "*" * (row[quantity]["rhat_max"] > NEARLY)
            for row in line
        ]
        return " / ".join(shown)

    columns: dict[str, Callable[[list[Row]], str]] = {
        "target": lambda line: line[0]["target"],
        "sampler": lambda line: f"`{line[0]['sampler']}`",
        "steps": lambda line: " / ".join(three_digits(row["steps"]) for row in line),
        "predictions, a 1000 gradients": lambda line: rates(line, "predictions", "gradient", 1e3),
        "hidden, a 1000 gradients": lambda line: rates(line, "hidden", "gradient", 1e3),
        "predictions, a second": lambda line: rates(line, "predictions", "second"),
        "hidden, a second": lambda line: rates(line, "hidden", "second"),
    }
    return harness.table(sorted(lines, key=lambda line: -slower(line[-1])), columns)


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "samplers", SCALES)
    jax.config.update("jax_enable_x64", True)
    record = Record(options.out)
    settings = {key: scale[key] for key in ("points", "test", "chains", "warmup", "pilot")}
    points = [
        {"width": width, "target": target, "sampler": sampler}
        | settings
        | {"gradients": scale["gradients"]}
        for width in scale["widths"]
        for target in scale["targets"]
        for sampler in SAMPLERS[target]
    ]
    rows = record.swept(measure, points, options)
    record.draw("samplers", figure(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
