"""Effective draws of several runs, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bnnsample.diagnostics.convergence import Convergence
from bnnsample.diagnostics.verdict import RHAT
from bnnsample.reports.figures import RC, legend_on_the_right

LOOKS = {
    "predictions": ("#000000", "o"),
    "hidden": ("#0072B2", "^"),
    "readout": ("#D55E00", "s"),
    "hyperparameters": ("#009E73", "D"),
}
SHORT_NAME = 28
APART = 0.16
"""Between the markers of a run, which is 1 from the next."""


def rates_figure(found: Mapping[str, dict[str, Convergence]]) -> Figure:
    """Effective draws by gradient and by second, a line of the figure for each run."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9, 1.3 + 0.45 * len(found)), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        places = np.arange(len(found))[::-1]
        for axis, rate in zip(axes, ("ess_per_gradient", "ess_per_second"), strict=True):
            for number, (quantity, (color, marker)) in enumerate(LOOKS.items()):
                look = {"color": color, "marker": marker, "linestyle": "none", "markersize": 7}
                told = [(p, f[quantity]) for p, f in zip(places, found.values(), strict=True)
                        if quantity in f]  # fmt: skip
                if told:
                    axis.plot([], [], label=quantity, **look)
                for place, figures in told:
                    height = place + (1.5 - number) * APART
                    fill = "full" if figures.rhat_max <= RHAT else "none"
                    axis.plot(getattr(figures, rate), height, fillstyle=fill, **look)
            _logarithmic(axis)
            axis.set_xlabel(f"effective draws per {rate.removeprefix('ess_per_')}")
        axes[0].set_yticks(places, [_short(name) for name in found])
        axes[0].set_ylim(-0.6, len(found) - 0.4)
        legend_on_the_right(figure, axes[0])
        return figure


def _logarithmic(axis: Axes) -> None:
    """A logarithmic x axis whose labels stand apart, over few decades and over many."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def _short(name: str) -> str:
    return name if len(name) <= SHORT_NAME else f"…{name[1 - SHORT_NAME :]}"
