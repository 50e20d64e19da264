"""CIFAR-10 (Krizhevsky 2009), read from files that the user has."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from bnnsample.checks import bad_input, check_count
from bnnsample.datasets.bundled import Dataset, standardise_images

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

PLANES = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
"""Bytes of one example of the binary version: its label, then its red, green and blue planes."""


def load_cifar10(folder: str | Path, *, train: int = 1000, test: int = 1000) -> Dataset:
    """The first ``train`` and ``test`` images (n, 32, 32, 3), standardised, with targets (n, 10).

    ``folder`` holds the binary or the Python version as published (``data_batch_1.bin`` ...
    ``test_batch.bin``, in it or in ``cifar-10-batches-bin``; ``data_batch_1`` ... ``test_batch``,
    in it or in ``cifar-10-batches-py``), or ``cifar10_subset.npz`` with the arrays ``x_train``,
    ``y_train``, ``x_test`` and ``y_test`` in bytes. Of the Python version's pickles nothing but
    arrays is loaded. All pixels share one mean and one standard deviation, those of the training
    images; targets are one-hot minus 1 / 10.
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
            parts = [(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")]
        return (*_checked(subset, *parts[0]), *_checked(subset, *parts[1]))
    for version, suffix, read in (("bin", ".bin", _read_binary), ("py", "", _read_python)):
        for place in (folder, folder / f"cifar-10-batches-{version}"):
            paths = sorted(place.glob(f"data_batch_[0-9]{suffix}"))
            if paths and (place / f"test_batch{suffix}").is_file():
                paths.append(place / f"test_batch{suffix}")
                *training, test = (_checked(path, *read(path)) for path in paths)
                x_train, y_train = (np.concatenate(part) for part in zip(*training, strict=True))
                return (x_train, y_train, *test)
    raise bad_input(
        "CIFAR-10 folder",
        got=repr(str(folder)),
        expected="a folder with test_batch and data_batch_1, ... (the binary or the Python "
        "version), or with cifar10_subset.npz",
        probably="the Matlab version, a part of the files, or another folder; the data are at "
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    )


def _checked(path: Path, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a file, whatever its version, if each image has a label of a class."""
    whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
    if not whole or len(labels) != len(images):
        got = f"{len(images)} images and labels {labels.dtype} of shape {labels.shape}"
    elif not (labels.min(initial=0) >= 0 and labels.max(initial=0) < len(CLASSES)):
        got = f"labels from {labels.min()} to {labels.max()}"
    else:
        return images, labels
    raise bad_input(
        f"CIFAR-10 file {str(path)!r}",
        got=got,
        expected=f"for each image a whole number from 0 to {len(CLASSES) - 1}",
        probably="CIFAR-100, or a file that was cut or put together by hand",
    )


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    records = np.fromfile(path, np.uint8)
    if records.size == 0 or records.size % RECORD:
        raise bad_input(
            f"CIFAR-10 file {str(path)!r}",
            got=f"{records.size} bytes",
            expected=f"a multiple of {RECORD}",
            probably="a download that broke off",
        )
    records = records.reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, *PLANES).transpose(0, 2, 3, 1), records[:, 0]


class _ArraysOnly(pickle.Unpickler):
    """Loads NumPy arrays and plain values, and nothing else that a pickle may name."""

    NAMES = frozenset({
        "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct",
        "numpy.ndarray", "numpy.dtype", "_codecs.encode",
    })  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in self.NAMES:
            raise pickle.UnpicklingError(f"{module}.{name}, which is no array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        images = np.asarray(batch[b"data"], np.uint8).reshape(-1, *PLANES).transpose(0, 2, 3, 1)
        labels = np.asarray(batch[b"labels"])
    except (
        pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, OverflowError,
    ) as error:  # fmt: skip
        raise bad_input(
            f"CIFAR-10 file {str(path)!r}",
            got=f"what cannot be read as a batch ({error})",
            expected="the pickle of a dictionary with b'data' and b'labels', as published",
            probably="a download that broke off, or a file of another kind",
        ) from error
    return images, labels
