"""How well do sampled networks predict tables of data, beside MC dropout and their own limit?

The UCI sets and standard splits of Hernandez-Lobato and Adams 2015 (1502.05336). Noise, scales of
biases and readout, and one scale for each input (automatic relevance determination) are unknown and
sampled; the readout is integrated out. Root mean square error and log predictive density are in the
units of the targets. Rows are stored as they come: a run that was stopped goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from harness import Record, Row, Settings
from jax.tree_util import Partial
from jaxtyping import Float
from scipy.special import logsumexp
from scipy.stats import norm
from threadpoolctl import threadpool_limits
from uci_results import figure, table

import bnnsample as bnn
from bnnsample.limits.conditioned import conditioned
from bnnsample.models.hyperpriors import constrained

FILES = {
    "boston": "bostonHousing",
    "concrete": "concrete",
    "energy": "energy",
    "wine": "wine-quality-red",
    "yacht": "yacht",
    "kin8nm": "kin8nm",
    "naval": "naval-propulsion-plant",
    "power": "power-plant",
    "protein": "protein-tertiary-structure",
}
LARGE = ("kin8nm", "naval", "power", "protein")
"""Of 8 000 points and more, where a split takes from half an hour to hours."""
LARGEST = "protein"
"""Of 46 000 points."""

SCALES: dict[str, Settings] = {
    "smoke": {
        "sets": ("boston",), "splits": 1, "large_splits": 1, "width": 8, "depth": 1, "chains": 2,
        "warmup": 10, "draws": 10, "largest_warmup": 10, "largest_draws": 10,
    },
    "two cores": {
        "sets": tuple(FILES), "splits": 20, "large_splits": 1, "width": 256, "depth": 1,
        "chains": 2, "warmup": 150, "draws": 100, "largest_warmup": 75, "largest_draws": 50,
    },
    "paper": {
        "sets": tuple(FILES), "splits": 20, "large_splits": 20, "width": 2048, "depth": 1,
        "chains": 4, "warmup": 1000, "draws": 1000, "largest_warmup": 1000, "largest_draws": 1000,
    },
}  # fmt: skip
"""Of ``splits`` the first of the standard ones, ``large_splits`` for the large sets;
``largest_warmup`` and ``largest_draws`` are of the largest; ``depth`` counts hidden layers."""

NNGP_POINTS = 8_000
"""Training points at most that the limit's predictions are from; of more, so many at random."""

USUAL, SMOOTH = "erf", "sin"
LITTLE_NOISE = 0.1
"""Noise, as a share of the targets' standard deviation, up to which the smooth activation is taken:
the steep units of the usual one then allow tiny steps only."""


def splits(points: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of training and test points of the standard splits."""
    generator = np.random.RandomState(1)
    for _ in range(count):
        order = generator.choice(range(points), points, replace=False)
        train = round(0.9 * points)
        yield order[:train], order[train:]


def standardised(values: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``values`` by mean and standard deviation of the training points, and the latter."""
    constant = np.ptp(values[train], axis=0) == 0  # as two columns of naval are
    std = np.where(constant, 1.0, values[train].std(axis=0))
    return (values - values[train].mean(axis=0)) / std, std


def posterior_of(
    x: np.ndarray, y: np.ndarray, depth: int, width: int, activation: str
) -> bnn.Posterior:
    """Noise, biases, readout and the relevance of each input unknown; one prior for all sets."""
    network = bnn.fcn(
        depth,
        width,
        1,
        activation,
        w_std=1.5,
        b_std=dist.LogNormal(-1.0, 0.3),
        w_std_out=dist.LogNormal(0.0, 1.0),
        b_std_out=0.3,
    )
    relevance = bnn.Scale(dist.LogNormal(np.zeros(x.shape[1]), 0.5))
    noise = bnn.Gaussian(dist.LogNormal(-1.5, 1.0))
    return bnn.Posterior(bnn.Network([relevance, *network.layers]), x, y, noise)


def smooth_enough(
    x: np.ndarray, y: np.ndarray, about: Row
) -> tuple[str, Any, dict[str, jax.Array]]:
    """The activation, its marginal target, and the hyperparameters of highest evidence."""

    def fitted(activation: str) -> tuple[str, Any, dict[str, jax.Array]]:
        posterior = posterior_of(x, y, about["depth"], about["width"], activation)
        target: Any = bnn.marginal(posterior)
        values, _ = constrained(posterior.hyperpriors, target.coordinates.centre)
        return activation, target, values

    usual = fitted(USUAL)
    return usual if usual[-1]["noise_std"] > LITTLE_NOISE else fitted(SMOOTH)


def scores(mean: np.ndarray, std: np.ndarray, y: np.ndarray, unit: float) -> tuple[float, float]:
    """Root mean square error and mean log density of mixtures of ``mean``, ``std`` (draws, m)."""
    densities = logsumexp(norm.logpdf(y[None], mean, std), axis=0) - np.log(len(mean))
    error = np.sqrt(np.mean((mean.mean(axis=0) - y) ** 2))
    return float(unit * error), float(densities.mean() - np.log(unit))


def measure(about: Row, folder: Path, *, data_dir: Path) -> Row:
    """One split: the sampled network, and its limit at the hyperparameters of highest evidence."""
    x, y = load(data_dir, about["name"])
    *_, (train, test) = splits(len(x), about["split"] + 1)
    if about["smoke"]:
        train, test = train[:30], test[:5]
    with threadpool_limits(1, user_api="blas"):
        return measured(x, y, train, test, about, folder)


def limit_at(
    posterior: bnn.Posterior, x_test: np.ndarray
) -> tuple[Float[np.ndarray, "1 m"], Float[np.ndarray, "1 m"]]:
    """Mean and standard deviation, noise included, of the infinitely wide network's targets."""
    network, likelihood = posterior.network, posterior.likelihood
    rows = np.random.default_rng(0).permutation(len(posterior.x))[:NNGP_POINTS]
    known = bnn.Posterior(network, posterior.x[rows], posterior.y[rows], likelihood)
    given = conditioned(known, Partial(bnn.nngp, network))
    mean, variance = given.marginals(jnp.asarray(x_test))
    noise_std = float(likelihood.noise_std)  # pyright: ignore[reportAttributeAccessIssue]
    return np.asarray(mean).T, np.sqrt(np.asarray(variance) + noise_std**2).T


def measured(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, about: Row, folder: Path
) -> Row:
    """Fit, sample, and score on the test points."""
    began = time.perf_counter()
    (x, _), (y, unit) = standardised(x, train), standardised(y, train)
    activation, target, values = smooth_enough(x[train], y[train], about)
    posterior = target.posterior
    fitted = time.perf_counter() - began
    nngp = scores(*limit_at(posterior.given(values), x[test]), y[test], float(unit))
    run = bnn.sample(
        target, bnn.HMC(), chains=about["chains"], warmup=about["warmup"], draws=about["draws"],
        x_test=x[test], keep=("predictions", "projections"), out=folder / "run",
    )  # fmt: skip
    draws, stats = (
        {str(name): array.values for name, array in run[group].to_dataset().items()}
        for group in ("predictions", "sample_stats")
    )
    noise_std = run["posterior"].to_dataset()["noise_std"].values[..., None, None]
    means = draws["f_mean"].reshape(-1, len(test))
    stds = np.sqrt(draws["f_std"] ** 2 + noise_std**2).reshape(-1, len(test))
    found = bnn.convergence(run)
    return {
        "activation": activation,
        "bnn": scores(means, stds, y[test], float(unit)),
        "nngp": nngp,
        "noise_std": float(unit * noise_std.mean()),
        "rhat": found["predictions"].rhat_max,
        "rhat_hyperparameters": found["hyperparameters"].rhat_max,
        "ess": found["predictions"].ess_bulk,
        "step_size": float(stats["step_size"].mean()),
        "acceptance": float(stats["acceptance_rate"].mean()),
        "steps": float(stats["n_steps"].mean()),
        "fit_seconds": fitted,
    }


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, d) and targets (n,) of a set, or a clear end where there is none."""
    path = folder / f"{FILES[name]}.npz"
    if not path.is_file():
        sys.exit(
            f"error: UCI folder: got {folder}, which has no {path.name}; expected arrays x and y "
            "of each set; probably --data-dir or $BNNSAMPLE_DATA names another folder"
        )
    arrays = np.load(path)
    return arrays["x"], arrays["y"].ravel()


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "uci", SCALES, data="a folder uci of the sets")
    jax.config.update("jax_enable_x64", True)
    folder = options.data_dir / "uci"
    for name in scale["sets"]:
        load(folder, name)
    settings = {key: scale[key] for key in ("width", "depth", "chains")}
    usual, largest = (
        {key: scale[size + key] for key in ("warmup", "draws")} for size in ("", "largest_")
    )
    points = [
        {"name": name, "split": split}
        | settings
        | (largest if name == LARGEST else usual)
        | {"smoke": options.smoke}
        for split in range(scale["splits"])
        for name in scale["sets"]
        if split < scale["large_splits"] or name not in LARGE
    ]
    record = Record(options.out)
    rows = record.swept(partial(measure, data_dir=folder), points, options)
    record.draw("uci", figure(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
