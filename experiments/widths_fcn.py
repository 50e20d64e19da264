"""CIFAR-10, fully connected: how much more do the mapped targets sample, width by width?

2206.07673 states up to 50 times the effective sample size, and its code 10 to 200 times. One hidden
gelu layer, noise_std 0.1, float32, each target under both samplers of ``comparison``. Then what a
gradient costs in each form of the map: the primal one, differentiated through its factor as both
public codes do, and ours.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import comparison
import harness
import jax
import jax.numpy as jnp
import numpy as np
from harness import Record, Row, Settings
from threadpoolctl import threadpool_limits

import bnnsample as bnn
from bnnsample.models.priors import log_prior
from bnnsample.repriorisation.base import Position, unflatten
from bnnsample.repriorisation.bijections import Primal
from bnnsample.repriorisation.conditional import gaussian_targets
from bnnsample.repriorisation.targets import TARGETS

NOISE_STD = 0.1
SCALES: dict[str, Settings] = {
    "smoke": {
        "points": (12,), "widths": (8,), "test": 4, "chains": 3, "rounds": 2,
        "samplers": ("hmc",), "langevin_widest": 8, "langevin_warmup": 20, "langevin_draws": 30,
        "hmc_warmup": 20, "hmc_draws": 10,
    },
    "two cores": {
        "points": (128, 256), "widths": (32, 64, 128, 256, 512, 1024, 2048, 4096), "test": 20,
        "chains": 4, "rounds": 5, "samplers": ("langevin", "hmc"), "langevin_widest": 1024,
        "langevin_warmup": 300, "langevin_draws": 2000, "hmc_warmup": 100, "hmc_draws": 100,
    },
    "paper": {
        "points": (128, 256), "widths": (32, 64, 128, 256, 512, 1024, 2048, 4096), "test": 50,
        "chains": 8, "rounds": 20, "samplers": ("langevin", "hmc"), "langevin_widest": 4096,
        "langevin_warmup": 2000, "langevin_draws": 20_000, "hmc_warmup": 500, "hmc_draws": 1000,
    },
}  # fmt: skip
"""``rounds``: of the timing of gradients, whose median is taken; ``langevin_widest``: beyond it
HMC alone runs."""


def posterior_of(data: bnn.Dataset, width: int) -> tuple[bnn.Posterior, np.ndarray]:
    """One hidden layer on flattened images, and the test images."""
    x, x_test = (images.reshape(len(images), -1) for images in (data.x_train, data.x_test))
    network = bnn.fcn(1, width, data.y_train.shape[1])
    return bnn.Posterior(network, x, data.y_train, bnn.Gaussian(NOISE_STD)), x_test


def primal_log_density(posterior: bnn.Posterior, position: Position) -> jax.Array:
    """Of the repriorised target, by the factor of a (p, p) matrix as in the public codes."""
    hidden, phi = unflatten(posterior, position)
    features = posterior.network.features(hidden, posterior.x)
    y, noise_std = gaussian_targets(posterior)
    primal = Primal(y, jnp.full((len(y), 1), noise_std, y.dtype))
    readout, logdet = primal.forward_and_logdet(features, phi)
    fit = posterior.likelihood.log_density(features @ readout, y)
    return fit + log_prior(hidden) + log_prior(readout) + logdet


def gradient_costs(posterior: bnn.Posterior, rounds: int) -> Row:
    """Milliseconds of a value and gradient by form: medians over rounds that alternate."""
    targets = {name: build(posterior) for name, build in TARGETS.items()}
    calls = {name: _call(lambda t, q: t.logdensity(q), t, t) for name, t in targets.items()}
    calls["primal"] = _call(primal_log_density, posterior, targets["repriorised"])
    times: dict[str, list[float]] = {name: [] for name in calls}
    with threadpool_limits(1, user_api="blas"):
        for _ in range(rounds):
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - began)
    return {name: 1e3 * float(np.median(seconds)) for name, seconds in times.items()}


def _call(
    log_density: Callable[..., jax.Array], argument: Any, target: bnn.AbstractTarget
) -> Callable[[], object]:
    """Value and gradient at a start of the target, compiled."""
    position = target.init(jax.random.key(1))
    compiled = jax.jit(jax.value_and_grad(log_density, argnums=1))
    jax.block_until_ready(compiled(argument, position))
    return lambda: jax.block_until_ready(compiled(argument, position))


def measure(about: Row, folder: Path, *, data_dir: Path) -> Row:
    """One run under a target and a sampler, or where ``rounds`` are given the cost of gradients."""
    data = bnn.load_cifar10(data_dir, train=about["points"], test=about.get("test", 1))
    posterior, x_test = posterior_of(data, about["width"])
    if "rounds" in about:
        return gradient_costs(posterior, about["rounds"])
    return comparison.sampled(posterior, x_test, about, folder)


def table(runs: list[Row], costs: list[Row]) -> str:
    """The runs, and milliseconds of a value and gradient of each form."""
    forms: dict[str, Callable[[Row], Any]] = {
        "n": lambda r: r["points"],
        "width": lambda r: r["width"],
        **{name: lambda r, name=name: r[name] for name in (*TARGETS, "primal")},
        "primal / repriorised": lambda r: r["primal"] / r["repriorised"],
    }
    places = {"n": lambda r: r["points"], "width": lambda r: r["width"]}
    return f"{comparison.table(runs, places)}\n\n{harness.table(costs, forms)}"


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "widths-fcn", SCALES, data="CIFAR-10")
    record = Record(options.out)
    harness.cifar10(options, max(scale["points"]), scale["test"])
    places = [
        {"points": points, "width": width}
        for points, width in itertools.product(scale["points"], scale["widths"])
    ]
    timed = [place | {"rounds": scale["rounds"]} for place in places]
    sampled = [
        point
        for place in places
        for point in comparison.points(place | {"test": scale["test"]}, scale)
        if point["sampler"] != comparison.LANGEVIN or point["width"] <= scale["langevin_widest"]
    ]
    rows = record.swept(partial(measure, data_dir=options.data_dir), timed + sampled, options)
    costs, runs = rows[: len(timed)], rows[len(timed) :]
    for points in scale["points"]:
        own = [run for run in runs if run["points"] == points]
        name = f"width (hidden units), n = {points}"
        if own:
            record.draw(f"widths-fcn-{points}", comparison.efficiency_figure(own, name))
    print(table(runs, costs))


if __name__ == "__main__":
    main()
