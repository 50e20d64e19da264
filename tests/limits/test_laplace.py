"""Laplace's approximation: scikit-learn's for two classes, exact for Gaussians, a mode for all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import solve
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF

import bnnsample as bnn
from bnnsample.limits import laplace
from bnnsample.limits.laplace import laplace_fit
from tests.conftest import X64
from tests.zoo import EACH_LIKELIHOOD, LIKELIHOODS

N, D, OUT = 11, 3, 4
KERNEL = 2.5 * RBF(1.3)


@pytest.fixture
def x(rng):
    return rng.standard_normal((N, D))


@pytest.fixture
def gram(x):
    return jnp.asarray(KERNEL(x))


def test_two_classes_are_scikit_learns(x, gram, rng):
    labels = rng.integers(0, 2, N)
    theirs = GaussianProcessClassifier(KERNEL, optimizer=None).fit(x, labels)
    ours = laplace_fit(gram, bnn.Bernoulli(), jnp.asarray(labels[:, None]), outputs=1)
    tolerance = 1e-6 if X64 else 1e-3
    np.testing.assert_allclose(
        ours.log_evidence, theirs.log_marginal_likelihood_value_, rtol=tolerance
    )
    assert bool(ours.converged)
    assert 2 <= int(ours.steps) <= 12


def test_a_gaussian_likelihood_is_exact(x, gram, rng):
    noise_std, y = rng.uniform(0.4, 0.9, (N, OUT)), rng.standard_normal((N, OUT))
    fit = laplace_fit(gram, bnn.Gaussian(noise_std), jnp.asarray(y), outputs=OUT)
    tolerance = 1e-7 if X64 else 2e-3
    np.testing.assert_allclose(fit.pseudo.y, y, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(fit.pseudo.noise_std, noise_std, rtol=tolerance)
    evidence = 0.0
    for o in range(OUT):
        covariance = np.asarray(gram, float) + np.diag(noise_std[:, o] ** 2)
        mean = np.asarray(gram, float) @ np.linalg.solve(covariance, y[:, o])
        np.testing.assert_allclose(fit.mode[:, o], mean, rtol=tolerance, atol=tolerance)
        _, logdet = np.linalg.slogdet(covariance)
        quadratic = y[:, o] @ np.linalg.solve(covariance, y[:, o])
        evidence -= 0.5 * (quadratic + logdet + N * np.log(2 * np.pi))
    np.testing.assert_allclose(fit.log_evidence, evidence, rtol=tolerance)


@pytest.mark.parametrize("name", EACH_LIKELIHOOD)
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_mode_is_stationary_and_that_of_the_pseudo_likelihood(name, scale, gram, rng):
    likelihood, targets = LIKELIHOODS[name]
    gram = scale**2 * gram
    y = bnn.Posterior(bnn.fcn(1, 2, OUT), np.ones((N, 1)), targets(rng, N, OUT), likelihood).y
    fit = laplace_fit(gram, likelihood, y, outputs=OUT)
    if name == "heteroscedastic" and scale > 1:
        # a log variance may run off to where its point is fitted exactly
        assert not bool(fit.converged)
        return
    assert bool(fit.converged), (int(fit.steps), float(fit.decrement))
    slope = jax.grad(likelihood.log_density)(fit.mode, y)
    tolerance = (1e-4 if X64 else 3e-2) * scale
    np.testing.assert_allclose(fit.mode, gram @ slope, rtol=0, atol=tolerance)
    for o in range(OUT):
        noise = jnp.diag(fit.pseudo.noise_std[:, o] ** 2)
        mean = gram @ solve(gram + noise, fit.pseudo.y[:, o])
        np.testing.assert_allclose(mean, fit.mode[:, o], rtol=0, atol=10 * tolerance)


def test_precisions_are_minus_second_derivatives(gram, rng):
    y = jnp.asarray(rng.integers(0, OUT, (N, 1)))
    fit = laplace_fit(gram, bnn.Categorical(), y, outputs=OUT)
    p = np.asarray(jax.nn.softmax(fit.mode, axis=1))
    np.testing.assert_allclose(fit.pseudo.noise_std**-2, p * (1 - p), rtol=1e-6 if X64 else 1e-3)


def test_an_outlier_does_not_hold_the_search_up(gram, rng):
    """Where a Student t curves upwards, Newton's step would descend."""
    y = rng.standard_normal((N, 1))
    y[4] += 50
    fit = laplace_fit(gram, bnn.StudentT(2.5, 0.1), jnp.asarray(y), outputs=1)
    assert bool(fit.converged)
    assert abs(fit.mode[4, 0]) < 10


def test_a_search_that_is_cut_short_says_so(gram, rng, monkeypatch):
    y = jnp.asarray(rng.integers(0, 2, (N, 1)))
    monkeypatch.setattr(laplace, "MAX_STEPS", 1)
    fit = laplace_fit.__wrapped__(gram, bnn.Bernoulli(), y, outputs=1)
    assert int(fit.steps) == 1
    assert not bool(fit.converged)


@pytest.mark.parametrize("distance", [3.0, 300.0])
def test_a_likelihood_that_is_flat_at_the_mode_has_a_pseudo_likelihood_all_the_same(gram, distance):
    """Student's t curves upwards beyond ``sqrt(df)`` scales: its precision is 0 at every point."""
    y = distance * jnp.where(jnp.arange(N) % 2, 1.0, -1.0)[:, None].astype(gram.dtype)
    fit = laplace_fit(gram, bnn.StudentT(3.0, 0.1), y, outputs=1)
    assert bool(fit.converged)
    assert np.isfinite(fit.pseudo.noise_std).all()
    precision = fit.pseudo.noise_std**-2
    again = gram @ solve(gram + jnp.diag(1 / precision[:, 0]), fit.pseudo.y)
    tolerance = 1e-6 if X64 else 1e-2
    np.testing.assert_allclose(again, fit.mode, rtol=tolerance, atol=tolerance)


def check_slope(evidence, z):
    """Of ``evidence(z)``, which says whether it converged, against central differences."""
    both = jax.jit(jax.value_and_grad(evidence, has_aux=True))
    (_, converged), slope = both(z)
    assert bool(converged)
    step, tolerance = (3e-5, 1e-5) if X64 else (3e-2, 3e-2)
    values = [[both(z + way * shift)[0][0] for way in (1, -1)] for shift in step * np.eye(z.size)]
    differences = [(up - down) / (2 * step) for up, down in values]
    scale = float(jnp.max(jnp.abs(slope)))
    np.testing.assert_allclose(slope, jnp.stack(differences), rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", [each for each in EACH_LIKELIHOOD if each.values != ("Gaussian",)])
def test_the_slope_of_the_evidence_is_that_of_its_central_differences(name, x, rng):
    """In the size of the kernel, in another kernel added to it, and in the likelihood's scales."""
    likelihood, targets = LIKELIHOODS[name]
    y = bnn.Posterior(bnn.fcn(1, 2, OUT), np.ones((N, 1)), targets(rng, N, OUT), likelihood).y
    first, second = jnp.asarray(KERNEL(x)), jnp.asarray(RBF(0.6)(x))
    leaves, structure = jax.tree.flatten(likelihood)

    def evidence(z):
        gram = 0.7 * jnp.exp(z[0]) * (first + z[1] * second)
        scales = [jnp.exp(part) * leaf for part, leaf in zip(z[2:], leaves, strict=True)]
        fit = laplace_fit(gram, jax.tree.unflatten(structure, scales), y, outputs=OUT)
        return fit.log_evidence, fit.converged

    check_slope(evidence, jnp.zeros(2 + len(leaves)).at[1].set(0.3))


def test_the_slope_where_the_likelihood_curves_upwards(gram, rng):
    """Outliers of a Student t: their curvature is negative at the mode, and counts as it is."""
    y = jnp.asarray(rng.standard_normal((N, 1))).at[jnp.array([2, 7]), 0].add(9.0)

    def evidence(z):
        fit = laplace_fit(gram, bnn.StudentT(2.5, jnp.exp(z[0])), y, outputs=1)
        return fit.log_evidence, fit.converged

    check_slope(evidence, jnp.array([-1.0]))
