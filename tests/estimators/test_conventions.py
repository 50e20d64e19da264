"""scikit-learn's own checks of the estimators, and what they do not look at."""

from __future__ import annotations

import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import bnnsample as bnn
from bnnsample.sklearn import BNNClassifier, BNNRegressor, NNGPClassifier, NNGPRegressor

QUICK = {"width": 7, "sampler": bnn.HMC(2), "chains": 2, "warmup": 5, "draws": 9}
ESTIMATORS = (
    NNGPRegressor(),
    NNGPClassifier(),
    BNNRegressor(**QUICK, random_state=0),
    BNNClassifier(**QUICK, random_state=0),
)
EACH = [
    pytest.param(each, id=type(each).__name__,
                 marks=() if isinstance(each, NNGPRegressor) else pytest.mark.slow)
    for each in ESTIMATORS
]  # fmt: skip
short = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(list(ESTIMATORS))
def test_scikit_learns_checks_pass(estimator, check):
    check(estimator)


def table(rng, outputs: int = 1):
    X = rng.standard_normal((30, 3)) * (0.1, 5.0, 70.0) + (3.0, -1.0, 0.0)
    z = (X - X.mean(axis=0)) / X.std(axis=0)
    y = 50 + 9 * np.tanh(z @ rng.standard_normal((3, outputs))) + rng.standard_normal((30, outputs))
    return X, y[:, 0] if outputs == 1 else y


def labels(y):
    return np.array(["few", "some", "many"])[np.digitize(y, np.quantile(y, (0.3, 0.6)))]


def fitted(estimator, rng):
    X, y = table(rng)
    classes = hasattr(estimator, "predict_proba")
    return clone(estimator).fit(X, labels(y) if classes else y), X


@short
@pytest.mark.parametrize("estimator", EACH)
def test_a_pickle_predicts_the_same_and_precision_is_float64_whatever_jax_is_set_to(
    estimator, rng, tmp_path
):
    before = jax.config.jax_enable_x64
    model, X = fitted(estimator, rng)
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    expected = getattr(model, method)(X)
    assert jax.config.jax_enable_x64 is before
    assert expected.dtype == np.float64
    (tmp_path / "model.pkl").write_bytes(pickle.dumps((model, X)))
    script = f"""
import pickle, sys, numpy as np
model, X = pickle.load(open("model.pkl", "rb"))
np.save("found.npy", model.{method}(X))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, rtol=1e-9)


@short
@pytest.mark.filterwarnings("ignore:.*rows are equal to others:UserWarning")
@pytest.mark.parametrize("estimator", EACH)
def test_rows_in_any_order_and_weights_as_repetitions_fit_the_same(estimator, rng):
    X, y = table(rng)
    y = labels(y) if hasattr(estimator, "predict_proba") else y
    counts = rng.integers(0, 3, len(X))
    order = rng.permutation(len(X))
    once = clone(estimator).fit(X[order], y[order], sample_weight=counts[order])
    again = clone(estimator).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    without = clone(estimator).fit(X, y)
    method = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
    ours, theirs, unweighted = (getattr(each, method)(X) for each in (once, again, without))
    np.testing.assert_allclose(ours, theirs, rtol=1e-8)
    assert np.max(np.abs(ours / unweighted - 1)) > 1e-3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.full(30, 0.5), "sample_weight: got weights such as 0.5; expected whole numbers"),
        (np.full(30, -1.0), "got weights such as -1.0; expected whole numbers"),
        (np.zeros(30), "at least one non-zero"),
    ],
)
def test_weights_that_no_posterior_is_exact_for_are_refused(weights, message, rng):
    with pytest.raises(ValueError, match=message):
        NNGPRegressor().fit(*table(rng), sample_weight=weights)


def test_one_class_is_refused_and_what_is_not_fitted_says_so(rng):
    X, _ = table(rng)
    with pytest.raises(ValueError, match="y: got one class"):
        NNGPClassifier().fit(X, np.ones(30))
    for estimator in ESTIMATORS:
        with pytest.raises(NotFittedError):
            estimator.predict(X)


def test_chains_that_did_not_converge_are_warned_of_with_advice(rng):
    with pytest.warns(ConvergenceWarning, match="did not converge: .*draws= or warmup="):
        model, _ = fitted(BNNRegressor(**QUICK, random_state=1), rng)
    assert not model.verdict_.ok
