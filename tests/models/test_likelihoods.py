"""Likelihoods: densities against scipy's, draws against the densities, and their boundary."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import bnnsample as bnn
from tests.conftest import X64
from tests.zoo import LIKELIHOODS

N, OUT, D = 7, 4, 3
RELATIVE = 1e-9 if X64 else 1e-4


def negative_binomial(f, y):
    mean, concentration = np.exp(f), 1.7
    return scipy.stats.nbinom.logpmf(y, concentration, concentration / (concentration + mean))


ORACLES = {
    "Gaussian": lambda f, y: scipy.stats.norm.logpdf(y, f, 0.4),
    "heteroscedastic": lambda f, y: scipy.stats.norm.logpdf(y, f[:, :2], np.exp(f[:, 2:] / 2)),
    "Student t": lambda f, y: scipy.stats.t.logpdf(y, 3.5, f, 0.7),
    "Bernoulli": lambda f, y: scipy.stats.bernoulli.logpmf(y, scipy.special.expit(f)),
    "categorical": lambda f, y: scipy.special.log_softmax(f, axis=1)[np.arange(N), y[:, 0]],
    "Poisson": lambda f, y: scipy.stats.poisson.logpmf(y, np.exp(f)),
    "negative binomial": negative_binomial,
}


@pytest.fixture(params=LIKELIHOODS, ids=LIKELIHOODS)
def name(request) -> str:
    return request.param


@pytest.fixture
def x(rng):
    return rng.standard_normal((N, D))


def posterior_of(name: str, x, rng, **change) -> bnn.Posterior:
    likelihood, targets = LIKELIHOODS[name]
    return bnn.Posterior(bnn.fcn(1, 5, OUT), x, targets(rng, N, OUT), likelihood, **change)


def test_log_density_is_scipys(name, x, rng):
    posterior = posterior_of(name, x, rng)
    f = 1.5 * rng.standard_normal((N, OUT))
    expected = ORACLES[name](f, np.asarray(posterior.y)).sum()
    value = posterior.likelihood.log_density(jnp.asarray(f), posterior.y)
    np.testing.assert_allclose(value, expected, rtol=RELATIVE)
    with jax.numpy_dtype_promotion("standard"):
        numpyros = posterior.likelihood.distribution(jnp.asarray(f)).log_prob(posterior.y).sum()
    np.testing.assert_allclose(value, numpyros, rtol=RELATIVE)


def test_log_density_of_huge_logits_is_finite_with_its_gradient(rng):
    f = jnp.asarray(rng.choice([-2e3, 0.0, 3e3], (N, OUT)))
    y = jnp.asarray(rng.integers(0, 2, (N, OUT)))
    for likelihood, targets in ((bnn.Bernoulli(), y), (bnn.Categorical(), y[:, :1])):
        value, gradient = jax.value_and_grad(likelihood.log_density)(f, targets)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() <= 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_draws_have_the_density(name, seed):
    """Their mean score ``d log p / df`` is 0, its variance ``-E d^2 log p / df^2`` (Fisher).

    Of 20 000 draws at 4 outputs, within 5 standard errors and a tenth: another law fails.
    """
    likelihood = LIKELIHOODS[name].likelihood
    rng = np.random.default_rng(seed)
    f = jnp.asarray(rng.uniform(-0.7, 0.9, (1, OUT)))
    keys = jax.random.split(jax.random.key(seed), 20_000)

    @jax.jit
    @jax.vmap
    def score(key):
        y = likelihood.draw(key, f)
        gradient = jax.grad(likelihood.log_density)(f, y)
        hessian = jax.hessian(likelihood.log_density)(f, y)
        return gradient[0], jnp.diagonal(hessian[0, :, 0])

    gradient, curvature = (np.asarray(part, float) for part in score(keys))
    error = gradient.std(0) / len(keys) ** 0.5
    assert np.all(np.abs(gradient.mean(0)) < 5 * error)
    np.testing.assert_allclose((gradient**2).mean(0), -curvature.mean(0), rtol=0.1)


def test_draws_are_targets(name, x, rng):
    posterior = posterior_of(name, x, rng)
    f = jnp.asarray(rng.standard_normal((N, OUT)))
    drawn = posterior.likelihood.draw(jax.random.key(3), f)
    assert drawn.shape == posterior.y.shape
    again = bnn.Posterior(posterior.network, x, drawn, posterior.likelihood)
    assert again.y.dtype == posterior.y.dtype


@pytest.mark.parametrize("likelihood", [bnn.Poisson(), bnn.NegativeBinomial(3.0)])
def test_counts_of_huge_rates_end_at_the_largest_integer(likelihood):
    drawn = likelihood.draw(jax.random.key(0), jnp.full((1000, 1), 200.0))
    assert np.all(np.asarray(drawn) > 1e-2 * jnp.iinfo(jnp.result_type(int)).max)


def test_a_posterior_passes_through_jit_and_differentiates(name, x, rng):
    posterior = posterior_of(name, x, rng)
    params = posterior.network.init(jax.random.key(1), (D,))
    density = jax.jit(lambda p, params: p.log_density(params))
    np.testing.assert_allclose(
        density(posterior, params), posterior.log_density(params), rtol=RELATIVE
    )
    gradient = jax.grad(posterior.log_density)(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


NOISE = {"output": (OUT,), "row": (1, OUT), "point": (N, 1), "both": (N, OUT)}


@pytest.mark.parametrize("shape", NOISE.values(), ids=NOISE)
def test_noise_by_output_and_by_point(shape, x, rng):
    noise_std = rng.uniform(0.2, 1.4, shape)
    y, f = rng.standard_normal((2, N, OUT))
    posterior = bnn.Posterior(bnn.fcn(1, 5, OUT), x, y, bnn.Gaussian(noise_std))
    expected = scipy.stats.norm.logpdf(y, f, noise_std).sum()
    value = posterior.likelihood.log_density(jnp.asarray(f), posterior.y)
    np.testing.assert_allclose(value, expected, rtol=RELATIVE)
    assert posterior.likelihood.varies_by_point == (shape[0] == N and len(shape) == 2)


BAD_TARGETS = {
    "label above the classes": (bnn.Categorical(), [[0], [4], [1]], r"y: got 4 at index \(1, 0\)"),
    "negative label": (bnn.Categorical(), [0, 2, -1], r"y: got -1 at index \(2, 0\).*0 to 3"),
    "label between": (bnn.Categorical(), [0, 1.5, 1], r"y: got 1.5"),
    "one-hot labels": (bnn.Categorical(), np.eye(4)[:3], r"shape \(3, 4\).*argmax"),
    "labels of -1 and 1": (bnn.Bernoulli(), -np.ones((3, 4)), "labels 0 and 1.*-1 and 1"),
    "negative count": (bnn.Poisson(), np.full((3, 4), -2), "y: got -2 .*counts"),
    "count between": (bnn.NegativeBinomial(1.0), np.full((3, 4), 0.5), "y: got 0.5 .*counts"),
    "too few columns": (bnn.Poisson(), np.ones((3, 2)), r"y: got shape \(3, 2\)"),
    "as many columns as outputs": (
        bnn.HeteroscedasticGaussian(),
        np.ones((3, 4)),
        r"\(n, 2\), as the network has 4 outputs",
    ),
    "noise of other data": (
        bnn.Gaussian(np.ones((5, 1))),
        np.ones((3, 4)),
        r"noise_std: got shape \(5, 1\) for y of shape \(3, 4\)",
    ),
    "noise by point that is no column": (
        bnn.Gaussian(np.ones(3)),
        np.ones((3, 4)),
        r"noise_std: got shape \(3,\).*noise_std\[:, None\]",
    ),
}


@pytest.mark.parametrize("case", BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_targets_that_the_likelihood_cannot_have_are_refused(case):
    likelihood, y, message = case
    with pytest.raises(ValueError, match=message) as caught:
        bnn.Posterior(bnn.fcn(1, 5, 4), np.ones((3, 2)), y, likelihood)
    assert all(word in str(caught.value) for word in ("got", "expected", "probably"))


COUNTS = {
    "float32": (np.float32, 2**24 - 1, 2**24),
    "float64": (np.float64, 2**53 - 1, 2**53),
}


@pytest.mark.parametrize("likelihood", [bnn.Poisson(), bnn.NegativeBinomial(1.7)])
@pytest.mark.parametrize("case", COUNTS.values() if X64 else [COUNTS["float32"]])
def test_counts_are_taken_up_to_where_their_type_leaves_some_out(case, likelihood):
    dtype, largest, too_large = case
    x, network = np.ones((3, 2), dtype), bnn.fcn(1, 5, 1)
    taken = bnn.Posterior(network, x, np.array([0, 7, largest], dtype), likelihood).y
    assert int(taken[2, 0]) == largest
    for count in (too_large, 1e9 * too_large):
        with pytest.raises(ValueError, match=rf"y: got .* at index \(1, 0\); .* below {too_large}"):
            bnn.Posterior(network, x, np.array([0, count, 7], dtype), likelihood)


def test_counts_beyond_float32_are_refused_where_x64_is_off():
    x, network = np.ones((3, 2)), bnn.fcn(1, 5, 1)
    with jax.enable_x64(False):
        for count in (20_000_001, 3_000_000_000):
            with pytest.raises(ValueError, match="y: got .*from where on float32.*jax_enable_x64"):
                bnn.Posterior(network, x, np.array([0, count, 7]), bnn.Poisson())


@pytest.mark.parametrize(
    "make",
    [
        lambda several: bnn.StudentT(3.0, several),
        lambda several: bnn.StudentT(several, 0.7),
        lambda several: bnn.NegativeBinomial(several),
        lambda several: bnn.Dense(2, several),
        lambda several: bnn.Dense(2, 1.0, several),
    ],
)
@pytest.mark.parametrize("several", [np.ones(2), np.ones(1), np.full((3, 2), 0.5)])
def test_several_scales_are_refused_where_there_is_one_for_all_outputs(make, several):
    shape = str(several.shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=f"array of shape {shape}.*one number for all outputs"):
        make(several)


def test_an_odd_number_of_outputs_is_refused_for_means_and_variances():
    with pytest.raises(ValueError, match="network: got 3 outputs; expected two for each column"):
        bnn.Posterior(bnn.fcn(1, 5, 3), np.ones((3, 2)), np.ones(3), bnn.HeteroscedasticGaussian())


@pytest.mark.parametrize(
    "make",
    [
        lambda bad: bnn.Gaussian(bad),
        lambda bad: bnn.StudentT(bad, 1.0),
        lambda bad: bnn.StudentT(3.0, bad),
        lambda bad: bnn.NegativeBinomial(bad),
        lambda bad: bnn.Gaussian(np.array([[1.0], [bad]], float)),
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_are_not_positive_are_refused(make, bad):
    with pytest.raises(ValueError, match="got .*expected .*above 0"):
        make(bad)


def test_one_logit_is_refused_for_classes():
    with pytest.raises(ValueError, match=r"network: got 1 output; .*Bernoulli\(\) was meant"):
        bnn.Posterior(bnn.fcn(1, 5, 1), np.ones((3, 2)), [0, 1, 0], bnn.Categorical())
