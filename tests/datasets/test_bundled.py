"""Bundled data: standardised by training points only, split without overlap, fixed by the seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from bnnsample.datasets import DATASETS, Dataset, load

SIZES = {"digits": (1797, 64, 10), "diabetes": (442, 10, 1)}
"""Points, features and outputs."""

RAW: dict[str, Any] = {
    "digits": sklearn.datasets.load_digits(),
    "diabetes": sklearn.datasets.load_diabetes(),
}


def rows(array: np.ndarray) -> set[bytes]:
    return {np.round(row, 9).tobytes() for row in array}


def arrays(data: Dataset) -> tuple[np.ndarray, ...]:
    return data.x_train, data.y_train, data.x_test, data.y_test


def raw_rows(name: str, train: int, test: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The points that ``load`` gives, training first, as scikit-learn has them.

    Standardisation keeps the order of every column's values, so sorting all rows by all columns
    matches loaded rows to raw ones, whatever the statistics and the choice of points.
    """
    bundle = RAW[name]
    everything = load(name, train=train, test=len(bundle.data) - train, seed=seed)
    loaded = np.concatenate([everything.x_train, everything.x_test])
    matched = np.empty(len(loaded), int)
    matched[np.lexsort(loaded.T)] = np.lexsort(bundle.data.T)
    return bundle.data[matched[: train + test]], bundle.target[matched[: train + test]]


def test_every_data_set_is_tested() -> None:
    assert set(SIZES) == set(DATASETS)


@pytest.mark.parametrize("name", SIZES)
def test_shapes_and_values_are_as_asked(name: str) -> None:
    _, features, outputs = SIZES[name]
    data = load(name, train=23, test=11)
    assert data.name == name
    assert data.x_train.shape == (23, features)
    assert data.x_test.shape == (11, features)
    assert data.y_train.shape == (23, outputs)
    assert data.y_test.shape == (11, outputs)
    for array in arrays(data):
        assert array.dtype == np.float64
        assert np.isfinite(array).all()


@pytest.mark.parametrize("name", SIZES)
def test_the_seed_fixes_the_points(name: str) -> None:
    one, again, other = (load(name, train=23, test=11, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(arrays(one), arrays(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.x_train, other.x_train)


@pytest.mark.parametrize("name", SIZES)
def test_training_and_test_points_are_disjoint_and_cover_all_points(name: str) -> None:
    points, _, _ = SIZES[name]
    data = load(name, train=100, test=points - 100, seed=5)
    together = np.concatenate([data.x_train, data.x_test])
    distinct_raw = len(rows(RAW[name].data))
    assert len(rows(together)) == distinct_raw == points
    assert not rows(data.x_train) & rows(data.x_test)


@pytest.mark.parametrize("name", SIZES)
def test_more_test_points_change_neither_training_points_nor_their_values(name: str) -> None:
    few, many = load(name, train=23, test=7), load(name, train=23, test=300)
    np.testing.assert_array_equal(few.x_train, many.x_train)
    np.testing.assert_array_equal(few.y_train, many.y_train)
    np.testing.assert_array_equal(few.x_test, many.x_test[:7])
    np.testing.assert_array_equal(few.y_test, many.y_test[:7])


def test_table_columns_are_standardised_by_training_points_only() -> None:
    data = load("diabetes", train=50, test=300, seed=2)
    for train, test in ((data.x_train, data.x_test), (data.y_train, data.y_test)):
        np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(train.std(axis=0), 1, rtol=1e-12)
        # statistics of all points would leave no difference at all in the test points
        together = np.concatenate([train, test])
        assert np.abs(together.mean(axis=0)).max() > 0.01
        assert np.abs(together.std(axis=0) - 1).max() > 0.01


def test_table_values_are_the_raw_ones_moved_by_the_training_statistics() -> None:
    x, y = raw_rows("diabetes", 50, 11, seed=2)
    data = load("diabetes", train=50, test=11, seed=2)
    expected_x = (x - x[:50].mean(axis=0)) / x[:50].std(axis=0)
    expected_y = (y - y[:50].mean()) / y[:50].std()
    np.testing.assert_allclose(data.x_test, expected_x[50:], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(data.x_train, expected_x[:50], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(data.y_test[:, 0], expected_y[50:], rtol=1e-10)
    np.testing.assert_allclose(data.y_train[:, 0], expected_y[:50], rtol=1e-10)


def test_a_column_that_is_constant_in_training_is_centred_and_finite() -> None:
    # one training point: every column is constant
    data = load("diabetes", train=1, test=9)
    np.testing.assert_array_equal(data.x_train, 0)
    np.testing.assert_array_equal(data.y_train, 0)
    assert np.isfinite(data.x_test).all()
    assert np.ptp(data.x_test, axis=0).all()


def test_pixels_share_one_mean_and_std_of_the_training_images() -> None:
    x, _ = raw_rows("digits", 40, 13, seed=1)
    data = load("digits", train=40, test=13, seed=1)
    assert data.x_train.mean() == pytest.approx(0, abs=1e-12)
    assert data.x_train.std() == pytest.approx(1, rel=1e-12)
    expected = (x - x[:40].mean()) / x[:40].std()
    np.testing.assert_allclose(data.x_train, expected[:40], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(data.x_test, expected[40:], rtol=1e-10, atol=1e-12)


def test_classes_are_one_hot_minus_one_over_their_number() -> None:
    _, labels = raw_rows("digits", 40, 13, seed=1)
    data = load("digits", train=40, test=13, seed=1)
    y = np.concatenate([data.y_train, data.y_test])
    np.testing.assert_allclose(np.sort(y, axis=1)[:, :-1], -0.1, rtol=1e-12)
    np.testing.assert_allclose(y.max(axis=1), 0.9, rtol=1e-12)
    np.testing.assert_allclose(y.sum(axis=1), 0, atol=1e-12)
    np.testing.assert_array_equal(y.argmax(axis=1), labels)


def test_loading_leaves_the_bundled_arrays_alone() -> None:
    before = sklearn.datasets.load_diabetes().data.copy()  # pyright: ignore[reportAttributeAccessIssue]
    load("diabetes", train=5, test=3)
    np.testing.assert_array_equal(sklearn.datasets.load_diabetes().data, before)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("arguments", "subject"),
    [
        ({"name": "mnist"}, "data set: got 'mnist'; expected one of digits, diabetes"),
        ({"name": "Digits"}, "data set"),
        ({"name": "digits", "train": 0}, "train: got 0"),
        ({"name": "digits", "train": -3}, "train: got -3"),
        ({"name": "digits", "test": 0}, "test: got 0"),
        ({"name": "digits", "train": 2.5}, "train: got 2.5"),
        ({"name": "digits", "train": True}, "train: got True"),
        ({"name": "diabetes", "train": 400, "test": 43}, "at most 442 together in diabetes"),
        ({"name": "digits", "train": 5, "test": 2, "seed": -1}, "seed: got -1"),
    ],
)
def test_bad_arguments_are_refused_in_three_parts(arguments: dict, subject: str) -> None:
    with pytest.raises(ValueError, match="got") as caught:
        load(**arguments)
    assert subject in str(caught.value)
    for part in ("; expected ", "; probably "):
        assert part in str(caught.value)


def test_all_points_but_no_more_can_be_asked_for() -> None:
    assert len(load("diabetes", train=400, test=42).x_test) == 42
