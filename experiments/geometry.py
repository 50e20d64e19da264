"""Does the posterior after the map become its prior, and how does its curvature change with width?

With ``L(h)`` the likelihood without the readout, the pulled-back posterior is N(0, I) times
``L / Z``, and its divergence from N(0, I) the integral over t in [0, 1] of ``t var_t(log L)``, the
variance under N(0, I) times ``L^t``: chains at the nodes of a Gauss rule estimate it. Curvature:
eigenvalues of the Hessian of the negative log density of all weights, at draws of the posterior,
as they are and after the map of the readout. At infinite width the divergence is 0 and, after the
map, every eigenvalue 1. Digits, one hidden gelu layer, noise_std 0.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
import jax
import jax.numpy as jnp
import numpy as np
from harness import Record, Row, Settings
from jaxtyping import Array, Float, Key
from matplotlib.figure import Figure
from scipy.sparse.linalg import LinearOperator, eigsh

import bnnsample as bnn
from bnnsample.models.network import Parameters, named_parameters
from bnnsample.pytrees import as_pytree
from bnnsample.reports.figures import STYLE, legend_on_the_right
from bnnsample.repriorisation.base import Draw, Drawer, Position, flatten, unflatten
from bnnsample.repriorisation.conditional import exact_bijection

NOISE_STD = 0.1
SCALES: dict[str, Settings] = {
    "smoke": {
        "widths": (4,), "points": 8, "nodes": 2, "chains": 3, "warmup": 20, "draws": 20,
        "eigenvalues": 4, "probes": 2,
    },
    "two cores": {
        "widths": (16, 32, 64, 128, 256, 512, 1024, 2048), "points": 64, "nodes": 12, "chains": 4,
        "warmup": 200, "draws": 300, "eigenvalues": 64, "probes": 8,
    },
    "paper": {
        "widths": (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192), "points": 256, "nodes": 16,
        "chains": 8, "warmup": 500, "draws": 2000, "eigenvalues": 256, "probes": 32,
    },
}  # fmt: skip
"""``nodes``: of the Gauss rule. ``eigenvalues``: the largest, so many. ``probes``: random vectors
for the norm of the Hessian less I."""


@as_pytree("target", "power")
@dataclass(frozen=True)
class Tempered(bnn.AbstractTarget):
    """N(0, I) times a power of a target's likelihood. What it predicts is that log likelihood."""

    target: bnn.AbstractTarget
    power: Array
    name: str = field(default="tempered", init=False)

    @property
    def posterior(self) -> bnn.Posterior:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.target.posterior

    def log_likelihood(self, position: Position) -> Float[Array, ""]:
        return self.power * self.target.log_likelihood(position)

    def constrain(self, position: Position, key: Key[Array, ""]) -> Parameters:
        return self.target.constrain(position, key)

    def fitted(self, position: Position) -> Float[Array, "n o"]:
        return self.target.fitted(position)

    def init(self, key: Key[Array, ""]) -> Position:
        return self.target.init(key)

    def drawer(self, x_test: Float[Array, "m ..."] | None = None, *, whole: bool = True) -> Drawer:
        def draw(position: Position, key: Key[Array, ""]) -> Draw:
            drawn = self.target.drawer(whole=whole)(position, key)
            outputs = self.posterior.y.shape[1]
            log_likelihood = jnp.full((1, outputs), self.target.log_likelihood(position))
            return drawn._replace(predictions={"f": log_likelihood})

        return draw


def divergence(
    target: bnn.AbstractTarget, folder: Path, *, nodes: int, chains: int, warmup: int, draws: int
) -> Row:
    """``KL(N(0, I) L / Z || N(0, I))`` in nats, its jackknife error over chains, the worst R-hat.

    Nodes are Gauss's in the cube root of the power, where the integrand is flatter: weak powers
    of a sharp likelihood vary most. The run of each is kept in ``folder``.
    """
    places, weights = np.polynomial.legendre.leggauss(nodes)
    roots, weights = (places + 1) / 2, weights / 2
    terms, rhats = [], []
    for number, (root, weight) in enumerate(zip(roots, weights, strict=True)):
        run = bnn.sample(
            Tempered(target, jnp.asarray(root**3, target.posterior.x.dtype)), bnn.HMC(),
            chains=chains, warmup=warmup, draws=draws, seed=number,
            x_test=target.posterior.x[:1], keep=("predictions",), out=folder / f"node-{number}",
        )  # fmt: skip
        log_likelihood = run["predictions"].to_dataset()["f"].values[:, :, 0, 0]
        terms.append(3 * weight * root**5 * _variances(log_likelihood))
        rhats.append(bnn.convergence(run)["predictions"].rhat_max)
    total = np.sum(terms, axis=0)
    error = np.sqrt((chains - 1) / chains * np.sum((total[1:] - total[1:].mean()) ** 2))
    return {"kl": float(total[0]), "kl_error": float(error), "rhat": max(rhats)}


def _variances(draws: np.ndarray) -> np.ndarray:
    """Variance of draws (chain, draw), of all chains and then with each left out in turn."""
    without = [np.delete(draws, chain, axis=0) for chain in range(len(draws))]
    return np.array([kept.var(ddof=1) for kept in (draws, *without)])


def spectrum(
    target: bnn.AbstractTarget, position: Position, *, eigenvalues: int, probes: int
) -> Row:
    """Of the Hessian of the negative log density: the largest eigenvalues and the smallest.

    ``from_identity``: the root mean square of eigenvalue less 1, by random vectors, unbiased before
    the root.
    """
    slope = jax.grad(lambda q: -target.logdensity(q))
    product = jax.jit(lambda v: jax.jvp(slope, (position,), (v,))[1])
    size, dtype = position.size, np.dtype(position.dtype)
    hessian = LinearOperator((size, size), lambda v: np.asarray(product(v.ravel())), dtype=dtype)  # pyright: ignore[reportCallIssue]
    vectors = np.random.default_rng(0).standard_normal((probes, size)).astype(dtype)
    settings: dict[str, Any] = {"v0": vectors[0], "tol": 1e-3, "return_eigenvectors": False}
    largest = eigsh(hessian, min(eigenvalues, size // 2), which="LA", **settings)
    smallest = eigsh(hessian, 1, which="SA", **settings)
    apart = [np.sum((np.asarray(product(v)) - v) ** 2) / size for v in vectors]
    return {
        "largest": sorted(map(float, largest), reverse=True),
        "smallest": float(smallest[0]),
        "from_identity": float(np.mean(apart) ** 0.5),
    }


def curvature(posterior: bnn.Posterior, about: Row, folder: Path) -> Row:
    """``spectrum`` before and after the map, the mean over the last draws of the chains."""
    run = bnn.sample(
        bnn.marginal(posterior), chains=about["chains"], warmup=about["warmup"], draws=10,
        keep=("parameters",), out=folder / "curvature",
    )  # fmt: skip
    drawn, names = run["posterior"].to_dataset(), named_parameters(posterior.parameter_shapes)
    sizes = {name: about[name] for name in ("eigenvalues", "probes")}
    found: dict[str, list[Row]] = {"standard": [], "repriorised": []}
    for chain in range(about["chains"]):
        position = jnp.concatenate([drawn[name].values[chain, -1].ravel() for name in names])
        hidden, readout = unflatten(posterior, position)
        features = posterior.network.features(hidden, posterior.x)
        phi, _ = exact_bijection(posterior).inverse_and_logdet(features, readout)
        mapped = flatten(Parameters(hidden, phi))
        found["standard"].append(spectrum(bnn.standard(posterior), position, **sizes))
        found["repriorised"].append(spectrum(bnn.repriorised(posterior), mapped, **sizes))
    return {
        name: {key: np.mean([s[key] for s in own], axis=0).tolist() for key in own[0]}
        | {"largest_std": float(np.std([s["largest"][0] for s in own], ddof=1))}
        for name, own in found.items()
    }


def divergence_of_limit(posterior: bnn.Posterior, noise_std: float) -> float:
    """``KL`` in nats of the NNGP's posterior from its prior: of all weights without the map."""
    kernel = np.asarray(bnn.nngp(posterior.network, posterior.x))
    eigenvalues, vectors = np.linalg.eigh(kernel)
    snr, outputs = eigenvalues / noise_std**2, posterior.y.shape[1]
    projected = vectors.T @ np.asarray(posterior.y)
    means = np.sum((projected / (1 + snr)[:, None] / noise_std**2) ** 2 * eigenvalues[:, None])
    return float(means + outputs * np.sum(np.log1p(snr) - snr / (1 + snr))) / 2


def figure(rows: list[Row]) -> Figure:
    """Divergence, largest eigenvalue, and the spectrum at the ends, before and after the map."""
    drawn, (axes,) = harness.panels(1, 3, height=3.6)
    widths = [row["width"] for row in rows]
    names = ("standard", "repriorised")
    errors = [row["kl_error"] for row in rows]
    axes[0].errorbar(widths, [row["kl"] for row in rows], errors, capsize=3, **STYLE["repriorised"])
    axes[0].axhline(rows[0]["kl_limit"], **STYLE["standard"] | {"marker": ""})
    axes[0].set_ylabel("KL(posterior || prior) in nats\n(line: standard, at infinite width)")
    for name in names:
        largest = [row[name]["largest"][0] for row in rows]
        axes[1].plot(widths, largest, label=name, **STYLE[name])
        for row, shade in ((rows[0], 0.45), (rows[-1], 1.0)):
            values = row[name]["largest"]
            look = STYLE[name] | {"marker": "", "alpha": shade}
            axes[2].plot(np.arange(1, len(values) + 1), values, **look)
    axes[1].set_ylabel("largest eigenvalue of the Hessian\n(at infinite width 1 after the map)")
    axes[2].set_ylabel(f"eigenvalue\n(pale: width {widths[0]}, else {widths[-1]})")
    axes[2].set_xlabel("rank of the eigenvalue")
    for axis in axes[:2]:
        axis.set_xlabel("width (hidden units)")
        harness.logarithmic(axis, sorted(widths[::-2]) if len(widths) > 5 else widths)
    harness.logarithmic(axes[2])
    for axis in axes:
        harness.logarithmic(axis, which="y")
    legend_on_the_right(drawn, axes[1])
    return drawn


def table(rows: list[Row]) -> str:
    """Divergence and eigenvalues by width."""
    columns: dict[str, Callable[[Row], Any]] = {
        "width": lambda r: r["width"],
        "KL, nats": lambda r: f"{r['kl']:.3g} ± {r['kl_error']:.2g}",
        "largest eigenvalue, as they are": lambda r: r["standard"]["largest"][0],
        "largest, after the map": lambda r: r["repriorised"]["largest"][0],
        "smallest, as they are": lambda r: r["standard"]["smallest"],
        "smallest, after the map": lambda r: r["repriorised"]["smallest"],
        "rms of eigenvalue - 1, as they are": lambda r: r["standard"]["from_identity"],
        "rms, after the map": lambda r: r["repriorised"]["from_identity"],
    }
    return harness.table(rows, columns)


def measure(about: Row, folder: Path) -> Row:
    """Divergence and curvature of one width."""
    data = bnn.load("digits", train=about["points"], test=1)
    network = bnn.fcn(1, about["width"], data.y_train.shape[1])
    posterior = bnn.Posterior(network, data.x_train, data.y_train, bnn.Gaussian(NOISE_STD))
    sampling = {key: about[key] for key in ("nodes", "chains", "warmup", "draws")}
    limit = {"kl_limit": divergence_of_limit(posterior, NOISE_STD)}
    kl = divergence(bnn.marginal(posterior), folder, **sampling)
    return kl | limit | curvature(posterior, about, folder)


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "geometry", SCALES)
    jax.config.update("jax_enable_x64", True)
    record = Record(options.out)
    settings = {key: value for key, value in scale.items() if key != "widths"}
    points = [{"width": width} | settings for width in scale["widths"]]
    rows = record.swept(measure, points, options)
    record.draw("geometry", figure(rows))
    print(table(rows))
    print(f"KL of the NNGP's posterior from its prior: {rows[0]['kl_limit']:.4g} nats")


if __name__ == "__main__":
    main()
