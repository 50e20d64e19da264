"""Leave-one-out of a linear model, whose law is known with every point and without each."""

from __future__ import annotations

import jax
import numpy as np
import pytest
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


def test_a_run_that_is_not_finished_is_refused(posterior):
    run = exact_run(posterior, 0)
    del run.attrs["sampling_seconds"]
    with pytest.raises(ValueError, match="not finished"):
        loo(run)
