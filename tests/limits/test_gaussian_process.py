"""The Gaussian process: against Bayesian linear regression and the algebra of joint Gaussians."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

import bnnsample as bnn
from bnnsample.limits.gaussian_process import GaussianProcess
from tests.conftest import X64
from tests.zoo import NETWORKS

N, M, D, OUT, NOISE = 6, 4, 4, 2, 0.3
NETWORK = bnn.fcn(1, 4, OUT, "erf", w_std=1.7, b_std=0.6, w_std_out=0.8, b_std_out=0.3)
LINEAR_IN_FEATURES = NETWORKS["no hidden parameters"]
CLOSE = {"rtol": 1e-8, "atol": 1e-10} if X64 else {"rtol": 2e-3, "atol": 1e-3}

DRAWS = 4000
LARGEST_Z = 4.5
"""With three seeds and 44 moments: one suite in a thousand would fail by chance with free seeds."""


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((N, D)), rng.standard_normal((N, OUT))


@pytest.fixture
def x_test(rng) -> np.ndarray:
    return rng.standard_normal((M, D))


@jax.jit
def radial(length, x1, x2=None):
    """A kernel that is no network's, as a function without ``diagonal``."""
    x2 = x1 if x2 is None else x2
    distance = jnp.sum((x1[:, None, :] - x2[None, :, :]) ** 2, axis=-1)
    return jnp.exp(-0.5 * distance / length**2)


def conjugate(joint: np.ndarray, y: np.ndarray, noise_std: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the last points of a joint Gaussian, given ``y`` at the first."""
    n = len(y)
    gain = np.linalg.solve(joint[:n, :n] + noise_std**2 * np.eye(n), joint[:n, n:]).T
    return gain @ y, joint[n:, n:] - gain @ joint[:n, n:]


def assert_close(process: GaussianProcess, x_test, mean, covariance) -> None:
    """Both ways to predict have these moments."""
    found_mean, found_covariance = process.predict(x_test)
    np.testing.assert_allclose(found_mean, mean, **CLOSE)
    np.testing.assert_allclose(found_covariance, covariance, **CLOSE)
    found_mean, found_variance = process.marginals(x_test)
    np.testing.assert_allclose(found_mean, mean, **CLOSE)
    np.testing.assert_allclose(found_variance, np.diagonal(covariance), **CLOSE)


@pytest.mark.parametrize("regression", [bnn.nngp_posterior, bnn.ntk_posterior])
def test_a_network_without_hidden_parameters_is_bayesian_linear_regression(
    regression, data, x_test
):
    (x, y), network = data, LINEAR_IN_FEATURES
    hidden = network.init(jax.random.key(0), (D,)).hidden
    features, test_features = (
        np.asarray(network.features(hidden, jnp.asarray(points)), float) for points in (x, x_test)
    )
    precision = np.eye(D + 1) + features.T @ features / NOISE**2
    readout = np.linalg.solve(precision, features.T @ y) / NOISE**2
    process = regression(network, x, y, NOISE)
    covariance = test_features @ np.linalg.solve(precision, test_features.T)
    assert_close(process, x_test, test_features @ readout, covariance)

    marginal = scipy.stats.multivariate_normal(cov=features @ features.T + NOISE**2 * np.eye(N))
    np.testing.assert_allclose(
        process.log_evidence, marginal.logpdf(y.T).sum(), rtol=1e-9 if X64 else 1e-4
    )


@pytest.mark.parametrize(
    ("regression", "kernel"), [(bnn.nngp_posterior, bnn.nngp), (bnn.ntk_posterior, bnn.ntk)]
)
def test_posterior_is_that_of_the_joint_gaussian(regression, kernel, data, x_test):
    (x, y), network = data, NETWORK
    joint = np.asarray(kernel(network, np.concatenate([x, x_test])), float)
    process = regression(network, x, y, NOISE)
    assert_close(process, x_test, *conjugate(joint, y, NOISE))
    noisy = joint[:N, :N] + NOISE**2 * np.eye(N)
    evidence = scipy.stats.multivariate_normal(cov=noisy).logpdf(y.T).sum()
    np.testing.assert_allclose(process.log_evidence, evidence, rtol=1e-9 if X64 else 1e-4)


def test_the_two_kernels_give_different_posteriors(data, x_test):
    nngp, ntk = (f(NETWORK, *data, NOISE) for f in (bnn.nngp_posterior, bnn.ntk_posterior))
    assert np.max(np.abs(nngp.predict(x_test)[0] - ntk.predict(x_test)[0])) > 0.01


def test_any_kernel_stands_in_for_a_network(data, x_test):
    network = NETWORK
    own = bnn.nngp_posterior(network, *data, NOISE)
    function = bnn.nngp_posterior(
        lambda x1, x2=None: np.asarray(bnn.nngp(network, x1, x2), np.float64), *data, NOISE
    )
    assert_close(function, x_test, *own.predict(x_test))
    np.testing.assert_allclose(function.log_evidence, own.log_evidence, rtol=1e-6)

    x, y = data
    joint = np.asarray(radial(1.5, np.concatenate([x, x_test])), float)
    process = bnn.nngp_posterior(Partial(radial, 1.5), x, y, NOISE)
    assert_close(process, x_test, *conjugate(joint, y, NOISE))


@pytest.mark.parametrize(
    "kernel", [LINEAR_IN_FEATURES, Partial(radial, 1.5)], ids=["network", "own"]
)
def test_marginals_of_more_points_than_one_block_are_those_of_the_covariance(kernel, data, rng):
    process = bnn.nngp_posterior(kernel, *data, NOISE)
    many = rng.standard_normal((300, D))
    mean, covariance = process.predict(many)
    assert_close(process, many, mean, covariance)


def test_a_process_passes_through_compiled_functions(data, x_test):
    for kernel in (NETWORK, lambda x1, x2=None: radial(1.5, x1, x2)):
        process = bnn.nngp_posterior(kernel, *data, NOISE)
        compiled = jax.jit(lambda process, x: process.predict(x))(process, x_test)
        assert_close(process, x_test, *compiled)


def test_noise_of_any_type_is_taken(data, x_test):
    plain = bnn.nngp_posterior(NETWORK, *data, 0.5)
    for noise in (np.float64(0.5), np.float32(0.5), jnp.asarray(0.5)):
        process = bnn.nngp_posterior(NETWORK, *data, noise)
        np.testing.assert_array_equal(process.predict(x_test)[0], plain.predict(x_test)[0])


def moments(draws: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """z-scores of the first moments of all values, and of the second ones of each pair of points.

    The variance of a product of Gaussians is ``c_ii c_jj + c_ij^2``.
    """
    count = len(draws)
    centred = draws - mean
    variance = np.diagonal(covariance)
    first = centred.mean(0) / np.sqrt(variance / count)[:, None]
    second = np.einsum("sio,sjo->ijo", centred, centred) / count - covariance[:, :, None]
    error = np.sqrt((np.outer(variance, variance) + covariance**2) / count)
    rows, columns = np.triu_indices(len(variance))
    return np.concatenate([first.ravel(), (second / error[:, :, None])[rows, columns].ravel()])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_drawn_functions_have_the_moments_of_the_posterior(seed, data, x_test):
    process = bnn.nngp_posterior(NETWORK, *data, NOISE)
    mean, covariance = (np.asarray(part, float) for part in process.predict(x_test))
    draws = np.asarray(process.sample(jax.random.key(seed), x_test, DRAWS), float)
    assert draws.shape == (DRAWS, M, OUT)
    assert np.max(np.abs(moments(draws, mean, covariance))) < LARGEST_Z
    across_outputs = np.mean(np.prod(draws - mean, axis=-1), axis=0)
    assert np.all(np.abs(across_outputs) < LARGEST_Z * np.diagonal(covariance) / DRAWS**0.5)

    # the test sees points drawn independently of each other, and a process with other noise
    generator = np.random.default_rng(seed)
    independent = np.sqrt(np.diagonal(covariance))[:, None] * generator.standard_normal(draws.shape)
    assert np.max(np.abs(moments(mean + independent, mean, covariance))) > 2 * LARGEST_Z
    other = bnn.nngp_posterior(NETWORK, *data, 1.3 * NOISE)
    other_draws = np.asarray(other.sample(jax.random.key(seed), x_test, DRAWS), float)
    assert np.max(np.abs(moments(other_draws, mean, covariance))) > LARGEST_Z


def test_drawn_functions_take_one_value_where_points_coincide(data, x_test):
    process = bnn.nngp_posterior(Partial(radial, 1.5), *data, 0.01)
    twice = np.concatenate([x_test, x_test, data[0]])
    draws = process.sample(jax.random.key(0), twice, 50)
    np.testing.assert_allclose(draws[:, :M], draws[:, M : 2 * M], atol=1e-6 if X64 else 0.03)
    assert np.std(draws[:, :M], axis=0).min() > 0.05


def slope(function, at: float, step: float) -> float:
    return float(function(at + step) - function(at - step)) / (2 * step)


@pytest.mark.parametrize("regression", [bnn.nngp_posterior, bnn.ntk_posterior])
def test_evidence_is_differentiable_in_every_scale_the_noise_and_the_inputs(regression, data):
    x, y = jnp.asarray(data[0]), jnp.asarray(data[1])
    network = NETWORK
    leaves, structure = jax.tree.flatten(network)

    def evidence(leaves, noise_std, x):
        return regression(jax.tree.unflatten(structure, leaves), x, y, noise_std).log_evidence

    evidence = jax.jit(evidence)
    in_scales, in_noise, in_x = jax.grad(evidence, argnums=(0, 1, 2))(leaves, NOISE, x)
    step, close = (1e-5, {"rtol": 1e-6}) if X64 else (1e-2, {"rtol": 5e-2, "atol": 5e-3})
    assert len(leaves) == 4
    for i, leaf in enumerate(leaves):
        before, after = leaves[:i], leaves[i + 1 :]
        found = slope(lambda s, b=before, a=after: evidence([*b, s, *a], NOISE, x), leaf, step)
        np.testing.assert_allclose(in_scales[i], found, **close)
    np.testing.assert_allclose(
        in_noise, slope(lambda s: evidence(leaves, s, x), NOISE, step), **close
    )
    for i, j in ((0, 0), (3, 2)):
        found = slope(lambda v, i=i, j=j: evidence(leaves, NOISE, x.at[i, j].set(v)), x[i, j], step)
        np.testing.assert_allclose(in_x[i, j], found, **close)


def test_evidence_is_differentiable_in_a_kernel_that_is_a_pytree(data):
    x, y = jnp.asarray(data[0]), jnp.asarray(data[1])

    def evidence(length):
        return bnn.nngp_posterior(Partial(radial, length), x, y, NOISE).log_evidence

    step, close = (1e-5, {"rtol": 1e-6}) if X64 else (1e-2, {"rtol": 5e-2})
    np.testing.assert_allclose(jax.grad(evidence)(1.5), slope(evidence, 1.5, step), **close)


def test_a_kernel_that_cannot_be_factorised_is_refused(rng):
    x = np.repeat(rng.standard_normal((4, D)), 12, axis=0) * 1e3
    with pytest.raises(ValueError, match="noise_std.*positive definite.*float64 or more noise"):
        bnn.nngp_posterior(LINEAR_IN_FEATURES, x, np.ones((48, OUT)), 1e-12)


def test_test_inputs_of_another_shape_are_refused(data):
    process = bnn.nngp_posterior(NETWORK, *data, 0.1)
    for predict in (process.predict, process.marginals):
        with pytest.raises(ValueError, match=r"x_test: got examples of shape \(5,\).*\(4,\)"):
            predict(np.ones((2, 5)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"network": np.eye(N)}, "network: got .*callable.*kernel matrix"),
        ({"x": np.ones((N + 1, D))}, "x and y: got a kernel matrix of shape .7, 7. for 6 rows"),
        ({"y": np.full((N, OUT), np.nan)}, "y: got 12 values that are NaN"),
        ({"noise_std": 0.0}, "noise_std: got 0.0; expected a finite number above 0"),
    ],
)
def test_bad_regressions_are_refused(change, expected, data):
    good = {"network": Partial(radial, 1.0), "x": data[0], "y": data[1], "noise_std": 0.1}
    with pytest.raises(ValueError, match=expected):
        bnn.nngp_posterior(**{**good, **change})


def test_draws_of_a_kernel_that_is_no_covariance_are_refused(x_test):
    def indefinite(x1, x2=None):
        return 1.0 + jnp.log(radial(1.0, x1, x2))

    process = bnn.nngp_posterior(indefinite, np.ones((1, D)), np.ones(1), 0.5)
    with pytest.raises(ValueError, match="kernel: got a posterior covariance with eigenvalue -"):
        process.sample(jax.random.key(0), x_test, 3)
    with pytest.raises(ValueError, match="draws: got 0"):
        process.sample(jax.random.key(0), x_test, 0)
