"""CIFAR-10 (Krizhevsky 2009), read from files that the user has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bnnsample.checks import bad_input, check_count
from bnnsample.datasets.bundled import Dataset, standardise_images

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

RECORD = 1 + 3 * 32 * 32
"""Bytes of one example of the binary version: its label, then its red, green and blue planes."""


def load_cifar10(folder: str | Path, *, train: int = 1000, test: int = 1000) -> Dataset:
    """The first ``train`` and ``test`` images (n, 32, 32, 3), standardised, with targets (n, 10).

    ``folder`` holds the binary version as published (``data_batch_1.bin`` ... ``test_batch.bin``,
    in it or in ``cifar-10-batches-bin``), or ``cifar10_subset.npz`` with the arrays ``x_train``,
    ``y_train``, ``x_test`` and ``y_test`` in bytes. All pixels share one mean and one standard
    deviation, those of the training images; targets are one-hot minus 1 / 10.
    """
    check_count("train", train)
    check_count("test", test)
    folder = Path(folder)
    x_train, y_train, x_test, y_test = _read(folder)
    for name, wanted, found in (("train", train, len(x_train)), ("test", test, len(x_test))):
        if wanted > found:
            raise bad_input(
                f"CIFAR-10 {name}",
                got=f"{wanted} images",
                expected=f"at most the {found} in {str(folder)!r}",
                probably="a folder with a part of the data set",
            )
    images = np.concatenate([x_train[:train], x_test[:test]]).astype(float)
    targets = np.eye(len(CLASSES))[np.concatenate([y_train[:train], y_test[:test]])] - 0.1
    images, targets = standardise_images(images, targets, train)
    return Dataset("cifar10", images[:train], targets[:train], images[train:], targets[train:])


def _read(folder: Path) -> tuple[np.ndarray, ...]:
    subset = folder / "cifar10_subset.npz"
    if subset.is_file():
        with np.load(subset) as arrays:
            return tuple(arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    for place in (folder, folder / "cifar-10-batches-bin"):
        if (place / "test_batch.bin").is_file():
            batches = [_read_batch(path) for path in sorted(place.glob("data_batch_*.bin"))]
            x_train, y_train = (np.concatenate(parts) for parts in zip(*batches, strict=True))
            return (x_train, y_train, *_read_batch(place / "test_batch.bin"))
    raise bad_input(
        "CIFAR-10 folder",
        got=repr(str(folder)),
        expected="a folder with test_batch.bin and data_batch_*.bin, or with cifar10_subset.npz",
        probably="the Python or Matlab version, or another folder; the binary version is at "
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    )


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    records = np.fromfile(path, np.uint8)
    if records.size == 0 or records.size % RECORD:
        raise bad_input(
            f"CIFAR-10 file {str(path)!r}",
            got=f"{records.size} bytes",
            expected=f"a multiple of {RECORD}",
            probably="a download that broke off",
        )
    records = records.reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]
