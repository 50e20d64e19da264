"""Scores of labels against scikit-learn's, and their calibration on labels of a known law."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

import bnnsample as bnn
from bnnsample.diagnostics.quality.classes import BINS, REPLICATES, label_scores, reliability
from bnnsample.diagnostics.quality.predictive import Predictive
from bnnsample.diagnostics.quality.quality import quality
from tests.conftest import X64

K, M, CLASSES = 6, 70, 3
CLOSE = {"rtol": 1e-9 if X64 else 1e-4, "atol": 0 if X64 else 1e-4}


def softmax(f: np.ndarray) -> np.ndarray:
    exponential = np.exp(f - f.max(axis=-1, keepdims=True))
    return exponential / exponential.sum(axis=-1, keepdims=True)


def drawn(probabilities: np.ndarray, rng) -> np.ndarray:
    """A label for each row of probabilities."""
    return (rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def test_classes_are_scored_as_scikit_learn_does(rng):
    f = 1.5 * rng.standard_normal((K, M, CLASSES))
    probabilities = softmax(f).mean(axis=0)
    y = rng.integers(0, CLASSES, M)
    found = quality(Predictive(bnn.Categorical(), jnp.asarray(f)), y)
    chosen, labels = probabilities.argmax(axis=1), np.arange(CLASSES)
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(y, chosen),
        "log loss": sklearn.metrics.log_loss(y, probabilities, labels=labels),
        "Brier": sklearn.metrics.brier_score_loss(
            y, probabilities, labels=labels, scale_by_half=False
        ),
    }
    assert {n: s.value for n, s in found.scores.items()} == pytest.approx(
        expected, rel=CLOSE["rtol"]
    )
    losses = -np.log(probabilities[np.arange(M), y])
    error = losses.std(ddof=1) / M**0.5
    assert found.scores["log loss"].error == pytest.approx(error, rel=CLOSE["rtol"] * 10)


def test_two_classes_an_output_are_scored_as_scikit_learn_does(rng):
    f = 1.5 * rng.standard_normal((K, M, 2))
    ones = (1 / (1 + np.exp(-f))).mean(axis=0)
    y = rng.integers(0, 2, (M, 2))
    found = label_scores(Predictive(bnn.Bernoulli(), jnp.asarray(f)), jnp.asarray(y), seed=0)
    for column in range(2):
        truth, p = y[:, column], ones[:, column]
        for score, expected in {
            "log_loss": sklearn.metrics.log_loss(truth, p),
            "brier": sklearn.metrics.brier_score_loss(truth, p, scale_by_half=False),
            "right": sklearn.metrics.accuracy_score(truth, p > 0.5),
            "confidence": np.maximum(p, 1 - p).mean(),
        }.items():
            values = getattr(found, score)[:, column]
            np.testing.assert_allclose(values.mean(), expected, rtol=1e-9 if X64 else 1e-4)


def independent(confidence: np.ndarray, replicates: int = 200) -> np.ndarray:
    """Whether labels that know nothing of each other are right."""
    rng = np.random.default_rng(5)
    return rng.random((confidence.size, replicates)) < confidence[:, None]


def test_improbable_labels_have_a_finite_log_loss():
    predictive = Predictive(bnn.Categorical(), jnp.asarray([[[0.0, 900.0]]]))
    assert quality(predictive, [0]).scores["log loss"].value == pytest.approx(900)


def test_the_table_is_that_of_sums_by_hand(rng):
    confidence, right = rng.random(M), rng.integers(0, 2, M).astype(float)
    found = reliability(confidence, right, independent(confidence))
    total = 0.0
    for cell in range(BINS):
        own = (confidence >= found.edges[cell]) & (confidence < found.edges[cell + 1])
        assert found.count[cell] == own.sum()
        if own.any():
            assert found.accuracy[cell] == pytest.approx(right[own].mean())
            assert found.confidence[cell] == pytest.approx(confidence[own].mean())
            total += own.sum() * abs(right[own].mean() - confidence[own].mean())
        else:
            assert np.isnan(found.accuracy[cell])
    assert found.error == pytest.approx(total / M)


def test_full_confidence_is_in_the_last_bin():
    confidence = np.array([1.0, 0.99, 0.31])
    found = reliability(confidence, np.array([1.0, 1.0, 0.0]), independent(confidence))
    assert found.count.tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 0, 2]
    assert np.isnan(found.band[:, 0]).all()


def forecast(seed: int, *, sharper: float = 1.0, points: int = 400):
    """Classes of a known law, and a forecast of it, or one that is surer of itself."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((points, CLASSES))
    y = drawn(softmax(logits), rng)
    return Predictive(bnn.Categorical(), jnp.asarray(sharper * logits[None])), y


@pytest.mark.slow
def test_calibrated_forecasts_are_in_the_band_and_overconfident_ones_are_not():
    fair = [quality(*forecast(seed), seed=seed).reliability for seed in range(40)]
    # each fails 1 time of 40: more than 5 of 40 have a probability of 5e-4
    assert sum(not found.ok for found in fair) <= 5
    assert all(found.error > 0 for found in fair)
    # of 4 or 5 accuracies of more than 20 labels each, one of twenty or so is out of its band
    inside = [
        (found.band[0] <= found.accuracy) & (found.accuracy <= found.band[1])
        for found in fair
    ]  # fmt: skip
    seen = np.concatenate([inside[i][fair[i].count > 20] for i in range(40)])
    assert 0.9 < seen.mean() <= 1
    slightly = [quality(*forecast(seed, sharper=1.6, points=100)) for seed in range(30)]
    # about half; by the error alone two of five
    assert sum(not found.ok for found in slightly) > 9
    for seed in range(5):
        assert not quality(*forecast(seed, sharper=2.5), seed=seed).reliability.ok
        assert not quality(*forecast(seed, sharper=0.3), seed=seed).reliability.ok


def test_the_band_is_that_of_labels_drawn_from_the_forecast():
    predictive, _ = forecast(0, points=150)
    scores = label_scores(predictive, jnp.zeros((150, 1), int), seed=3)
    confidence = np.asarray(scores.confidence).ravel()
    rng = np.random.default_rng(8)
    none = np.zeros((150, 1))
    errors = [
        reliability(confidence, (rng.random(150) < confidence).astype(float), none).error
        for _ in range(200)
    ]
    low, high = reliability(
        confidence, np.ones(150), np.asarray(scores.replicated_right)
    ).error_band
    share = np.mean((low <= np.array(errors)) & (np.array(errors) <= high))
    # 0.95 with an error of 0.015, and of 0.007 from the band's own replicates
    assert REPLICATES >= 1000
    assert abs(share - 0.95) < 4 * 0.017


def shared(seed: int, *, apart: bool = False, surer: float = 1.0, points: int = 120):
    """Classes along a random slope, which all points share, and the law of that as forecast.

    Right but that points are drawn ``apart``, or that the slope is taken for surer than it is.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((points, 1))
    slopes = 1.5 * rng.standard_normal((301, 1, 1))
    y = rng.random((points, 1)) < 1 / (1 + np.exp(-slopes[0] * x))
    f = slopes[1:] * x
    if apart:
        f = rng.permuted(f, axis=0)
    if surer > 1:
        f = surer * x + (f - surer * x) / surer
    return Predictive(bnn.Bernoulli(), jnp.asarray(f)), y.astype(int)


def test_right_forecasts_of_points_that_share_a_function_are_ok():
    seeds = range(100)
    alarms = sum(not quality(*shared(seed), seed=seed).reliability.ok for seed in seeds)
    # each 1 time of 40: more than 9 of 100 have a probability of 1e-4
    assert alarms <= 9
    # the same forecasts, were points independent
    wrong = sum(not quality(*shared(s, apart=True), seed=s).reliability.ok for s in range(40))
    assert wrong > 20


def test_the_direction_of_what_is_wrong_is_told():
    found = [quality(*shared(seed, surer=4.0), seed=seed) for seed in range(20)]
    # slopes of the other sign are half of all, and no slope is as steep
    assert sum(one.direction == "too sure" and not one.ok for one in found) > 8
    for seed in range(5):
        assert quality(*forecast(seed, sharper=2.5), seed=seed).direction == "too sure"
        assert quality(*forecast(seed, sharper=0.3), seed=seed).direction == "not sure enough"
    fair = quality(*forecast(0))
    assert fair.ok
    assert fair.direction == "as sure as they should be"
    assert str(fair).endswith("predictions are     as sure as they should be")
    sure = np.repeat([0.65, 0.95], 50)
    mixed = reliability(sure, np.arange(100) < 65, independent(sure))
    assert mixed.direction == "too sure of some labels and not sure enough of others"


def test_what_is_told_is_json_and_a_table(rng):
    found = quality(*forecast(3, points=30))
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert set(told) == {"accuracy", "log loss", "Brier", "reliability", "joint"}
    assert told["reliability"]["count"] == found.reliability.count.tolist()
    assert None in told["reliability"]["accuracy"]
    assert [line.split("  ")[0] for line in str(found).splitlines()] == [
        "accuracy", "log loss", "Brier", "calibration error", "predictions are",
    ]  # fmt: skip
