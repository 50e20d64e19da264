"""What estimators predict, against the posteriors that they are made of."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import bnnsample as bnn
from bnnsample.sklearn import (
    BNNClassifier,
    BNNRegressor,
    NNGPClassifier,
    NNGPRegressor,
    limit,
    sampling,
)
from bnnsample.tabular import blocks
from tests.estimators.test_conventions import QUICK, labels, short, table


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("noise_std", [None, 1.7])
def test_the_limit_is_the_gaussian_process_of_standardised_data(outputs, noise_std, rng):
    X, y = table(rng, outputs)
    X_test, _ = table(rng, outputs)
    model = NNGPRegressor(noise_std=noise_std).fit(X, y)
    mean, std = model.predict(X_test, return_std=True)
    columns, scale = y.reshape(30, -1), y.reshape(30, -1).std(axis=0)
    x, x_test = ((a - X.mean(axis=0)) / X.std(axis=0) for a in (X, X_test))
    noise = np.broadcast_to(
        model.likelihood_.noise_std if noise_std is None else noise_std / scale, outputs
    )
    with jax.enable_x64(True):
        for o in range(outputs):
            z = (columns - columns.mean(axis=0)) / scale
            gp = bnn.nngp_posterior(model.network_, x, z, float(noise[o]))
            expected, variance = gp.marginals(x_test)
            found = mean.reshape(30, -1)[:, o], std.reshape(30, -1)[:, o]
            centre = columns[:, o].mean() + scale[o] * np.asarray(expected)[:, o]
            np.testing.assert_allclose(found[0], centre, rtol=1e-8)
            np.testing.assert_allclose(
                found[1], scale[o] * np.sqrt(variance + noise[o] ** 2), rtol=1e-6
            )
    assert mean.shape == std.shape == y.shape


@pytest.mark.parametrize("outputs", [1, 2])
def test_samples_of_the_limit_have_its_moments(outputs, rng):
    X, y = table(rng, outputs)
    model = NNGPRegressor().fit(X, y)
    mean, std = model.predict(X[:4], return_std=True)
    draws = model.sample_y(X[:4], 4000, random_state=3)
    assert draws.shape == (*mean.shape, 4000)
    # up to 16 statistics: one of 1000 sets has one beyond 4 standard errors
    assert np.all(np.abs(draws.mean(axis=-1) - mean) < 4 * std / 4000**0.5)
    assert np.all(np.abs(draws.std(axis=-1) / std - 1) < 4 / 8000**0.5)


@pytest.mark.slow
@short
@pytest.mark.parametrize("noise_std", [None, 1.7])
def test_predictions_are_those_of_the_fit_whatever_is_set_after_it(noise_std, rng):
    X, y = table(rng, 1)
    model = BNNRegressor(noise_std=noise_std, **QUICK).fit(X, y)
    expected = model.predict(X, return_std=True)
    model.set_params(noise_std=0.5 if noise_std is None else None)
    np.testing.assert_array_equal(model.predict(X, return_std=True), expected)


@pytest.mark.slow
def test_a_class_that_no_row_counts_for_is_none(rng):
    X, y = rng.standard_normal((30, 3)), np.repeat(["a", "b", "c"], 10)
    weights = np.where(y == "b", 0, 1)
    model = NNGPClassifier().fit(X, y, sample_weight=weights)
    without = NNGPClassifier().fit(X[y != "b"], y[y != "b"])
    assert list(model.classes_) == ["a", "c"]
    np.testing.assert_array_equal(model.predict_proba(X), without.predict_proba(X))
    with pytest.raises(ValueError, match="got one class"):
        NNGPClassifier().fit(X, y, sample_weight=np.where(y == "b", 1, 0))


@short
@pytest.mark.parametrize("outputs", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("noise_std", [None, pytest.param(1.7, marks=pytest.mark.slow)])
def test_a_sampled_network_averages_its_draws(outputs, noise_std, rng):
    X, y = table(rng, outputs)
    model = BNNRegressor(**QUICK, noise_std=noise_std, random_state=0).fit(X, y)
    mean, std = model.predict(X[:5], return_std=True)
    posterior, run = model.posterior_, model.run_
    assert posterior.x.dtype == np.float64
    scale = y.reshape(30, -1).std(axis=0)
    params = [
        [
            {name: run["posterior"][name].values[chain, draw] for name in run["posterior"]}
            for draw in range(9)
        ]
        for chain in range(2)
    ]
    x = (X[:5] - X.mean(axis=0)) / X.std(axis=0)
    f, variances = [], []
    for of_chain in params:
        for one in of_chain:
            hidden = one["layer_0_weight"], one["layer_0_bias"]
            with jax.enable_x64(True):
                first, _, last = posterior.network.layers
                pre = x @ hidden[0] * first.w_std / 3**0.5 + first.b_std * hidden[1]
                features = np.asarray(jax.nn.gelu(pre, approximate=False)) / 7**0.5 * last.w_std
            readout = one["readout"]
            f.append(features @ readout[:-1] + last.b_std * readout[-1])
            known = 1.7 / scale if noise_std else one["noise_std"]
            variances.append(np.broadcast_to(known**2, outputs))
    f, variances = np.array(f), np.mean(variances, axis=0)
    centre = y.reshape(30, -1).mean(axis=0) + scale * f.mean(axis=0)
    np.testing.assert_allclose(mean.reshape(5, -1), centre, rtol=1e-8)
    spread = scale * np.sqrt(f.var(axis=0) + variances)
    np.testing.assert_allclose(std.reshape(5, -1), spread, rtol=1e-8)
    assert model.sample_y(X[:5], 3).shape == (*mean.shape, 3)
    drawn = model.sample_y(X[:5], 4000, random_state=3)
    # up to 20 statistics: one of 1000 sets has one beyond 4 standard errors
    assert np.all(np.abs(drawn.mean(axis=-1) - mean) < 4 * std / 4000**0.5)
    assert np.all(np.abs(drawn.std(axis=-1) / std - 1) < 4 / 8000**0.5)


@pytest.mark.slow
@short
def test_probabilities_are_averaged_over_draws_in_the_order_of_classes(rng):
    X, y = table(rng)
    model = BNNClassifier(**QUICK, random_state=0).fit(X, labels(y))
    assert model.classes_.tolist() == ["few", "many", "some"]
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    with jax.enable_x64(True):
        f = bnn.predict(model.run_, x, posterior=model.posterior_)["f"].values
    np.testing.assert_allclose(model.predict_proba(X), softmax(f, axis=-1).mean(axis=(0, 1)))
    assert model.score(X, labels(y)) > 0.7


@short
@pytest.mark.parametrize(
    "estimator", [BNNRegressor, pytest.param(BNNClassifier, marks=pytest.mark.slow)]
)
def test_predictions_by_blocks_of_rows_are_those_of_all_at_once(estimator, rng, monkeypatch):
    X, y = table(rng)
    classes = estimator is BNNClassifier
    model = estimator(**QUICK, random_state=0).fit(X, labels(y) if classes else y)

    def predicted():
        return model.predict_proba(X) if classes else np.stack(model.predict(X, True))

    whole, sizes = predicted(), []
    monkeypatch.setattr(sampling, "ROWS", 7)
    monkeypatch.setattr(
        blocks, "predict",
        lambda run, x, **more: sizes.append(len(x)) or bnn.predict(run, x, **more),
    )  # fmt: skip
    np.testing.assert_allclose(predicted(), whole, rtol=1e-12)
    assert sizes == [7, 7, 7, 7, 2]


def test_the_limit_classifies_what_it_has_seen(rng):
    X, y = table(rng)
    model = NNGPClassifier().fit(X, labels(y))
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert model.score(X, labels(y)) > 0.7
    shuffled = labels(rng.permutation(y))
    assert model.score(X, shuffled) < 0.6


@pytest.mark.slow
@short
def test_it_works_in_pipelines_and_searches_and_keeps_names_of_columns(rng):
    pandas = pytest.importorskip("pandas")
    X, y = table(rng)
    frame = pandas.DataFrame(X, columns=["age", "income", "rooms"])
    search = GridSearchCV(NNGPRegressor(), {"depth": [1, 2]}, cv=2).fit(frame, y)
    assert search.best_estimator_.feature_names_in_.tolist() == ["age", "income", "rooms"]
    pipeline = make_pipeline(PolynomialFeatures(2), BNNRegressor(**QUICK, random_state=0))
    assert np.isfinite(cross_val_score(pipeline, X, y, cv=2)).all()
    with pytest.raises(ValueError, match="feature names should match"):
        search.best_estimator_.predict(frame.rename(columns={"age": "years"}))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_probabilities_of_normal_logits_are_their_averages(classes, rng):
    mean, std = rng.normal(size=(40, classes)), rng.uniform(0.2, 2.0, (40, 1))
    draws = rng.normal(mean, np.broadcast_to(std, mean.shape), (20_000, 40, classes))
    found = limit.class_probabilities(mean, np.broadcast_to(std**2, mean.shape))
    # 4 standard errors of 20 000 draws are 0.014 at most; the rule's own error is a few thousandths
    np.testing.assert_allclose(found, softmax(draws, axis=-1).mean(axis=0), atol=0.015)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    same = limit.class_probabilities(np.full((2, classes), 0.7), np.full((2, classes), 9.0))
    np.testing.assert_allclose(same, 1 / classes)


def test_many_classes_of_one_law_are_equally_probable():
    same = limit.class_probabilities(np.full((2, 100), -0.3), np.full((2, 100), 4.0))
    np.testing.assert_allclose(same, 0.01)


@pytest.mark.parametrize("estimator", [NNGPRegressor, NNGPClassifier])
def test_the_limit_predicts_by_blocks_what_it_predicts_at_once(estimator, rng, monkeypatch):
    X, y = table(rng)
    classes = estimator is NNGPClassifier
    model = estimator().fit(X, labels(y) if classes else y)

    def predicted():
        return model.predict_proba(X) if classes else np.stack(model.predict(X, True))

    whole, sizes, own = predicted(), [], type(model.given_).marginals
    monkeypatch.setattr(limit, "ROWS", 7)
    monkeypatch.setattr(
        type(model.given_), "marginals", lambda self, x: sizes.append(len(x)) or own(self, x)
    )
    np.testing.assert_allclose(predicted(), whole, rtol=1e-10)
    assert sizes == [7, 7, 7, 7, 2]
