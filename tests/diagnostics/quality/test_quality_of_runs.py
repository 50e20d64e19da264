"""What a run predicts is scored as its draws say, and bad input is refused."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import bnnsample as bnn
from bnnsample.diagnostics.quality.predictive import (
    FUNCTION_DRAWS,
    Predictive,
    of_gaussian_outputs,
    predictive_of,
)
from bnnsample.diagnostics.quality.quality import quality
from tests.conftest import X64
from tests.drawn import drawn_run
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS

N, M, D, OUT = 6, 3, 2, 4


@pytest.fixture
def x_test(rng):
    return rng.standard_normal((M, D))


def posterior_of(name: str, rng) -> bnn.Posterior:
    likelihood, targets = LIKELIHOODS[name]
    x = rng.standard_normal((N, D))
    return bnn.Posterior(bnn.fcn(1, 5, OUT), x, targets(rng, N, OUT), likelihood)


def with_unknown_noise(rng) -> bnn.Posterior:
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    network = bnn.fcn(1, 5, OUT, w_std=dist.LogNormal(0.0, 0.5))
    return bnn.Posterior(network, x, y, bnn.Gaussian(dist.HalfNormal(1.0)))


@pytest.mark.parametrize("name", EACH_LIKELIHOOD)
def test_a_run_of_every_likelihood_has_a_quality(name, rng, x_test):
    posterior = posterior_of(name, rng)
    run = drawn_run(posterior, x_test)
    y = LIKELIHOODS[name].targets(rng, M, OUT)
    found = quality(run, y)
    classes = name in ("Bernoulli", "categorical")
    names = ["accuracy", "log loss", "Brier"] if classes else ["log density", "RMSE", "CRPS"]
    assert list(found.scores) == names
    assert all(np.isfinite(score).all() for score in found.scores.values())
    assert (found.reliability is not None) == classes == (found.pit is None)
    json.dumps(found.as_dict(), allow_nan=False)
    assert str(found).startswith(names[0])


def test_draws_have_their_own_noise(rng, x_test):
    run = drawn_run(with_unknown_noise(rng), x_test)
    y = rng.standard_normal((M, OUT))
    f, noise = run["predictions"]["f"].values, run["posterior"]["noise_std"].values
    log = norm(f, noise[..., None, None]).logpdf(y).sum(axis=-1).reshape(-1, M)
    expected = logsumexp(log, axis=0).mean() - np.log(len(log))
    assert quality(run, y).scores["log density"].value == pytest.approx(expected, rel=1e-5)


def test_where_the_readout_was_integrated_out_its_moments_count(rng, x_test):
    run = bnn.sample(
        bnn.marginal(posterior_of("Gaussian", rng)), bnn.HMC(2), chains=2, warmup=5, draws=6,
        x_test=x_test, keep=("predictions",),
    )  # fmt: skip
    y = rng.standard_normal((M, OUT))
    mean, std = (run["predictions"][n].values.reshape(-1, M, OUT) for n in ("f_mean", "f_std"))
    log = norm(mean, np.sqrt(std**2 + 0.4**2)).logpdf(y).sum(axis=-1)
    expected = logsumexp(log, axis=0).mean() - np.log(len(log))
    assert quality(run, y).scores["log density"].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_outputs_are_drawn_where_the_noise_is_not_gaussian(shared, rng):
    mean = jnp.asarray(rng.standard_normal((M, 2)))
    roots = rng.standard_normal((1 if shared else 2, M, M))
    covariances = roots @ np.swapaxes(roots, 1, 2)
    std = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2)).T * np.ones((M, 2))
    law = mean, jnp.asarray(std), jnp.asarray(covariances)
    key, other = jax.random.split(jax.random.key(0))
    gaussian = of_gaussian_outputs(bnn.Gaussian(0.3), *law, key)
    assert gaussian.f.shape == gaussian.f_std.shape == (1, M, 2)
    drawn = of_gaussian_outputs(bnn.Poisson(), *law, key)
    assert drawn.f_std is None
    assert drawn.joint
    assert gaussian.joint
    np.testing.assert_array_equal(drawn.f, gaussian.functions)
    assert drawn.f.shape == (FUNCTION_DRAWS, M, 2)
    # 6 means and 12 covariances within 4 errors of the largest
    error = std.max() / FUNCTION_DRAWS**0.5
    np.testing.assert_allclose(drawn.f.mean(axis=0), mean, rtol=0, atol=4 * error)
    for output in range(2):
        found = np.cov(drawn.f[..., output], rowvar=False)
        own = covariances[0 if shared else output]
        np.testing.assert_allclose(found, own, rtol=0, atol=4 * 2**0.5 * std.max() * error)
    again = of_gaussian_outputs(bnn.Poisson(), *law, key)
    np.testing.assert_array_equal(drawn.f, again.f)
    assert not np.array_equal(drawn.f, of_gaussian_outputs(bnn.Poisson(), *law, other).f)
    apart = of_gaussian_outputs(bnn.Poisson(), *law[:2], None, key)
    np.testing.assert_allclose(apart.f.std(axis=0), std, rtol=4 / (2 * FUNCTION_DRAWS) ** 0.5)
    assert np.abs(np.corrcoef(apart.f[..., 0], rowvar=False)[0, 1:]).max() < 4 * 1000**-0.5
    assert not apart.joint
    assert not of_gaussian_outputs(bnn.Gaussian(0.3), *law[:2], None, key).joint


def test_draws_of_a_run_are_functions(rng, x_test):
    run = bnn.sample(
        bnn.marginal(posterior_of("Gaussian", rng)), bnn.HMC(2), chains=2, warmup=5, draws=6,
        x_test=x_test, keep=("predictions",),
    )  # fmt: skip
    found = predictive_of(run)
    assert found.joint
    f = run["predictions"]["f"].values.reshape(12, M, OUT)
    np.testing.assert_array_equal(found.functions, f)
    assert not np.array_equal(found.f, f)


def test_noise_that_text_does_not_tell_comes_from_the_posterior(rng, x_test):
    x, y = rng.standard_normal((N, D)), rng.standard_normal((N, OUT))
    noise_std = np.array([0.3, 0.5, 0.2, 0.9])
    posterior = bnn.Posterior(bnn.fcn(1, 5, OUT), x, y, bnn.Gaussian(noise_std))
    run = drawn_run(posterior, x_test)
    with pytest.raises(ValueError, match="likelihood that cannot be made again"):
        quality(run, y[:M])
    found = quality(predictive_of(run, posterior), y[:M]).scores["log density"].value
    f = run["predictions"]["f"].values.reshape(-1, M, OUT)
    log = norm(f, noise_std).logpdf(y[:M]).sum(axis=-1)
    assert found == pytest.approx(logsumexp(log, axis=0).mean() - np.log(len(log)), rel=1e-5)


def test_bad_input_is_refused(rng, x_test):
    run = drawn_run(posterior_of("Poisson", rng), x_test)
    counts = rng.poisson(2.0, (M, OUT))
    for y, message in (
        (counts[:2], "y_test: got 2 rows; expected 3"),
        (counts[:, :2], r"y: got shape \(3, 2\)"),
        (counts + 0.5, "expected counts"),
        (np.where(counts == counts.max(), np.nan, counts), "y_test: got .* NaN"),
        ("numbers", "y_test: got str"),
    ):
        with pytest.raises(ValueError, match=message):
            quality(run, y)
    with pytest.raises(ValueError, match="got no predictions"):
        quality(drawn_run(posterior_of("Poisson", rng)), counts)
    with pytest.raises(ValueError, match="predictive: got a ndarray"):
        quality(counts, counts)
    with pytest.raises(ValueError, match="seed: got -1"):
        quality(run, counts, seed=-1)
    del run.attrs["sampling_seconds"]
    with pytest.raises(ValueError, match="not finished"):
        quality(run, counts)


def test_a_posterior_that_cannot_be_made_again_is_given(rng):
    x, y = rng.standard_normal((9, 3)), rng.standard_normal((9, 2))
    posterior = bnn.Posterior(bnn.fcn(1, 4, 2), x, y, bnn.Gaussian(np.array([0.3, 0.7])))
    run = drawn_run(posterior, rng.standard_normal((M, 3)), draws=30)
    y_test = rng.standard_normal((M, 2))
    with pytest.raises(ValueError, match="posterior="):
        quality(run, y_test)
    given = quality(run, y_test, posterior=posterior)
    assert given.scores == quality(predictive_of(run, posterior), y_test).scores


def test_noise_known_by_training_point_predicts_no_targets():
    noise = np.linspace(0.1, 0.9, N)[:, None]
    with pytest.raises(ValueError, match="got noise known by training point"):
        Predictive(bnn.Gaussian(noise), jnp.zeros((2, N, 1)))


def test_a_column_of_targets_may_be_a_vector(rng):
    f = jnp.asarray(rng.standard_normal((5, M, 1)))
    y = rng.standard_normal(M)
    one, other = (quality(Predictive(bnn.Gaussian(0.5), f), targets) for targets in (y, y[:, None]))
    assert one.scores == other.scores
    assert one.pit.dtype == (np.float64 if X64 else np.float32)
