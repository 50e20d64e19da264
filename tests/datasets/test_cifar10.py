"""CIFAR-10 is read as published: planes to pixels, labels to targets, the first images first."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnnsample.datasets import load_cifar10

SIZES = {"data_batch_1": 4, "data_batch_2": 3, "test_batch": 5}


def pictures(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    images = rng.integers(256, size=(count, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(10, size=count, dtype=np.uint8)


@pytest.fixture
def batches(rng: np.random.Generator) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: pictures(rng, size) for name, size in SIZES.items()}


def write_binary(folder: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """As published: for each image its label, then the red, the green and the blue plane."""
    folder.mkdir(exist_ok=True)
    for name, (images, labels) in batches.items():
        records = [
            bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
            for image, label in zip(images, labels, strict=True)
        ]
        (folder / f"{name}.bin").write_bytes(b"".join(records))


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_binary_batches_are_read_in_order(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]], inner: str
) -> None:
    write_binary(tmp_path / inner, batches)
    data = load_cifar10(tmp_path, train=6, test=2)
    images = np.concatenate([batches["data_batch_1"][0], batches["data_batch_2"][0]])[:6]
    labels = np.concatenate([batches["data_batch_1"][1], batches["data_batch_2"][1]])[:6]
    mean, std = images.mean(), images.std()
    np.testing.assert_allclose(data.x_train, (images - mean) / std, rtol=1e-12)
    np.testing.assert_allclose(data.x_test, (batches["test_batch"][0][:2] - mean) / std, rtol=1e-12)
    np.testing.assert_array_equal(data.y_train.argmax(axis=1), labels)
    np.testing.assert_array_equal(data.y_test.argmax(axis=1), batches["test_batch"][1][:2])
    np.testing.assert_allclose(data.y_train.sum(axis=1), 0, atol=1e-12)


def write_python(folder: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """As published: pickles of dictionaries whose keys were strings of Python 2."""
    folder.mkdir(exist_ok=True)
    for name, (images, labels) in batches.items():
        planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
        batch = {b"data": planes, b"labels": labels.tolist(), b"batch_label": b"a batch"}
        written = pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(
            written.replace(b"numpy._core", b"numpy.core")
        )  # as it was then


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_the_python_version_gives_what_the_binary_one_gives(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]], inner: str
) -> None:
    write_binary(tmp_path / "binary", batches)
    (tmp_path / "python").mkdir()
    write_python(tmp_path / "python" / inner, batches)
    binary, python = (load_cifar10(tmp_path / v, train=7, test=5) for v in ("binary", "python"))
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(binary, name), getattr(python, name))


class _Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "harm"))


def test_a_pickle_that_calls_something_is_refused_before_it_does(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    write_python(tmp_path, batches)
    harm = tmp_path / "harm"
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": _Harmful(harm)}, protocol=2))
    with pytest.raises(ValueError, match="which is no array"):
        load_cifar10(tmp_path, train=2, test=2)
    assert not harm.exists()


@pytest.mark.parametrize("left", [0, 20, 3000])
def test_a_broken_pickle_is_refused(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]], left: int
) -> None:
    write_python(tmp_path, batches)
    path = tmp_path / "data_batch_2"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match="data_batch_2.*broke off"):
        load_cifar10(tmp_path, train=2, test=2)


def test_the_subset_gives_what_the_batches_give(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    write_binary(tmp_path / "binary", batches)
    x_train, y_train = (
        np.concatenate([batches["data_batch_1"][i], batches["data_batch_2"][i]]) for i in (0, 1)
    )
    x_test, y_test = batches["test_batch"]
    np.savez(
        tmp_path / "cifar10_subset.npz",
        x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test,
    )  # fmt: skip
    binary = load_cifar10(tmp_path / "binary", train=7, test=5)
    subset = load_cifar10(tmp_path, train=7, test=5)
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(binary, name), getattr(subset, name))


def test_more_images_than_there_are_are_refused(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    write_binary(tmp_path, batches)
    with pytest.raises(ValueError, match="train: got 8 images; expected at most the 7"):
        load_cifar10(tmp_path, train=8, test=1)


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="with test_batch and data_batch_1"):
        load_cifar10(tmp_path)


def test_a_broken_download_is_refused(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    write_binary(tmp_path, batches)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"data_batch_2\.bin"):
        load_cifar10(tmp_path, train=2, test=2)


def test_a_folder_without_training_batches_is_refused(
    tmp_path: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    write_binary(tmp_path, {"test_batch": batches["test_batch"]})
    with pytest.raises(ValueError, match="CIFAR-10 folder: got .*a part of the files"):
        load_cifar10(tmp_path, train=2, test=2)


def write_subset(folder: Path, batches: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    folder.mkdir(exist_ok=True)
    (x_train, y_train), (x_test, y_test) = batches["data_batch_1"], batches["test_batch"]
    np.savez(
        folder / "cifar10_subset.npz",
        x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test,
    )  # fmt: skip


@pytest.mark.parametrize("write", [write_binary, write_python, write_subset])
def test_a_label_of_no_class_is_refused(
    write: Callable[..., None],
    tmp_path: Path,
    batches: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    for label in (12, 255) if write is write_binary else (12, 300, -1):
        images, labels = batches["data_batch_1"]
        labels = labels.astype(int)
        labels[1] = label
        write(tmp_path, batches | {"data_batch_1": (images, labels)})
        with pytest.raises(ValueError, match=f"got labels from .*{label}.*; expected .* 0 to 9"):
            load_cifar10(tmp_path, train=2, test=2)


@pytest.mark.parametrize("write", [write_python, write_subset])
def test_fewer_labels_than_images_are_refused(
    write: Callable[..., None],
    tmp_path: Path,
    batches: dict[str, tuple[np.ndarray, np.ndarray]],
) -> None:
    images, labels = batches["data_batch_1"]
    write(tmp_path, batches | {"data_batch_1": (images, labels[:-1])})
    with pytest.raises(ValueError, match=r"got 4 images and labels \w+ of shape \(3,\)"):
        load_cifar10(tmp_path, train=2, test=2)
