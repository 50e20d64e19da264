"""Classes: where the map pays, and how well sampled networks classify.

First, effective draws a second of the predictions over points, width and readout scale, on digits:
leapfrog and rotation HMC on the weights as they are, and rotation HMC after the map that a Laplace
fit of the limit makes, without and with turns of the readout alone. Then test accuracy, log loss
and expected calibration error at 256 points, the readout's scale that of highest Laplace evidence
of the limit, beside regression on one-hot targets and scikit-learn's logistic regression.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import sklearn.datasets
from harness import Row
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

import bnnsample as bnn
from bnnsample.files import write_whole
from bnnsample.models.hyperpriors import constrained
from bnnsample.models.scales import Std
from bnnsample.provenance import environment

CASES = [(48, 512, 3.0), (256, 256, 3.0), (256, 1024, 3.0), (256, 4096, 3.0), (256, 1024, 1.0)]
"""Points, width, scale of the readout; the third is the one that the project set itself."""

SAMPLERS = {
    "standard, leapfrog": (bnn.standard, bnn.HMC(integrator="leapfrog")),
    "standard, rotation": (bnn.standard, bnn.HMC()),
    "repriorised, rotation": (bnn.repriorised, bnn.HMC()),
    "repriorised, alternating": (bnn.repriorised, bnn.AlternatingHMC()),
}
KEY = ("points", "width", "scale", "sampler", "draws")
"""What a stored row of the first table is known by."""

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


def efficiency(case: tuple[int, int, float], name: str, draws: int) -> dict[str, Any]:
    """One run, and its effective draws a second and a gradient."""
    points, width, scale = case
    x, y, x_test, _ = standardised(digits(points))
    target, sampler = SAMPLERS[name]
    run = bnn.sample(
        target(posterior_of(x, y, width, scale)), sampler, warmup=draws, draws=draws,
        x_test=x_test[:40], keep=("predictions", "projections"),
    )  # fmt: skip
    stats = {str(k): v.values for k, v in run["sample_stats"].to_dataset().items()}
    found = bnn.convergence(run)
    return {
        "points": points,
        "width": width,
        "scale": scale,
        "sampler": name,
        "draws": draws,
        "steps": float(stats["n_steps"].mean()),
        "step_size": float(stats["step_size"].mean()),
        "acceptance": float(stats["acceptance_rate"].mean()),
        "milliseconds_per_gradient": 1e3
        * run.attrs["sampling_seconds"]
        / float(stats["n_gradients"].sum()),
        "rhat": found["predictions"].rhat_max,
        **{
            f"{quantity}_ess_per_{unit}": getattr(found[quantity], f"ess_per_{unit}")
            for quantity in ("predictions", "hidden")
            for unit in ("draw", "gradient", "second")
        },
    }


def table(results: dict[str, Any]) -> str:
    """What samplers achieved, with gains over leapfrog and rotation without a map, and scores."""
    rows = results["efficiency"]

    def gain(row: Row, over: str) -> float:
        same = row | {"sampler": over}
        other = next(r for r in rows if all(r[key] == same[key] for key in KEY))
        return row["predictions_ess_per_second"] / other["predictions_ess_per_second"]

    sampling: dict[str, Callable[[Row], Any]] = {
        "points": lambda r: r["points"],
        "width": lambda r: r["width"],
        "readout scale": lambda r: f"{r['scale']:g}",
        "target, integrator": lambda r: r["sampler"],
        "steps": lambda r: f"{r['steps']:.0f}",
        "step size": lambda r: r["step_size"],
        "R-hat": lambda r: f"{r['rhat']:.3f}",
        "ESS a draw, predictions": lambda r: r["predictions_ess_per_draw"],
        "ESS a second": lambda r: r["predictions_ess_per_second"],
        "gain": lambda r: gain(r, "standard, leapfrog"),
        "over rotation": lambda r: gain(r, "standard, rotation"),
        "hidden, ESS a second": lambda r: r["hidden_ess_per_second"],
    }
    predicting: dict[str, Callable[[Row], Any]] = {
        "data": lambda r: r["data"],
        "method": lambda r: r["method"],
        "accuracy": lambda r: f"{r['accuracy']:.3f}",
        "log loss": lambda r: f"{r['log_loss']:.3f} ± {r['log_loss_error']:.3f}",
        "calibration error": lambda r: f"{r['calibration_error']:.3f}",
        "R-hat (worst prediction)": lambda r: f"{r['rhat']:.3f}" if "rhat" in r else "",
    }
    tables = harness.table(rows, sampling), harness.table(results["quality"], predicting)
    return "\n\n".join(tables)


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


def quality(data: tuple[np.ndarray, ...], width: int, draws: int) -> dict[str, dict[str, Any]]:
    """Scores of the sampled classifier, of regression on one-hot targets and of scikit-learn's."""
    x, y, x_test, labels = standardised(data)
    labels = labels.astype(int)
    settings = {"warmup": draws, "draws": draws, "x_test": x_test, "keep": ("predictions",)}
    began = time.perf_counter()
    unknown = posterior_of(x, y, width, dist.LogNormal(1.0, 1.0))
    target: Any = bnn.repriorised(unknown)
    scale, _ = constrained(unknown.hyperpriors, target.coordinates.centre)
    run = bnn.sample(unknown.given(scale), **settings)
    f = run["predictions"].to_dataset()["f"].values.reshape(-1, len(x_test), 10)
    softmax = np.mean([np.asarray(jax.nn.softmax(one, axis=-1)) for one in f], axis=0)
    found = {
        "sampled classifier": scores(softmax, labels)
        | {"scale": float(scale["w_std_out"])}
        | {"rhat": bnn.convergence(run)["predictions"].rhat_max}
        | {"seconds": time.perf_counter() - began}
    }
    began = time.perf_counter()
    one_hot = np.eye(10, dtype="f4")[y.astype(int)]
    regression = bnn.Posterior(bnn.fcn(1, width, 10), x, one_hot - 0.1, bnn.Gaussian(noise_std=0.1))
    run = bnn.sample(regression, **settings)
    f = run["predictions"].to_dataset()["y"].values.reshape(-1, len(x_test), 10)
    votes = np.mean(f.argmax(axis=-1)[..., None] == np.arange(10), axis=0)
    found["sampled regression on one-hot targets"] = scores(
        (votes * len(f) + 0.1) / (len(f) + 1), labels
    ) | {"rhat": bnn.convergence(run)["predictions"].rhat_max} | {
        "seconds": time.perf_counter() - began
    }  # fmt: skip
    penalties = {"C": np.logspace(-5, 1, 13)}
    search = GridSearchCV(
        LogisticRegression(max_iter=5000), penalties, scoring="neg_log_loss", cv=StratifiedKFold(5)
    )
    logistic = search.fit(x, y)
    probabilities = np.zeros((len(labels), 10))
    probabilities[:, logistic.classes_.astype(int)] = logistic.predict_proba(x_test)
    found["logistic regression (scikit-learn, cross-validated)"] = scores(probabilities, labels)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir", type=Path, default=harness.data_folder(), help="of Fashion-MNIST"
    )
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--width", type=int, default=1024, help="for accuracy")
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--out", type=Path, default=Path("results/classes"))
    options = parser.parse_args()
    cases, points = CASES, 256
    if options.smoke:
        cases, points = [(20, 8, 3.0)], 30
        options.draws, options.width = 10, 8
    sets = {"digits": digits(points), "Fashion-MNIST": fashion(points, options.data_dir)}
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "record.json"
    results: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    rows, tables = results.setdefault("efficiency", []), results.setdefault("quality", [])
    known = {tuple(row[key] for key in KEY) for row in rows}
    for case in cases:
        for name in SAMPLERS:
            if (*case, name, options.draws) not in known:
                rows.append(efficiency(case, name, options.draws))
                write_whole(record, json.dumps(results | environment(), indent=1) + "\n")
                print(json.dumps(rows[-1]), flush=True)
    for name, data in sets.items():
        about = {"data": name, "points": points, "width": options.width, "draws": options.draws}
        if data is None or any(about.items() <= row.items() for row in tables):
            continue
        for method, row in quality(data, options.width, options.draws).items():
            tables.append(about | {"method": method} | row)
            print(json.dumps(tables[-1]), flush=True)
        write_whole(record, json.dumps(results | environment(), indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
