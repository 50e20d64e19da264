"""What estimators refuse, and what they warn of because an answer would be worth little."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

import bnnsample as bnn
from bnnsample.limits import hyperposterior
from bnnsample.sklearn import BNNRegressor, NNGPClassifier, NNGPRegressor, limit
from tests.estimators.test_conventions import QUICK, labels, short, table


def test_copies_of_rows_sharpen_the_process_and_leave_its_scales_alone(rng):
    X, y = table(rng)
    X_test, _ = table(rng)
    once, twice = NNGPRegressor().fit(X, y), NNGPRegressor().fit(X, y, np.full(30, 2))
    noise = once.likelihood_.noise_std
    assert noise > 0.05
    np.testing.assert_allclose(twice.likelihood_.noise_std, noise, rtol=1e-6)
    # two equal observations are one with half the noise variance
    z = (y - y.mean()) / y.std()
    halved = bnn.Posterior(
        twice.network_, once.x_scaler_.transform(X), z, bnn.Gaussian(noise / 2**0.5)
    )
    mean, std = bnn.limits.predictive.limit_marginals(
        halved, once.x_scaler_.transform(X_test), None
    )
    found, spread = twice.predict(X_test, return_std=True)
    tolerance = 1e-6 if np.asarray(mean).dtype == np.float64 else 1e-2
    np.testing.assert_allclose(found, y.mean() + y.std() * mean[:, 0], rtol=tolerance)
    total = y.std() * np.sqrt(np.asarray(std)[:, 0] ** 2 + noise**2)
    np.testing.assert_allclose(spread, total, rtol=tolerance)
    assert np.max(np.abs(found / once.predict(X_test) - 1)) > 1e-3


@short
@pytest.mark.slow
@pytest.mark.parametrize(
    ("copied", "noise_std", "told"),
    [(14, None, 1), (12, None, 0), (20, 1.0, 0)],
)
def test_a_noise_that_most_rows_say_is_not_there_is_warned_of(copied, noise_std, told, rng):
    X, y = table(rng)
    X, y = X[:20], y[:20]
    weights = np.where(np.arange(20) < copied / 2, 2, 1)
    model = BNNRegressor(**QUICK, noise_std=noise_std, random_state=0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        model.fit(X, y, sample_weight=weights)
    found = [one for one in seen if "rows are equal to others" in str(one.message)]
    assert len(found) == told
    assert all(one.filename == __file__ for one in found)


def test_a_search_for_scales_that_stopped_short_is_a_convergence_warning(rng, monkeypatch):
    monkeypatch.setattr(hyperposterior, "MAX_ITERATIONS", 1)
    with pytest.warns(ConvergenceWarning, match="after 1 steps; the scales it stopped at") as seen:
        NNGPRegressor().fit(*table(rng))
    assert seen[0].filename == __file__


def test_an_approximation_without_a_mode_is_a_convergence_warning(rng, monkeypatch):
    X, y = table(rng)
    assert NNGPClassifier().fit(X, labels(y)).likelihood_ == bnn.Categorical()
    given = limit.given
    monkeypatch.setattr(
        limit, "given", lambda of: dataclasses.replace(given(of), converged=np.array(False))
    )
    with pytest.warns(ConvergenceWarning, match="found no mode of the logits") as seen:
        NNGPClassifier().fit(X, labels(y))
    assert seen[0].filename == __file__


@pytest.mark.parametrize(
    ("noise_std", "message"),
    [
        (-1.0, "noise_std: got -1.0; expected a finite number above 0"),
        ("1.7", "noise_std: got '1.7'; expected a finite number"),
        ([1.0, float("nan")], "noise_std: got nan; expected a finite number"),
        ([1.0, 2.0, 3.0], r"got an array of shape \(3,\); expected .* an array \(2,\)"),
    ],
)
@pytest.mark.parametrize("kind", [NNGPRegressor, BNNRegressor])
def test_a_bad_noise_is_reported_as_it_was_given(kind, noise_std, message, rng):
    with pytest.raises(bnn.BadInput, match=message):
        kind(noise_std=noise_std).fit(*table(rng, outputs=2))


@short
@pytest.mark.parametrize(
    "estimator",
    [NNGPRegressor(), pytest.param(BNNRegressor(**QUICK, random_state=0), marks=pytest.mark.slow)],
)
def test_targets_that_do_not_differ_and_no_samples_are_refused(estimator, rng):
    X, y = table(rng, outputs=2)
    estimator.fit(X, y)
    with pytest.raises(bnn.BadInput, match="n_samples: got 0"):
        estimator.sample_y(X[:2], 0)
    with pytest.raises(bnn.BadInput, match="y: got n_samples=30 with one value of a target"):
        estimator.fit(X, y * (1, 0))
