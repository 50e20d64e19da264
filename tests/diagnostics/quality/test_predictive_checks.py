"""Checks of replicated data pass where the model made the data, and fail where it did not."""

from __future__ import annotations

import numpy as np
import pytest

import bnnsample as bnn
from bnnsample.diagnostics.quality.predictive_checks import posterior_predictive_check
from bnnsample.sampling.predict import predict
from tests.drawn import drawn_run
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS

N, D, OUT, DRAWS = 25, 2, 4, 450
STATISTICS = ("mean", "standard deviation", "smallest", "largest")


def run_of(name: str, seed: int, spoil=lambda y: y, outputs: int = OUT):
    """A run whose data are one of the replications of its own law, or were spoilt afterwards."""
    rng = np.random.default_rng(seed)
    likelihood = LIKELIHOODS[name].likelihood
    x = rng.standard_normal((N, D))
    y = LIKELIHOODS[name].targets(rng, N, outputs)
    network = bnn.fcn(1, 5, outputs)
    made = drawn_run(bnn.Posterior(network, x, y, likelihood), x, seed=seed)
    y = spoil(made["predictions"]["y"].values[0, 0])
    posterior = bnn.Posterior(network, x, y, likelihood)
    return drawn_run(posterior, x, draws=DRAWS, seed=seed + 1000), y


@pytest.mark.parametrize("name", EACH_LIKELIHOOD)
def test_data_of_the_model_pass(name):
    run, y = run_of(name, 1)
    columns = y.shape[1]
    names = {
        "Bernoulli": ["share of ones"],
        "categorical": ["share of class"],
        "Poisson": [*STATISTICS, "share of zeros"],
        "negative binomial": [*STATISTICS, "share of zeros"],
    }.get(name, STATISTICS)
    count = OUT if name == "categorical" else columns
    for found in (posterior_predictive_check(run), posterior_predictive_check(run, y)):
        assert [f.name for f in found.findings] == [f"{n} {c}" for n in names for c in range(count)]
        # five statistics below 0.005 in two columns of four, of replications: one of 250 at most
        assert len({f.name.split()[-1] for f in found.failed}) <= 1
        assert all(f.ok is None for f in found.findings if f.value >= f.threshold)
        assert all(0 < f.value <= 1 for f in found.findings)


@pytest.mark.parametrize("seed", range(3))
def test_an_outlier_fails_and_only_where_it_shows(seed):
    def spoil(y):
        y = y.copy()
        y[3, 0] += 40.0
        return y

    run, y = run_of("Gaussian", seed, spoil, outputs=1)
    for found in (posterior_predictive_check(run), posterior_predictive_check(run, y)):
        assert {f.name for f in found.failed} >= {"largest"}
        assert "StudentT()" in next(f.advice for f in found.failed if f.name == "largest")
        assert "smallest" not in {f.name for f in found.failed}
        assert not found.ok


def test_targets_that_are_cut_off_are_told_from_outliers():
    run, y = run_of("Gaussian", 1, lambda y: np.clip(y, -0.1, None), outputs=1)
    for found in (posterior_predictive_check(run), posterior_predictive_check(run, y)):
        advice = {f.name: f.advice for f in found.failed}
        assert "bounded" in advice["smallest"]
        assert "StudentT()" not in advice["smallest"]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_too_many_zeros_fail(seed):
    run, y = run_of("Poisson", seed, lambda y: np.where(np.arange(N)[:, None] < 23, 0, 9), 1)
    assert (y == 0).mean() == 0.92
    advice = {f.name: f.advice for f in posterior_predictive_check(run).failed}
    assert "NegativeBinomial()" in advice["share of zeros"]


@pytest.mark.parametrize("seed", range(3))
def test_a_mean_out_of_reach_is_not_the_noises_business(seed):
    run, y = run_of("Gaussian", seed, lambda y: y + 30.0, outputs=1)
    for found in (posterior_predictive_check(run), posterior_predictive_check(run, y)):
        advice = {f.name: f.advice for f in found.failed}
        assert "whatever the noise" in advice["mean"]
        assert "standard deviation" not in advice


def test_held_out_targets_of_the_model_fail_one_time_of_a_hundred():
    run, _ = run_of("Gaussian", 6, outputs=1)
    draws = run["predictions"]["y"].values.reshape(-1, N, 1)
    fails, each = [], []
    for place in range(400):
        found = posterior_predictive_check(run, draws[place])
        fails.append(not found.ok)
        each.append(sum(f.value < 0.01 for f in found.findings) > 0)
        assert all(f.threshold == pytest.approx(0.01 / 4) for f in found.findings)
    # binomial: more than 13 of 400 at 0.01 have a probability of 2e-4
    assert sum(fails) <= 13
    # without sharing the level out
    assert sum(each) > sum(fails)


@pytest.mark.parametrize(("draws", "few"), [(199, True), (200, False)])
def test_too_few_draws_are_said_to_be(draws, few):
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, 1)) + 1000
    posterior = bnn.Posterior(bnn.fcn(1, 5, 1), x, y, bnn.Gaussian(0.4))
    found = posterior_predictive_check(drawn_run(posterior, draws=draws))
    assert all("too few draws to judge" in f.figure for f in found.findings) == few
    assert found.ok == few
    assert (found.summary == "4 told, none judged") == few


def test_figures_are_those_of_the_replications():
    run, y = run_of("Student t", 2)
    replicated = run["predictions"]["y"].values.reshape(-1, N, OUT)
    found = {f.name: f for f in posterior_predictive_check(run, y).findings}
    for name, statistic in {
        "mean": np.mean,
        "standard deviation": np.std,
        "largest": np.max,
    }.items():
        values = statistic(replicated, axis=1)[:, 2]
        observed = statistic(y, axis=0)[2]
        tails = np.sum(values >= observed), np.sum(values <= observed)
        expected = min(1.0, 2 * (1 + min(tails)) / (1 + len(values)))
        own = found[f"{name} 2"]
        assert own.value == pytest.approx(expected, abs=2 / len(values))
        assert f"observed {observed:.4g}, replicated {values.mean():.4g} ±" in own.figure


def test_training_replications_are_those_of_predict():
    run, _ = run_of("Gaussian", 4, outputs=1)
    replicated = predict(run, run["constant_data"]["x"].values, seed=6)["y"].values[..., 0]
    mean = posterior_predictive_check(run, seed=6).findings[0]
    assert f"replicated {replicated.mean():.4g} ±" in mean.figure
    assert mean.figure != posterior_predictive_check(run, seed=7).findings[0].figure


def test_bad_input_is_refused():
    run, y = run_of("Gaussian", 5)
    with pytest.raises(ValueError, match="y_test: got 3 rows"):
        posterior_predictive_check(run, y[:3])
    with pytest.raises(ValueError, match="without the group sample_stats"):
        posterior_predictive_check(run["posterior"])
    with pytest.raises(ValueError, match="seed: got 1.5"):
        posterior_predictive_check(run, seed=1.5)
