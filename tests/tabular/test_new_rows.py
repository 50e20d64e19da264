"""Predictions of a fit against the draws that they are made of, and against the estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from scipy.stats import norm

import bnnsample as bnn
from bnnsample.sklearn import BNNRegressor
from bnnsample.tabular.fits import fit_of
from bnnsample.tabular.predictions import _labels, predictions, quantile, write_table
from bnnsample.tabular.problem import Settings, pose
from bnnsample.tabular.targets import LabelTarget
from tests.conftest import X64
from tests.tabular.tables import diabetes

pytestmark = [
    pytest.mark.skipif(not X64, reason="tables are fitted in float64"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def test_labels_get_their_shares_over_all_draws(rng):
    logits = rng.standard_normal((50, 6, 3)) * 3
    found = _labels(LabelTarget("grape", ("a", "b", "c")), logits)
    expected = softmax(logits, axis=-1).mean(axis=0)
    np.testing.assert_allclose(found[[f"probability_{c}" for c in "abc"]], expected)
    assert found["grape"].tolist() == ["abc"[i] for i in expected.argmax(axis=1)]


def test_quantiles_of_a_mixture_are_exact():
    f, noise = np.array([[0.0, 5.0], [10.0, 5.0]]), np.array([1.0, 2.0])
    for share in (0.05, 0.5, 0.95):
        own = quantile(f, noise, share)
        below = norm.cdf(own, f, noise[:, None]).mean(axis=0)
        np.testing.assert_allclose(below, share, atol=1e-7)


@pytest.mark.slow
def test_a_fit_predicts_what_the_estimator_does_on_the_same_rows():
    numbers = ["age", "sex", "bp", "s1", "s2", "s3", "s4", "s5", "s6", "progression"]
    table = diabetes(150)[numbers]
    settings = Settings("progression", width=30, warmup=200, test=0.3)
    posed = pose(table, settings)
    run = bnn.sample(
        posed.posterior(), warmup=200, draws=300, keep=("predictions", "parameters"),
        x_test=posed.x_test,
    )  # fmt: skip
    rows = table.loc[posed.held_out.index]
    found = predictions(fit_of(posed, ""), run, rows).set_index(rows.index)
    train = table.drop(index=rows.index)
    model = BNNRegressor(width=30, warmup=200, draws=300, random_state=1)
    model.fit(train[numbers[:-1]], train["progression"])
    mean, std = model.predict(rows[numbers[:-1]], return_std=True)
    # one posterior: they differ by Monte-Carlo error alone
    assert np.max(np.abs(found["mean"] - mean) / std) < 0.1
    np.testing.assert_allclose(found["std"], std, rtol=0.1)
    errors = [np.sqrt(np.mean((m - rows["progression"]) ** 2)) for m in (found["mean"], mean)]
    assert errors[0] == pytest.approx(errors[1], rel=0.02)
    assert errors[0] < 0.9 * rows["progression"].std()


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_predictions_are_written_whole(name, tmp_path):
    table = pd.DataFrame({"mean": [1.5, 2.0], "label": ["a", "b"]})
    write_table(table, tmp_path / "new" / name)
    read = pd.read_csv if name.endswith("csv") else pd.read_parquet
    pd.testing.assert_frame_equal(read(tmp_path / "new" / name), table)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
