"""CIFAR-10, a residual network without normalisation: do the mapped targets sample more there too?

The wide ResNet of 2206.07673 at depth 8, gelu, noise_std 0.1, float32, over its channels: the
readout sees four times as many features. Images are averaged to ``--pixels`` squared first. Each
target under both samplers of ``comparison``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import comparison
import harness
import numpy as np
from harness import Record, Row, Settings

import bnnsample as bnn

NOISE_STD, DEPTH, SIDE = 0.1, 8, 32
SCALES: dict[str, Settings] = {
    "smoke": {
        "widths": (2,), "points": 4, "pixels": 4, "test": 2, "chains": 2,
        "samplers": ("langevin",),
        "langevin_warmup": 6, "langevin_draws": 8, "hmc_warmup": 6, "hmc_draws": 6,
    },
    "two cores": {
        "widths": (8, 16, 32, 64), "points": 32, "pixels": 16, "test": 10, "chains": 4,
        "samplers": ("langevin", "hmc"),
        "langevin_warmup": 200, "langevin_draws": 1000, "hmc_warmup": 60, "hmc_draws": 60,
    },
    "paper": {
        "widths": (16, 32, 64, 128, 256, 512), "points": 256, "pixels": 32, "test": 50, "chains": 4,
        "samplers": ("langevin", "hmc"),
        "langevin_warmup": 2000, "langevin_draws": 20_000, "hmc_warmup": 500, "hmc_draws": 1000,
    },
}  # fmt: skip


PLACES: dict[str, Callable[[Row], Any]] = {
    "pixels": lambda r: f"{r['pixels']} x {r['pixels']}",
    "channels": lambda r: r["width"],
}


def posterior_of(data: bnn.Dataset, channels: int, pixels: int) -> tuple[bnn.Posterior, np.ndarray]:
    """The posterior of a network of so many channels in its first group, and the test images."""
    x, x_test = (averaged(images, pixels) for images in (data.x_train, data.x_test))
    network = bnn.resnet(DEPTH, channels, data.y_train.shape[1])
    return bnn.Posterior(network, x, data.y_train, bnn.Gaussian(NOISE_STD)), x_test


def averaged(images: np.ndarray, pixels: int) -> np.ndarray:
    """Images (n, 32, 32, 3) averaged over squares to (n, pixels, pixels, 3)."""
    window = SIDE // pixels
    return images.reshape(len(images), pixels, window, pixels, window, -1).mean(axis=(2, 4))


def measure(about: Row, folder: Path, *, data_dir: Path) -> Row:
    """One run at a width, under a target and a sampler."""
    data = bnn.load_cifar10(data_dir, train=about["points"], test=about["test"])
    return comparison.sampled(*posterior_of(data, about["width"], about["pixels"]), about, folder)


def main() -> None:
    options, scale = harness.begin(__doc__ or "", "widths-resnet", SCALES, data="CIFAR-10")
    record = Record(options.out)
    harness.cifar10(options, scale["points"], scale["test"])
    side = scale["pixels"]
    settings = {key: scale[key] for key in ("points", "pixels", "test")}
    points = [
        point
        for width in scale["widths"]
        for point in comparison.points({"width": width} | settings, scale)
    ]
    runs = record.swept(partial(measure, data_dir=options.data_dir), points, options)
    name = f"channels of the first group; n = {scale['points']}, {side} x {side} pixels"
    record.draw(f"widths-resnet-{side}", comparison.efficiency_figure(runs, name))
    print(comparison.table(runs, PLACES))


if __name__ == "__main__":
    main()
