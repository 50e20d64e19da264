"""The library beside its peers: the same data, time on the clock and predictions.

Chains of one posterior of a one-hidden-layer gelu network: ours, NumPyro's NUTS, blackjax's NUTS
and its microcanonical sampler, the last three on the weights as they are. Beside them what has no
chains of it: a deep ensemble, last-layer Laplace and, where there is one, the Bayesian deep
ensemble of sklearn-contrib-bde, whose priors and noise are its own. Every peer has its own warm-up
and defaults. Seconds count from the first line to the last draw, compilation and warm-up included.
Two problems: diabetes (n = 300), noise and scales those of highest evidence of the limit, and
digits (n = 64), ten outputs and noise_std 0.1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float
from peer_chains import MAKERS, Made

sys.path.append(str(Path(__file__).parents[1]))
import harness
from harness import Row, three_digits

import bnnsample as bnn
from bnnsample.diagnostics.baselines.deep_ensemble import deep_ensemble
from bnnsample.diagnostics.baselines.evidence_mode import at_evidence_mode
from bnnsample.diagnostics.baselines.last_layer_laplace import last_layer_laplace
from bnnsample.files import write_whole
from bnnsample.provenance import environment

GRACE = 60.0
"""Seconds over the budget after which a peer is stopped that has no draws yet."""
PREFIXES = 40
CONVERGED = 1.01
ENSEMBLES = {"deep ensemble": deep_ensemble, "last-layer Laplace": last_layer_laplace}
BDE = "sklearn-contrib-bde"
BDE_SETTINGS = {"epochs": 200, "warmup": 5000, "samples": 2000}
"""What its documentation shows; with more samples where there is time."""
MOST_SAMPLES = 200_000
"""Of these: with 280 000 it takes all of 24 GiB."""


def diabetes(width: int) -> tuple[bnn.Posterior, np.ndarray, np.ndarray]:
    """The posterior at fitted scales, and test inputs and targets, all standardised."""
    data = bnn.load("diabetes", train=300, test=100)
    network = bnn.fcn(1, width, 1, w_std=dist.LogNormal(0.35, 0.5), w_std_out=dist.LogNormal(0, 1))
    noise = bnn.Gaussian(dist.LogNormal(-1.0, 1.0))
    unknown = bnn.Posterior(network, data.x_train, data.y_train, noise)
    return at_evidence_mode(unknown), data.x_test, data.y_test


def digits(width: int) -> tuple[bnn.Posterior, np.ndarray, np.ndarray]:
    """Regression on ten one-hot targets with little noise, where the data say most."""
    data = bnn.load("digits", train=64, test=20)
    posterior = bnn.Posterior(bnn.fcn(1, width, 10), data.x_train, data.y_train, bnn.Gaussian(0.1))
    return posterior, data.x_test, data.y_test


PROBLEMS = {"diabetes": diabetes, "digits": digits}


def of_chains(made: Made, posterior: bnn.Posterior, y_test: np.ndarray) -> Row:
    """ESS a second, log predictive density, R-hat, and when that was below 1.01 and stayed so."""
    if not made.blocks:
        return {"failed": f"no draw: compilation and warm-up took {made.seconds:.0f} s"}
    f, seconds = made.draws, made.stamps[-1][1]
    found = bnn.summarise(f)
    components = jnp.asarray(f.reshape(-1, *f.shape[2:]))
    predictive = made.predictive or bnn.Predictive(posterior.likelihood, components)
    return {
        "draws": f.shape[1],
        "fit_seconds": seconds,
        "ess_per_second": float(np.median(found.ess_bulk)) / seconds,
        "rhat": float(found.rhat.max()),
        "seconds_to_rhat": time_to_converge(f, made.stamps),
    } | density(predictive, y_test)


def time_to_converge(
    f: Float[np.ndarray, "chain draw m o"], stamps: list[tuple[int, float]]
) -> float | None:
    """Seconds after which the worst R-hat of all draws so far stays below 1.01, None for never."""
    counts = np.unique(np.linspace(8, f.shape[1], PREFIXES).astype(int))
    rhats = np.array([bnn.summarise(f[:, :count]).rhat.max() for count in counts])
    if not rhats[-1] < CONVERGED:
        return None
    bad = np.flatnonzero(~(rhats < CONVERGED))
    first = counts[bad[-1] + 1] if len(bad) else counts[0]
    done, seconds = np.array(stamps).T
    return float(seconds[np.searchsorted(done, first)])


def density(predictive: bnn.Predictive, y_test: np.ndarray) -> Row:
    """The mean log predictive density of standardised test targets, and its standard error."""
    score = bnn.quality(predictive, y_test).scores["log density"]
    return {"log_density": score.value, "log_density_error": score.error}


def one(name: str, data: str, width: int, budget: float) -> Row:
    """What one method of this environment does, in this process."""
    posterior, x_test, y_test = PROBLEMS[data](width)
    if name in MAKERS:
        return of_chains(MAKERS[name](posterior, x_test, budget), posterior, y_test)
    began = time.perf_counter()
    predictive = jax.block_until_ready(ENSEMBLES[name](posterior, x_test))
    return {"fit_seconds": time.perf_counter() - began} | density(predictive, y_test)


def apart(about: Row) -> Row:
    """The same in a process of its own, which is stopped where it has nothing in time."""
    longest = about["budget"] + GRACE
    command = [sys.executable, __file__, "--one", about["method"], "--data", about["data"]]
    command += ["--widths", str(about["width"]), "--budget", str(about["budget"])]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True, timeout=longest
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no draw: compilation and warm-up take over {longest:.0f} s"}
    return json.loads(done.stdout.splitlines()[-1])


def ensemble_of_bde(about: Row, folder: Path, python: str) -> Row:
    """sklearn-contrib-bde in its own environment, with as many samples as there is time for.

    Its chains are of another posterior; how long it takes is known for the whole fit only.
    """
    posterior, x_test, y_test = PROBLEMS[about["data"]](about["width"])
    given, out = folder / "data.npz", folder / "predictions.npz"
    np.savez(given, x=posterior.x, y=posterior.y, x_test=x_test)

    def fitted(samples: int) -> tuple[Any, float]:
        settings = BDE_SETTINGS | {"samples": samples}
        script = Path(__file__).parent / "peer_bde.py"
        command = [python, script, given, out, str(about["width"]), *map(str, settings.values())]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        arrays = np.load(out)
        return arrays, float(arrays["seconds"])

    budget, few, more = about["budget"], BDE_SETTINGS["samples"], 2 * BDE_SETTINGS["samples"]
    found, seconds = fitted(few)
    if seconds < budget / 2:
        pace = max(fitted(more)[1] - seconds, 0.01 * seconds) / (more - few)
        found, seconds = fitted(min(few + int(0.9 * (budget - seconds) / pace), MOST_SAMPLES))
    mean, std = found["mean"].astype(float), found["std"].astype(float)
    chains = bnn.summarise(mean)
    outputs = np.stack([mean, 2 * np.log(std)], axis=-1).reshape(-1, len(x_test), 2)
    law = bnn.Predictive(bnn.HeteroscedasticGaussian(), jnp.asarray(outputs))
    rhat = float(chains.rhat.max())
    return {
        "draws": mean.shape[1],
        "fit_seconds": seconds,
        "ess_per_second": float(np.median(chains.ess_bulk)) / seconds,
        "rhat": rhat,
        "seconds_to_rhat": seconds if rhat < CONVERGED else None,
    } | density(law, y_test)


def measure(about: Row, folder: Path, *, bde: str | None) -> Row:
    """What one method does."""
    if bde is not None and about["method"] == BDE:
        return ensemble_of_bde(about, folder, bde)
    return apart(about)


def table(rows: list[Row]) -> str:
    """What each method reached within its time."""

    def of(key: str, show: Callable[[Any], str]) -> Callable[[Row], str]:
        return lambda row: "" if row.get(key) is None else show(row[key])

    def reached(row: Row) -> str:
        found = row.get("seconds_to_rhat")
        return three_digits(found) if found is not None else "never" if "draws" in row else ""

    columns: dict[str, Callable[[Row], Any]] = {
        "data": lambda row: row["data"],
        "width": lambda row: row["width"],
        "method": lambda row: row["method"],
        "draws a chain": lambda row: row.get("failed") or row.get("draws", ""),
        "seconds": of("fit_seconds", three_digits),
        "ESS a second": of("ess_per_second", three_digits),
        "R-hat": of("rhat", "{:.4f}".format),
        "seconds until R-hat stays below 1.01": reached,
        "log predictive density": lambda row: (
            f"{row['log_density']:.3f} ± {row['log_density_error']:.3f}"
            if "log_density" in row
            else ""
        ),
    }
    return harness.table(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=list(PROBLEMS), default=list(PROBLEMS))
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--budget", type=float, default=120.0, help="seconds for each")
    parser.add_argument("--bde", help=f"the Python of an environment with {BDE}")
    parser.add_argument("--smoke", action="store_true", help="a tiny size, for the tests")
    parser.add_argument("--out", type=Path, default=Path("results/peers"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if options.one:
        print(json.dumps(one(options.one, options.data[0], options.widths[0], options.budget)))
        return
    if options.smoke:
        options.data, options.widths, options.budget = ["diabetes"], [4], 5.0
    points = [
        {"data": data, "width": width, "method": name, "budget": options.budget}
        for data, width in product(options.data, options.widths)
        for name in (*MAKERS, *ENSEMBLES, *([BDE] if options.bde and data != "digits" else []))
    ]
    stored: list[Row] = []

    def store(row: Row) -> None:
        stored.append(row)
        text = json.dumps({"rows": stored, **environment()}, indent=1)
        write_whole(options.out / "record.json", text + "\n")
        print(json.dumps(row), flush=True)

    # one after another, so that each has the machine alone
    one_of = partial(measure, bde=options.bde)
    try:
        bnn.sweep(one_of, points, options.out / "points", workers=0, on_row=store)
    except bnn.PointsFailed as error:
        raise SystemExit(f"error: {error}") from None
    finally:
        print(table(stored))


if __name__ == "__main__":
    main()
