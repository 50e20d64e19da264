"""Which predicts images best: infinitely wide networks, sampled ones, or ensembles of trained ones?

One hidden gelu layer, two likelihoods: a softmax, and regression on one-hot targets, as the tangent
kernel's ensemble has to. Of a regression, a class is as probable as it is to have the largest
target. The noise and the readout's scale are those of highest evidence of the limit, for all
methods. Scores are those of test labels, and ``+-`` standard errors over these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import classes
import harness
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from harness import Record, Row, Settings
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import bnnsample as bnn
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.reports.figures import legend_on_the_right

SCALES: dict[str, Settings] = {
    "smoke": {
        "points": (20,), "widths": (8,), "test": 10, "chains": 2, "warmup": 10, "draws": 10,
        "votes": 50,
    },
    "two cores": {
        "points": (64, 256), "widths": (64, 512), "test": 1000, "chains": 4, "warmup": 200,
        "draws": 200, "votes": 2000,
    },
    "paper": {
        "points": (256, 1024, 4096), "widths": (64, 512, 4096), "test": 10_000, "chains": 8,
        "warmup": 1000, "draws": 1000, "votes": 5000,
    },
}  # fmt: skip
"""``votes``: sets of targets drawn for the probabilities of a regression's classes."""

CLASSES = 10
LIKELIHOODS = ("regression", "softmax")
SAMPLED = "sampled network"
METHODS = {
    "NNGP": "#0072B2", "NTK ensemble": "#56B4E9", SAMPLED: "#D55E00", "deep ensemble": "#009E73",
    "MAP": "#CC79A7", "last-layer Laplace": "#9A9A9A",
}  # fmt: skip
"""In the order of the table, and their colours."""
INFINITE = ("NNGP", "NTK ensemble")
SCORES = {
    "error": "error (share of test images)",
    "log loss": "log loss (nats)",
    "calibration error": "calibration error (probability)",
}


def images(name: str, points: int, test: int, data_dir: Path) -> tuple[np.ndarray, ...]:
    """Training images and labels, test images and labels; images are flat."""
    if name == "CIFAR-10":
        data = bnn.load_cifar10(data_dir, train=points, test=test)
        x, x_test = (part.reshape(len(part), -1) for part in (data.x_train, data.x_test))
        labels, test_labels = (y.argmax(axis=1) for y in (data.y_train, data.y_test))
        return x.astype("f4"), labels, x_test.astype("f4"), test_labels
    arrays = classes.fashion(points, data_dir)
    assert arrays is not None
    x, labels, x_test, test_labels = classes.standardised(arrays)
    return x, labels, x_test[:test], test_labels[:test]


def posterior_of(x: np.ndarray, labels: np.ndarray, width: int, likelihood: str) -> bnn.Posterior:
    """The scale of the readout unknown, and that of the noise where there is one."""
    network = bnn.fcn(1, width, CLASSES, w_std_out=dist.LogNormal(0.0, 1.0))
    if likelihood == "softmax":
        return bnn.Posterior(network, x, labels.astype("f4"), bnn.Categorical())
    y = np.eye(CLASSES, dtype="f4")[labels] - 1 / CLASSES
    return bnn.Posterior(network, x, y, bnn.Gaussian(dist.LogNormal(-1.5, 1.0)))


def as_labels(predictive: bnn.Predictive, votes: int) -> bnn.Predictive:
    """The law of labels: of a regression, of which target of several drawn sets is the largest.

    With half a vote more for all classes together, so that none is impossible.
    """
    if predictive.of_classes:
        return predictive
    drawn = predictive.replicated(jax.random.key(0), votes).argmax(axis=-1)
    counts: Float[Array, "m c"] = jnp.sum(jax.nn.one_hot(drawn, CLASSES), axis=0)
    logits = jnp.log(counts + 0.5 / CLASSES)
    return bnn.Predictive(bnn.Categorical(), logits[None])


def scored(predictive: bnn.Predictive, labels: np.ndarray, votes: int) -> Row:
    """Error and log loss with standard errors, calibration error with its band were all right."""
    found = bnn.quality(as_labels(predictive, votes), labels.astype("f4"))
    accuracy, loss = found.scores["accuracy"], found.scores["log loss"]
    assert found.reliability is not None
    return {
        "error": 1 - accuracy.value, "error_se": accuracy.error,
        "log loss": loss.value, "log loss_se": loss.error,
        "calibration error": found.reliability.error,
        "calibration error_band": found.reliability.error_band,
        "direction": found.direction,
    }  # fmt: skip


def compared(about: Row, folder: Path, *, data_dir: Path) -> Row:
    """The scores of each method."""
    sizes = {key: about[key] for key in ("points", "test")}
    x, y, x_test, labels = images(about["data"], **sizes, data_dir=data_dir)
    posterior = at_evidence_mode(posterior_of(x, y, about["width"], about["likelihood"]))
    others = bnn.baselines(posterior, x_test)
    run = bnn.sample(
        posterior, chains=about["chains"], warmup=about["warmup"], draws=about["draws"],
        x_test=x_test, keep=("predictions",), out=folder / "run",
    )  # fmt: skip
    predictives = others | {SAMPLED: bnn.predictive_of(run, posterior)}
    scores = {name: scored(own, labels, about["votes"]) for name, own in predictives.items()}
    scores[SAMPLED]["rhat"] = bnn.convergence(run)["predictions"].rhat_max
    return {"scores": scores, "left_out": others.left_out}


def figure(rows: list[Row]) -> Figure:
    """Each score of each method, a row of panels for each data set, of most points and width."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    drawn, axes = harness.panels(len(names), len(SCORES), height=1.2 + 2.2 * len(names))
    largest = {key: max(row[key] for row in rows) for key in ("points", "width")}
    for line, name in zip(axes, names, strict=True):
        own = {
            r["likelihood"]: r for r in rows if r["data"] == name and largest.items() <= r.items()
        }
        for axis, (score, title) in zip(line, SCORES.items(), strict=True):
            for place, likelihood in enumerate(LIKELIHOODS):
                for number, method in enumerate(METHODS):
                    found = own[likelihood]["scores"].get(method)
                    if found is None:
                        continue
                    x = place + (number - (len(METHODS) - 1) / 2) * 0.13
                    look = {"color": METHODS[method], "marker": "os^vDP"[number]}
                    look |= {"linestyle": "", "label": method if place == 0 else None}
                    axis.errorbar(x, found[score], found.get(f"{score}_se"), **look)
                    if f"{score}_band" in found:
                        band = found[f"{score}_band"]
                        axis.vlines(x, *band, color=METHODS[method], linewidth=5, alpha=0.45)
            axis.set_xticks(range(len(LIKELIHOODS)), LIKELIHOODS)
            axis.set_xlim(-0.5, len(LIKELIHOODS) - 0.5)
            axis.set_ylabel(title)
        line[0].set_ylabel(f"{name}, n = {largest['points']}\n{line[0].get_ylabel()}")
    drawn.supxlabel(
        f"finite networks of width {largest['width']}; bars: ± 1 standard error over test images; "
        "pale: where 95 % of calibration errors would lie if\nthe method were as sure as it should "
        "be. The NTK ensemble is known for regression only",
        fontsize=10,
    )
    legend_on_the_right(drawn, axes[0][0])
    return drawn


def table(rows: list[Row]) -> str:
    """Error, log loss and calibration error; of methods of finite width, for each width."""
    widths = sorted({row["width"] for row in rows})
    places = dict.fromkeys((r["data"], r["points"], r["likelihood"]) for r in rows)
    known = {(r["data"], r["points"], r["likelihood"], r["width"]): r["scores"] for r in rows}

    def cell(place: Any, width: int, method: str) -> str:
        found = known[*place, width].get(method)
        if found is None:
            return ""
        error, loss, calibration = (found[score] for score in SCORES)
        return f"{error:.3f} / {loss:.2f} / {calibration:.2f}"

    columns: dict[str, Callable[[Any], Any]] = {
        "data": lambda place: place[0],
        "n": lambda place: place[1],
        "likelihood": lambda place: place[2],
    }
    for method in METHODS:
        for width in widths[:1] if method in INFINITE else widths:
            title = method if method in INFINITE else f"{method}, {width}"
            columns[title] = lambda place, w=width, m=method: cell(place, w, m)
    return harness.table(places, columns)


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "finite-vs-infinite", SCALES, data="CIFAR-10")
    harness.cifar10(options, max(scale["points"]), scale["test"])
    names = ["CIFAR-10"]
    if classes.fashion(1, options.data_dir) is not None:
        names.append("Fashion-MNIST")
    sizes = {key: scale[key] for key in ("test", "chains", "warmup", "draws", "votes")}
    points = [
        {"data": name, "points": count, "likelihood": likelihood, "width": width} | sizes
        for count, name, likelihood, width in itertools.product(
            scale["points"], names, LIKELIHOODS, scale["widths"]
        )
    ]
    record = Record(options.out)
    rows = record.swept(partial(compared, data_dir=options.data_dir), points, options)
    record.draw("finite-vs-infinite", figure(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
