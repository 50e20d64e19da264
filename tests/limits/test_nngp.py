"""The NNGP: kernels against Monte Carlo over finite networks, the process against algebra."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bnnsample as bnn
from tests.conftest import X64
from tests.zoo import NETWORKS, softsign

D = 4


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"no hidden parameters"}))
def test_kernel_is_the_covariance_of_wide_networks(name, rng):
    # a one-hidden-layer estimate is unbiased at any width; deeper ones are biased by O(1 / width)
    small = NETWORKS[name]
    wide = bnn.Network(
        [
            bnn.Dense(256, layer.w_std, layer.b_std) if isinstance(layer, bnn.Dense) else layer
            for layer in small.hidden_layers
        ]
        + [small.readout_layer]
    )
    x = jnp.asarray(rng.standard_normal((3, D)))
    keys = jax.random.split(jax.random.key(7), 500)
    features = jax.vmap(lambda key: wide.features(wide.init(key, (D,)).hidden, x))(keys)
    grams = jnp.einsum("snp,smp->snm", features, features)
    error = grams.std(0) / len(keys) ** 0.5
    exact = bnn.nngp(wide, x)
    bias_allowance = 0.02 * jnp.max(jnp.abs(exact))
    assert jnp.all(jnp.abs(grams.mean(0) - exact) < 5 * error + bias_allowance)


def test_kernel_between_two_sets_is_a_block_of_the_joint_kernel(rng, tolerance):
    network = NETWORKS["erf"]
    x = jnp.asarray(rng.standard_normal((9, D)))
    joint = bnn.nngp(network, x)
    np.testing.assert_allclose(bnn.nngp(network, x[:4], x[4:]), joint[:4, 4:], rtol=tolerance * 10)
    assert jnp.linalg.eigvalsh(joint).min() > -1e-6


def test_unknown_functions_take_their_limit_by_quadrature(rng):
    x = jnp.asarray(rng.standard_normal((5, D)))
    by_name, by_function = (bnn.nngp(bnn.fcn(2, 3, 1, a), x) for a in ("erf", jax.lax.erf))
    np.testing.assert_allclose(by_function, by_name, rtol=1e-5 if X64 else 1e-4)
    assert np.isfinite(bnn.nngp(bnn.fcn(2, 3, 1, softsign), x)).all()


def test_posterior_is_that_of_the_joint_gaussian(rng):
    network, noise_std = NETWORKS["shallow gelu"], 0.3
    x, x_test = rng.standard_normal((6, D)), rng.standard_normal((4, D))
    y = rng.standard_normal((6, 3))
    process = bnn.nngp_posterior(network, x, y, noise_std)
    mean, covariance = process.predict(x_test)

    joint = np.asarray(bnn.nngp(network, np.concatenate([x, x_test])), float)
    noisy = joint[:6, :6] + noise_std**2 * np.eye(6)
    gain = np.linalg.solve(noisy, joint[:6, 6:]).T
    tolerance = {"rtol": 1e-8, "atol": 1e-10} if X64 else {"rtol": 1e-3, "atol": 1e-3}
    np.testing.assert_allclose(mean, gain @ y, **tolerance)
    np.testing.assert_allclose(covariance, joint[6:, 6:] - gain @ joint[:6, 6:], **tolerance)
    evidence = scipy.stats.multivariate_normal(cov=noisy).logpdf(y.T).sum()
    np.testing.assert_allclose(process.log_evidence, evidence, rtol=1e-9 if X64 else 1e-4)


def test_evidence_is_differentiable_in_scales_noise_and_inputs(rng):
    x, y = jnp.asarray(rng.standard_normal((5, D))), jnp.asarray(rng.standard_normal((5, 2)))

    def evidence(scales):
        network = bnn.fcn(1, 3, 2, "relu", w_std=scales[0], b_std=scales[1])
        return bnn.nngp_posterior(network, x, y, scales[2]).log_evidence

    scales = jnp.array([1.3, 0.4, 0.25])
    gradient = jax.grad(evidence)(scales)
    step = 1e-5 if X64 else 1e-2
    for i in range(3):
        shift = step * jnp.eye(3)[i]
        slope = (evidence(scales + shift) - evidence(scales - shift)) / (2 * step)
        np.testing.assert_allclose(gradient[i], slope, rtol=1e-5 if X64 else 5e-2)


def test_a_kernel_that_cannot_be_factorised_is_refused(rng):
    x = np.repeat(rng.standard_normal((4, D)), 12, axis=0) * 1e3
    with pytest.raises(ValueError, match="noise_std.*positive definite.*float64 or more noise"):
        bnn.nngp_posterior(NETWORKS["linear"], x, np.ones((48, 4)), 1e-12)


def test_test_inputs_of_another_shape_are_refused(rng):
    process = bnn.nngp_posterior(NETWORKS["linear"], np.eye(3, D), np.ones((3, 4)), 0.1)
    with pytest.raises(ValueError, match=r"x_test: got points of shape \(5,\).*\(4,\)"):
        process.predict(np.ones((2, 5)))
