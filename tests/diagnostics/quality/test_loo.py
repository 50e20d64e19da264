"""Leave-one-out of a linear model, whose law is known with every point and without each."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from arviz_stats.loo import loo as psis_loo
from scipy.stats import norm

import bnnsample as bnn
from bnnsample.diagnostics.quality.loo import loo
from bnnsample.sampling.predict import log_likelihood
from tests.drawn import drawn_run

N, NOISE = 60, 0.8
NETWORK = bnn.Network([bnn.Activation("relu"), bnn.Dense(1, 1.4, 0.3)])


@pytest.fixture(scope="module")
def posterior():
    rng = np.random.default_rng(11)
    x = rng.standard_normal((N, 4))
    y = np.maximum(x, 0) @ rng.standard_normal((4, 1)) * 0.7 + NOISE * rng.standard_normal((N, 1))
    return bnn.Posterior(NETWORK, x, y, bnn.Gaussian(NOISE))


def exact_run(posterior, seed):
    """Independent draws of the exact posterior: without hidden weights the map is all there is."""
    target = bnn.repriorised(posterior)

    def law(key):
        phi_key, other = jax.random.split(key)
        return target.constrain(jax.random.normal(phi_key, (target.dim,), posterior.x.dtype), other)

    return drawn_run(posterior, chains=2, draws=1000, seed=seed, law=law)


def exact_loo(posterior) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of each point given the others, and given all (Rasmussen and Williams 5.12)."""
    features = np.asarray(posterior.network.features(((),), posterior.x))
    gram, y = features @ features.T, np.asarray(posterior.y)[:, 0]
    inverse = np.linalg.inv(gram + NOISE**2 * np.eye(N))
    variance = 1 / np.diagonal(inverse)
    without = norm(y - inverse @ y * variance, np.sqrt(variance)).logpdf(y)
    mean = gram @ inverse @ y
    inside = np.diagonal(gram - gram @ inverse @ gram) + NOISE**2
    return without, norm(mean, np.sqrt(inside)).logpdf(y)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_exact_one_within_monte_carlo_error(seed, posterior):
    run = exact_run(posterior, seed)
    found = loo(run)
    without, inside = exact_loo(posterior)
    assert found.n_data_points == N
    assert found.pareto_k.max() < 0.7
    # 2000 independent draws: points err by some hundredths, their sum by less than 0.2
    np.testing.assert_allclose(found.elpd_i, without, atol=0.1)
    assert abs(found.elpd - without.sum()) < 0.2
    assert found.se == pytest.approx(np.sqrt(N) * without.std(), rel=0.05)
    # the density given all points, this one too, is another
    assert inside.sum() - without.sum() > 1
    assert "log_likelihood" not in run.children


def test_log_likelihoods_that_are_there_are_used(posterior):
    run = log_likelihood(exact_run(posterior, 0))
    run["log_likelihood"]["y"] = run["log_likelihood"]["y"] - 1.0
    assert loo(run).elpd == pytest.approx(loo(exact_run(posterior, 0)).elpd - N)


def test_independent_draws_are_efficient_and_repeated_ones_are_not(posterior):
    run = log_likelihood(exact_run(posterior, 1))
    repeated = run.copy(deep=False)
    repeated["log_likelihood"] = run["log_likelihood"].isel(draw=np.repeat(np.arange(100), 10))
    # stated tails: with a tenth of the effective draws fewer are smoothed
    assert loo(run).elpd == pytest.approx(loo(repeated).elpd, abs=3)


def test_points_that_all_draws_agree_on_are_computed_apart(rng):
    # without biases the output at 0 is 0
    x = np.r_[np.zeros((2, 3)), 0.3 * rng.standard_normal((4, 3))]
    y = 0.3 * rng.standard_normal((6, 1))
    posterior = bnn.Posterior(bnn.fcn(1, 5, 1, b_std=None, b_std_out=None), x, y, bnn.Gaussian(2.0))
    run = drawn_run(posterior, draws=300)
    found = loo(run)
    known = norm(0, 2.0).logpdf(y[:2, 0])
    np.testing.assert_allclose(found.elpd_i[:2], known, rtol=1e-6)
    assert np.all(np.asarray(found.pareto_k[:2]) == -np.inf)
    rest = log_likelihood(run)
    rest["log_likelihood"] = rest["log_likelihood"].isel(point=slice(2, None))
    others = loo(rest)
    np.testing.assert_allclose(found.elpd_i[2:], others.elpd_i, rtol=1e-6)
    np.testing.assert_allclose(found.pareto_k[2:], others.pareto_k, rtol=1e-6)
    assert found.elpd == pytest.approx(others.elpd + known.sum())
    assert found.p == pytest.approx(others.p, abs=1e-6)
    nowhere = bnn.Posterior(posterior.network, x[:2], y[:2], posterior.likelihood)
    assert loo(drawn_run(nowhere, draws=300)).elpd == pytest.approx(known.sum())


def test_it_is_arvizs_own(posterior):
    run = log_likelihood(exact_run(posterior, 2))
    logs = run["log_likelihood"]["y"].values
    draws = logs.shape[0] * logs.shape[1]
    theirs = psis_loo(run, pointwise=True, var_name="y", reff=1.0)
    ours = loo(run)
    assert ours.elpd == pytest.approx(theirs.elpd, abs=0.05)
    np.testing.assert_allclose(ours.pareto_k, theirs.pareto_k, atol=0.2)
    assert (ours.n_samples, ours.n_data_points) == (draws, N)


def test_too_few_draws_that_differ_are_refused(posterior):
    run = log_likelihood(exact_run(posterior, 0))
    for place, got in (
        (np.arange(9), "got 9 draws; expected at least 25"),
        (np.arange(1), "got 1 draws; expected at least 25"),
        (np.repeat([0, 1], 500), "probably chains that do not move"),
    ):
        short = run.copy(deep=False)
        short["log_likelihood"] = run["log_likelihood"].isel(draw=place, chain=[0])
        short["posterior"] = run["posterior"].isel(draw=place, chain=[0])
        with pytest.raises(ValueError, match=got):
            loo(short)


def test_a_run_that_is_not_finished_is_refused(posterior):
    run = exact_run(posterior, 0)
    del run.attrs["sampling_seconds"]
    with pytest.raises(ValueError, match="not finished"):
        loo(run)
