"""How well do infinitely wide networks classify CIFAR-10? NNGP regression of one-hot targets.

Kernels are stored in the output folder tile by tile: a run that was interrupted goes on where it
stopped. The scale of the readout and the noise are chosen by the evidence of the training images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import jax
import numpy as np
from harness import data_folder
from rich.progress import Progress

import bnnsample as bnn
from bnnsample.files import write_whole

NETWORKS = {
    "fully connected, 3 hidden layers, relu": bnn.Network(
        [bnn.Flatten(), *bnn.fcn(3, 512, 10, "relu").layers]
    ),
    "convolutional, 5 layers, relu, flattened": bnn.convnet(5, 64, 10, "relu"),
    "convolutional, 3 layers, relu, pooled, at 8 x 8 pixels": bnn.Network(
        [bnn.AvgPool((4, 4)), *bnn.convnet(3, 64, 10, "relu", pooling=True).layers]
    ),
}
SMOKE_NETWORKS = {
    "fully connected": bnn.Network([bnn.Flatten(), *bnn.fcn(1, 16, 10, "relu").layers]),
    "convolutional": bnn.convnet(1, 4, 10, "relu"),
}

NOISE_SHARES = np.logspace(-5, 1, 25)
"""Noise variances tried, as shares of the kernel's mean variance."""


@dataclass(frozen=True)
class Result:
    """One row of the table.

    ``accuracy_error``: binomial standard error. ``noise_share``: the noise's variance as a share of
    the kernel's mean variance. ``kernel_seconds``: None where kernels were found on disk.
    """

    network: str
    accuracy: float
    accuracy_error: float
    log_evidence_per_target: float
    noise_share: float
    kernel_seconds: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir", default=data_folder(), help="folder with CIFAR-10 (%(default)s)"
    )
    parser.add_argument("--train", type=int, default=1000, help="training images (%(default)s)")
    parser.add_argument("--test", type=int, default=1000, help="test images (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("results/cifar10-nngp"))
    parser.add_argument("--smoke", action="store_true", help="tiny networks, for the tests")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    try:
        data = bnn.load_cifar10(options.data_dir, train=options.train, test=options.test)
        networks = SMOKE_NETWORKS if options.smoke else NETWORKS
        results = [evaluate(name, network, data, options.out) for name, network in networks.items()]
    except bnn.BadInput as error:
        parser.exit(2, f"error: {error}\n")
    record = {
        "command": f"--train {options.train} --test {options.test}",
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__},
        "results": [asdict(result) for result in results],
    }
    write_whole(options.out / "record.json", json.dumps(record, indent=2))
    table = markdown(results)
    write_whole(options.out / "table.md", table)
    print(table)


def evaluate(name: str, network: bnn.Network, data: bnn.Dataset, out: Path) -> Result:
    """Regression with the kernel of ``network``, the noise chosen by the evidence."""
    place = out / name.replace(" ", "-").replace(",", "")
    resumed = place.exists()
    began = time.perf_counter()
    within = kernel(f"{name}: training", place / "train.zarr", network, data.x_train, None)
    across = kernel(f"{name}: test", place / "test.zarr", network, data.x_test, data.x_train)
    took = None if resumed else time.perf_counter() - began
    eigenvalues, vectors = np.linalg.eigh(within)
    projected = vectors.T @ data.y_train
    shifts = NOISE_SHARES * np.mean(eigenvalues)
    evidences = [log_evidence(eigenvalues + shift, projected) for shift in shifts]
    best = int(np.argmax(evidences))
    mean = across @ (vectors @ (projected / (eigenvalues + shifts[best])[:, None]))
    accuracy = float(np.mean(mean.argmax(axis=1) == data.y_test.argmax(axis=1)))
    return Result(
        network=name,
        accuracy=accuracy,
        accuracy_error=(accuracy * (1 - accuracy) / len(data.y_test)) ** 0.5,
        log_evidence_per_target=evidences[best] / data.y_train.size,
        noise_share=float(NOISE_SHARES[best]),
        kernel_seconds=took,
    )


def kernel(
    title: str, path: Path, network: bnn.Network, x1: np.ndarray, x2: np.ndarray | None
) -> np.ndarray:
    """The NNGP kernel from its store, computed with a progress bar where it is not there yet."""
    with Progress(transient=True) as progress:
        task = progress.add_task(title)
        group = bnn.store_kernels(
            path,
            network,
            x1,
            x2,
            kinds=("nngp",),
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    return np.asarray(group["nngp"])


def log_evidence(eigenvalues: np.ndarray, projected: np.ndarray) -> float:
    """Log density of the targets in the kernel's eigenbasis, at the best scale of the readout.

    With covariance ``s C`` the best ``s`` is the mean of ``y' C^-1 y`` over all targets.
    """
    scale = np.sum(projected**2 / eigenvalues[:, None]) / projected.size
    log_det = projected.shape[1] * np.sum(np.log(eigenvalues)) + projected.size * np.log(scale)
    return float(-0.5 * (log_det + projected.size * (1 + np.log(2 * np.pi))))


def seconds(result: Result) -> str:
    """The time that the kernels took, if this run computed them."""
    return "-" if result.kernel_seconds is None else f"{result.kernel_seconds:.0f}"


def markdown(results: list[Result]) -> str:
    """The results as a Markdown table."""
    rows = [
        f"| {r.network} | {100 * r.accuracy:.1f} ± {100 * r.accuracy_error:.1f} "
        f"| {r.log_evidence_per_target:.4f} | {r.noise_share:.1g} | {seconds(r)} |"
        for r in results
    ]
    header = (
        "| network (NNGP) | test accuracy, % (± 1 s.e.) | log evidence per target | noise share "
        "| kernels, s |\n|---|---|---|---|---|\n"
    )
    return header + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
