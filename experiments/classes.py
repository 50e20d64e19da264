"""Classes: where the map pays, and how well sampled networks classify.

First, effective draws a second of the predictions over points, width and readout scale, on digits:
leapfrog and rotation HMC on the weights as they are, and rotation HMC after the map that a Laplace
fit of the limit makes, without and with turns of the readout alone. Then test accuracy, log loss
and expected calibration error at 256 points, the readout's scale that of highest Laplace evidence
of the limit, beside regression on one-hot targets and scikit-learn's logistic regression.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import sklearn.datasets
from harness import Record, Row, Settings
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import bnnsample as bnn
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.scales import Std

CASES = [(48, 512, 3.0), (256, 256, 3.0), (256, 1024, 3.0), (256, 4096, 3.0), (256, 1024, 1.0)]
"""Points, width, scale of the readout; the third is the one that the project set itself."""

SAMPLERS = {
    "standard, leapfrog": (bnn.standard, bnn.HMC(integrator="leapfrog")),
    "standard, rotation": (bnn.standard, bnn.HMC()),
    "repriorised, rotation": (bnn.repriorised, bnn.HMC()),
    "repriorised, alternating": (bnn.repriorised, bnn.AlternatingHMC()),
}
CASE = ("points", "width", "scale")
SCALES: dict[str, Settings] = {
    "smoke": {"draws": 10, "points": 30, "width": 8},
    "two cores": {"draws": 300, "points": 256, "width": 1024},
    "paper": {"draws": 1000, "points": 4096, "width": 4096},
}
"""``points`` and ``width`` of the scores; those of the efficiency are in ``CASES``."""

TEST = 1000


def digits(train: int) -> tuple[np.ndarray, ...]:
    """Images (n, 64) and labels of training and test, shuffled with one seed."""
    bundle: Any = sklearn.datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(bundle.data))
    x, y = bundle.data[order], bundle.target[order]
    return x[:train], y[:train], x[-TEST:], y[-TEST:]


def fashion(train: int, folder: Path) -> tuple[np.ndarray, ...] | None:
    """The first images of Fashion-MNIST (n, 784), None where the folder has none."""
    path = folder / "fashion_mnist_subset.npz"
    if not path.is_file():
        return None
    arrays = np.load(path)
    x, x_test = (arrays[name].reshape(-1, 784) / 255.0 for name in ("x_train", "x_test"))
    if train > len(x):
        sys.exit(f"error: {path}: got {len(x)} training images; expected {train}; probably fewer "
                 "points were meant")  # fmt: skip
    return x[:train], arrays["y_train"][:train], x_test[:TEST], arrays["y_test"][:TEST]


def standardised(data: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Pixels by the mean and standard deviation of the training images, all in float32."""
    x, y, x_test, y_test = data
    mean, std = x.mean(), x.std()
    return ((x - mean) / std).astype("f4"), y, ((x_test - mean) / std).astype("f4"), y_test


def posterior_of(x: np.ndarray, y: np.ndarray, width: int, scale: Std) -> bnn.Posterior:
    """One hidden layer, gelu, and a softmax over ten classes."""
    network = bnn.fcn(1, width, 10, w_std_out=scale)
    return bnn.Posterior(network, x, y.astype("f4"), bnn.Categorical())


def efficiency(about: Row, folder: Path) -> Row:
    """Of one run."""
    x, y, x_test, _ = standardised(digits(about["points"]))
    target, sampler = SAMPLERS[about["sampler"]]
    run = bnn.sample(
        target(posterior_of(x, y, about["width"], about["scale"])), sampler,
        warmup=about["draws"], draws=about["draws"], x_test=x_test[:40],
        keep=("predictions", "projections"), out=folder / "run",
    )  # fmt: skip
    return harness.efficiency(run)


def table(rows: list[Row]) -> str:
    """What samplers achieved, with gains over leapfrog and rotation without a map, and scores."""
    runs = [row for row in rows if "sampler" in row]
    known = {(*(run[key] for key in CASE), run["sampler"]): run for run in runs}
    lines = [
        {"data": row["data"], "method": method} | found
        for row in rows
        if "scores" in row
        for method, found in row["scores"].items()
    ]

    def gain(run: Row, over: str) -> float:
        other = known[*(run[key] for key in CASE), over]
        return run["predictions"]["ess_per_second"] / other["predictions"]["ess_per_second"]

    sampling: dict[str, Callable[[Row], Any]] = {
        "points": lambda r: r["points"],
        "width": lambda r: r["width"],
        "readout scale": lambda r: f"{r['scale']:g}",
        "target, integrator": lambda r: r["sampler"],
        "steps": lambda r: f"{r['steps']:.0f}",
        "step size": lambda r: r["step_size"],
        "R-hat": lambda r: f"{r['predictions']['rhat_max']:.3f}",
        "ESS a draw, predictions": lambda r: r["predictions"]["ess_per_draw"],
        "ESS a second": lambda r: r["predictions"]["ess_per_second"],
        "gain": lambda r: gain(r, "standard, leapfrog"),
        "over rotation": lambda r: gain(r, "standard, rotation"),
        "hidden, ESS a second": lambda r: r["hidden"]["ess_per_second"],
    }
    predicting: dict[str, Callable[[Row], Any]] = {
        "data": lambda r: r["data"],
        "method": lambda r: r["method"],
        "accuracy": lambda r: f"{r['accuracy']:.3f}",
        "log loss": lambda r: f"{r['log_loss']:.3f} ± {r['log_loss_error']:.3f}",
        "calibration error": lambda r: f"{r['calibration_error']:.3f}",
        "R-hat (worst prediction)": lambda r: f"{r['rhat']:.3f}" if "rhat" in r else "",
    }
    return f"{harness.table(runs, sampling)}\n\n{harness.table(lines, predicting)}"


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, log loss and expected calibration error of predictive ``probabilities`` (m, c)."""
    logits = jnp.log(jnp.clip(probabilities, 1e-12))
    found = bnn.quality(bnn.Predictive(bnn.Categorical(), logits[None]), labels)
    loss = found.scores["log loss"]
    assert found.reliability is not None
    return {
        "accuracy": found.scores["accuracy"].value,
        "log_loss": loss.value,
        "log_loss_error": loss.error,
        "calibration_error": found.reliability.error,
    }


def quality(data: tuple[np.ndarray, ...], width: int, draws: int, folder: Path) -> dict[str, Row]:
    """Scores of the sampled classifier, of regression on one-hot targets and of scikit-learn's."""
    x, y, x_test, labels = standardised(data)
    labels = labels.astype(int)
    settings = {"warmup": draws, "draws": draws, "x_test": x_test, "keep": ("predictions",)}
    unknown = posterior_of(x, y, width, dist.LogNormal(1.0, 1.0))
    target: Any = bnn.repriorised(unknown)
    scale, _ = constrained(unknown.hyperpriors, target.coordinates.centre)
    run = bnn.sample(unknown.given(scale), **settings, out=folder / "classifier")
    f = run["predictions"].to_dataset()["f"].values.reshape(-1, len(x_test), 10)
    softmax = np.mean([np.asarray(jax.nn.softmax(one, axis=-1)) for one in f], axis=0)
    rhat = bnn.convergence(run)["predictions"].rhat_max
    classifier = scores(softmax, labels) | {"scale": float(scale["w_std_out"]), "rhat": rhat}
    one_hot = np.eye(10, dtype="f4")[y.astype(int)]
    regression = bnn.Posterior(bnn.fcn(1, width, 10), x, one_hot - 0.1, bnn.Gaussian(noise_std=0.1))
    run = bnn.sample(regression, **settings, out=folder / "regression")
    f = run["predictions"].to_dataset()["y"].values.reshape(-1, len(x_test), 10)
    votes = np.mean(f.argmax(axis=-1)[..., None] == np.arange(10), axis=0)
    shares = (votes * len(f) + 0.1) / (len(f) + 1)
    rhat = bnn.convergence(run)["predictions"].rhat_max
    return {
        "sampled classifier": classifier,
        "sampled regression on one-hot targets": scores(shares, labels) | {"rhat": rhat},
        "logistic regression": logistic(x, y, x_test, labels),
    }


def logistic(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, labels: np.ndarray) -> Row:
    """Scores of scikit-learn's logistic regression, its penalty cross-validated by log loss."""
    penalties = {"C": np.logspace(-5, 1, 13)}
    search = GridSearchCV(
        LogisticRegression(max_iter=5000), penalties, scoring="neg_log_loss", cv=StratifiedKFold(5)
    )
    fitted = search.fit(x, y)
    probabilities = np.zeros((len(labels), 10))
    probabilities[:, fitted.classes_.astype(int)] = fitted.predict_proba(x_test)
    return scores(probabilities, labels)


def measure(about: Row, folder: Path, *, data_dir: Path) -> Row:
    """The efficiency of a sampler, or scores on a data set."""
    if "sampler" in about:
        return efficiency(about, folder)
    points = about["points"]
    data = digits(points) if about["data"] == "digits" else fashion(points, data_dir)
    assert data is not None
    return {"scores": quality(data, about["width"], about["draws"], folder)}


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "classes", SCALES, data="Fashion-MNIST")
    cases = [(20, 8, 3.0)] if options.smoke else CASES
    points = [
        dict(zip(CASE, case, strict=True)) | {"sampler": name, "draws": scale["draws"]}
        for case in cases
        for name in SAMPLERS
    ]
    there = fashion(scale["points"], options.data_dir) is not None
    points += [{"data": name} | scale for name in ("digits", *["Fashion-MNIST"] * there)]
    record = Record(options.out)
    print(table(record.swept(partial(measure, data_dir=options.data_dir), points, options)))


if __name__ == "__main__":
    main()
