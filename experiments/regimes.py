"""Where does the map stop helping? Points over width, noise, depth, and the scale of the prior.

One setting at a time is moved from n = 64, width 256, noise_std 0.1, one hidden gelu layer, hidden
w_std sqrt(2), w_std_out 1. Shown is the ratio of effective draws of the marginal and the
repriorised target, by rotation HMC, to those of the weights as they are, by leapfrog HMC, each of
tuned length. Digits. The standard target makes a third of the draws, as its trajectories are long.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import harness
import jax
from harness import Record, Row, Settings
from matplotlib.figure import Figure

import bnnsample as bnn
from bnnsample.diagnostics.verdict import NEARLY
from bnnsample.reports.figures import STYLE, legend_on_the_right, line
from bnnsample.reports.settings import FEWER, SAMPLERS
from bnnsample.repriorisation.targets import TARGETS

BASE: Row = {
    "points": 64, "width": 256, "noise_std": 0.1, "depth": 1, "w_std": 2**0.5, "w_std_out": 1.0,
}  # fmt: skip
SCALES: dict[str, Settings] = {
    "smoke": {
        "points": (8,), "width": (4,), "noise_std": (0.1,), "depth": (1,), "w_std": (2**0.5,),
        "w_std_out": (1.0,), "test": 4, "chains": 2, "warmup": 10, "draws": 12,
    },
    "two cores": {
        "points": (8, 16, 32, 128, 256, 512), "width": (16, 32, 64, 128, 512, 1024),
        "noise_std": (0.01, 0.03, 0.3, 1.0, 3.0), "depth": (2, 3, 5, 8),
        "w_std": (0.3, 0.7, 2.5, 5.0), "w_std_out": (0.1, 0.3, 3.0, 10.0),
        "test": 20, "chains": 4, "warmup": 150, "draws": 300,
    },
    "paper": {
        "points": (8, 16, 32, 128, 256, 512, 1024), "width": (16, 32, 64, 128, 512, 1024, 4096),
        "noise_std": (0.001, 0.01, 0.03, 0.3, 1.0, 3.0), "depth": (2, 3, 5, 8, 16),
        "w_std": (0.3, 0.7, 2.5, 5.0), "w_std_out": (0.1, 0.3, 3.0, 10.0),
        "test": 100, "chains": 16, "warmup": 1000, "draws": 3000,
    },
}  # fmt: skip
NAMES = {
    "points": "training points n", "width": "width (hidden units)", "noise_std": "noise std",
    "depth": "hidden layers", "w_std": "w_std of hidden layers", "w_std_out": "w_std of readout",
}  # fmt: skip


def cases(scale: Settings, base: Row) -> Iterator[tuple[str, Row]]:
    """The setting that is moved, and all settings: the values of the scale beside that of BASE."""
    for name in BASE:
        for value in sorted({base[name], *scale[name]}):
            yield name, base | {name: value}


def sampled(about: Row, folder: Path) -> Row:
    """One run, and what it achieved."""
    data, target = bnn.load("digits", train=about["points"], test=about["test"]), about["target"]
    network = bnn.fcn(
        about["depth"], about["width"], data.y_train.shape[1],
        w_std=about["w_std"], w_std_out=about["w_std_out"],
    )  # fmt: skip
    likelihood = bnn.Gaussian(about["noise_std"])
    posterior = bnn.Posterior(network, data.x_train, data.y_train, likelihood)
    run = bnn.sample(
        TARGETS[target](posterior), SAMPLERS[target], chains=about["chains"],
        warmup=about["warmup"], draws=about["draws"], x_test=data.x_test,
        keep=("predictions", "projections"), out=folder / "run",
    )  # fmt: skip
    return harness.efficiency(run)


def ratio(runs: Row, target: str, rate: str, quantity: str = "predictions") -> float:
    """The effective draws of a target over those of the standard one."""
    return runs[target][quantity][rate] / runs["standard"][quantity][rate]


def rhat(runs: Row, *targets: str) -> float:
    """The worst of the predictions'."""
    return max(runs[target]["predictions"]["rhat_max"] for target in targets)


def figure(found: list[tuple[str, Row, Row]]) -> Figure:
    """Ratios to the standard target by gradient, a panel for each setting that is moved."""
    drawn, axes = harness.panels(2, 3, height=5.8, sharey=True)
    drawn.set_layout_engine("constrained", w_pad=0.12)
    for axis, (name, title) in zip(axes.ravel(), NAMES.items(), strict=True):
        own = [(case[name], runs) for moved, case, runs in found if moved == name]
        values = [value for value, _ in own]
        for target in ("repriorised", "marginal"):
            rough = [rhat(runs, "standard", target) > NEARLY for _, runs in own]
            ratios = [ratio(runs, target, "ess_per_gradient") for _, runs in own]
            line(axis, values, ratios, rough, label=target, **STYLE[target])
        axis.axhline(1, color=STYLE["standard"]["color"], linestyle=":", label="standard")
        axis.axvline(BASE[name], color="#9A9A9A", linewidth=0.8, label="value in other panels")
        axis.set_xlabel(title)
        axis.set_yscale("log")
        harness.logarithmic(axis, values[::2])
        axis.yaxis.set_major_formatter("{x:g}")
    for row in axes:
        row[0].set_ylabel("predictions: ESS per gradient,\nover the standard target's")
    drawn.supxlabel(f"open markers: R-hat above {NEARLY:g}, before the map or after", fontsize=10)
    legend_on_the_right(drawn, axes[0][0])
    return drawn


def table(found: list[tuple[str, Row, Row]]) -> str:
    """The setting that was moved, ratios to the standard target by gradient, and R-hats."""

    def gain(target: str, quantity: str) -> Callable[[Any], float]:
        return lambda case: ratio(case[2], target, "ess_per_gradient", quantity)

    columns: dict[str, Callable[[Any], Any]] = {
        "moved": lambda case: NAMES[case[0]],
        "to": lambda case: f"{case[1][case[0]]:.4g}",
        "predictions: repriorised": gain("repriorised", "predictions"),
        "predictions: marginal": gain("marginal", "predictions"),
        "hidden weights: repriorised": gain("repriorised", "hidden"),
        "hidden weights: marginal": gain("marginal", "hidden"),
        "R-hat of predictions, standard": lambda case: f"{rhat(case[2], 'standard'):.2f}",
        "largest of the others": lambda case: f"{rhat(case[2], 'repriorised', 'marginal'):.2f}",
    }
    return harness.table(found, columns)


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "regimes", SCALES)
    jax.config.update("jax_enable_x64", True)
    record = Record(options.out)
    base = {name: scale[name][0] for name in BASE} if options.smoke else BASE
    settings = {key: scale[key] for key in ("test", "chains", "warmup", "draws")}
    moved = list(cases(scale, base))
    draws = {target: scale["draws"] // (FEWER if target == "standard" else 1) for target in TARGETS}
    points = [
        case | {"target": target} | settings | {"draws": draws[target]}
        for _, case in moved
        for target in TARGETS
    ]
    rows = record.swept(sampled, points, options)
    found = [
        (name, case, dict(zip(TARGETS, runs, strict=True)))
        for (name, case), runs in zip(moved, itertools.batched(rows, len(TARGETS)), strict=True)
    ]
    record.draw("regimes", figure(found))
    print(table(found))


if __name__ == "__main__":
    main()
